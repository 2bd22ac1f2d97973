import type { ThreadPoolHandle } from "../native/declarations.ts";
import { NativeContext, type Row } from "../native/native-context.ts";
import { type NativeModel, contextParams } from "../native/native-model.ts";
import { type Pooling, type WorkerSettings, poolingTypes } from "../settings.ts";

/** What embedding contexts are made of. */
export interface EmbeddingPlan {
  readonly settings: WorkerSettings;
  readonly contextLength: number;
  readonly pooling: Pooling;
  /** One byte that breaks off the decode in progress while it is set. */
  readonly interrupt: SharedArrayBuffer;
}

/** Sequences of one batch. */
const mostSequences = 64;

/** llama.cpp rounds contexts up to multiples of this. */
const contextStep = 256;

/**
 * Computes pooled vectors of sequences. How depends on the model:
 * An encoder must see an input in one pass (in parts it gives, without a word, another vector), so a long input gets a
 * context as large as itself, for that time only.
 * A causal model reads in parts, and its memory grows with the longest input. Of its tokens only the last is asked for
 * outputs where the pooling looks at no other: that spares the product with the whole vocabulary for all the others.
 */
export class EmbeddingContext {
  readonly #model: NativeModel;
  readonly #plan: EmbeddingPlan;
  readonly #pool: ThreadPoolHandle | null;
  readonly #passSize: number;
  readonly #largest: number;
  #context: NativeContext | null = null;
  #capacity = 0;
  #causal: boolean | null = null;

  /** Throws `ModelError`. */
  constructor(model: NativeModel, plan: EmbeddingPlan) {
    const { settings, contextLength } = plan;
    this.#model = model;
    this.#plan = plan;
    this.#largest = roundUp(contextLength);
    this.#passSize = Math.min(this.#largest, roundUp(settings.ubatchSize));
    this.#pool = model.library.createThreadPool(Math.max(settings.threads, settings.threadsBatch));
    this.#open(this.#passSize);
  }

  /** Tokens that one batch of several sequences should have; a longer sequence goes alone. */
  get budget(): number {
    return this.#passSize;
  }

  get sequences(): number {
    return mostSequences;
  }

  /** One vector for each input; null when it was broken off. Throws `ModelError` when there is no memory for so long a one. */
  compute(inputs: readonly (readonly number[])[], length: number): Float32Array[] | null {
    const tokens = inputs.reduce((sum, input) => sum + input.length, 0);
    const context = this.#contextFor(tokens);
    const vectors =
      this.#causal === true ? this.#inParts(context, inputs, length) : this.#inOnePass(context, inputs, length);
    for (const sequence of inputs.keys()) context.forget(sequence);
    return vectors;
  }

  /** Gives back what only a long input needed. */
  shrink(): void {
    if (this.#capacity > this.#passSize) this.free();
  }

  free(): void {
    this.#context?.free();
    this.#context = null;
    this.#capacity = 0;
  }

  #contextFor(tokens: number): NativeContext {
    const wanted = Math.min(this.#largest, Math.max(this.#passSize, 2 ** Math.ceil(Math.log2(Math.max(1, tokens)))));
    if (this.#context !== null && this.#capacity === wanted) return this.#context;
    return this.#open(wanted);
  }

  #open(capacity: number): NativeContext {
    this.free();
    const { library } = this.#model;
    const { settings, pooling, interrupt } = this.#plan;
    const onlyLast = this.#causal === true && this.#poolsLast;
    const params = contextParams(library, settings);
    params.embeddings = true;
    params.pooling_type = poolingTypes[pooling];
    params.n_ctx = capacity;
    // One more than the context holds: llama.cpp cuts it for causal models only, and by that they are known.
    params.n_batch = capacity + 1;
    params.n_ubatch = this.#causal === true ? Math.min(this.#passSize, capacity) : capacity;
    params.n_seq_max = mostSequences;
    params.n_outputs_max = onlyLast ? mostSequences : 0;
    params.kv_unified = true;
    if (library.byteIsSet !== null) {
      params.abort_callback = library.byteIsSet;
      params.abort_callback_data = library.addressOf(new Uint8Array(interrupt));
    }
    const context = new NativeContext(this.#model, params);
    if (this.#pool !== null) library.functions.llama_attach_threadpool(context.handle, this.#pool, this.#pool);
    this.#context = context;
    this.#capacity = capacity;
    if (this.#causal !== null) return context;
    const { functions } = library;
    this.#causal = functions.llama_get_memory(context.handle) !== null && context.batchSize === capacity;
    // Outputs were reserved for every row, each as long as the vocabulary.
    return this.#causal && this.#poolsLast ? this.#open(capacity) : context;
  }

  /** Whether the pooled vector is that of the last token. */
  get #poolsLast(): boolean {
    const { pooling } = this.#plan;
    // llama-graph.cpp: the only causal architectures with a head that ranks.
    return pooling === "last" || (pooling === "rank" && this.#model.architecture?.startsWith("qwen3") === true);
  }

  #inOnePass(context: NativeContext, inputs: readonly (readonly number[])[], length: number): Float32Array[] | null {
    const rows = inputs.flatMap((tokens, sequence) => toRows(tokens, { sequence, from: 0, output: true }));
    if (context.decode(rows) !== "done") return null;
    return inputs.map((_, sequence) => context.embedding(sequence, length));
  }

  #inParts(context: NativeContext, inputs: readonly (readonly number[])[], length: number): Float32Array[] | null {
    if (this.#poolsLast) return this.#lastOf(context, inputs, length);
    const vectors: Float32Array[] = [];
    for (const [sequence, tokens] of inputs.entries()) {
      const vector = this.#pooledInParts(context, { sequence, tokens }, length);
      if (vector === null) return null;
      vectors.push(vector);
    }
    return vectors;
  }

  /** All tokens but the last ones only fill the memory. */
  #lastOf(context: NativeContext, inputs: readonly (readonly number[])[], length: number): Float32Array[] | null {
    const before = inputs.flatMap((tokens, sequence) =>
      toRows(tokens.slice(0, -1), { sequence, from: 0, output: false }),
    );
    const last = inputs.flatMap((tokens, sequence) =>
      toRows(tokens.slice(-1), { sequence, from: tokens.length - 1, output: true }),
    );
    context.setEmbeddings(false);
    for (let at = 0; at < before.length; at += this.#passSize) {
      if (context.decode(before.slice(at, at + this.#passSize)) !== "done") return null;
    }
    context.setEmbeddings(true);
    if (context.decode(last) !== "done") return null;
    return inputs.map((_, sequence) => context.embedding(sequence, length));
  }

  /** llama.cpp pools within a pass: the means of passes are put together here, and the first token is in the first. */
  #pooledInParts(
    context: NativeContext,
    { sequence, tokens }: { sequence: number; tokens: readonly number[] },
    length: number,
  ): Float32Array | null {
    const total = new Float32Array(length);
    for (let at = 0; at < tokens.length; at += this.#passSize) {
      const part = tokens.slice(at, at + this.#passSize);
      if (context.decode(toRows(part, { sequence, from: at, output: true })) !== "done") return null;
      const pooled = context.embedding(sequence, length);
      if (this.#plan.pooling !== "mean") return pooled;
      for (const [index, value] of pooled.entries()) {
        total[index] = (total[index] ?? 0) + (value * part.length) / tokens.length;
      }
    }
    return total;
  }
}

function toRows(
  tokens: readonly number[],
  { sequence, from, output }: { sequence: number; from: number; output: boolean },
): Row[] {
  return tokens.map((token, index) => ({ token, position: from + index, sequence, output }));
}

function roundUp(tokens: number): number {
  return Math.ceil(tokens / contextStep) * contextStep;
}
