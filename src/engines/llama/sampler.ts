import type { LlamaLibrary, NativeMemory } from "./binding.ts";
import type { SamplerHandle } from "./declarations.ts";
import type { NativeContext } from "./native-context.ts";
import type { NativeModel } from "./native-model.ts";
import type { Sampling } from "./settings.ts";

/** Chooses the tokens of one request. Free it when the request ends. */
export class Sampler {
  readonly #model: NativeModel;
  readonly #candidates: Candidates;
  readonly #chain: SamplerHandle;
  #grammar: SamplerHandle | null = null;

  constructor(model: NativeModel, candidates: Candidates, sampling: Sampling & { contextLength: number }) {
    this.#model = model;
    this.#candidates = candidates;
    this.#chain = buildChain(model, sampling);
  }

  /** From the next token on, only what the GBNF grammar allows is chosen. False: llama.cpp cannot read the grammar. */
  constrain(grammar: string): boolean {
    this.release();
    const { functions } = this.#model.library;
    this.#grammar = functions.llama_sampler_init_grammar(this.#model.vocabulary.handle, grammar, "root");
    return this.#grammar !== null;
  }

  /** Lets penalties count tokens that were not chosen here: the prompt's. */
  remember(tokens: readonly number[]): void {
    for (const token of tokens) this.#model.library.functions.llama_sampler_accept(this.#chain, token);
  }

  /**
   * The next token after a row of the last decode; null when the grammar allows none at all. Under a grammar the token
   * is chosen first and checked after: only a rejected one costs a pass of the grammar over the whole vocabulary.
   * `exempt` names tokens that the grammar must let pass unseen (an opening reasoning tag).
   */
  sample(context: NativeContext, row: number, exempt?: (token: number) => boolean): number | null {
    const { functions } = this.#model.library;
    const index = context.outputIndex(row);
    if (this.#grammar === null) return functions.llama_sampler_sample(this.#chain, context.handle, index);
    const logits = context.logits(row);
    let token = this.#candidates.choose(this.#chain, logits);
    if (exempt?.(token) === true) {
      functions.llama_sampler_accept(this.#chain, token);
      return token;
    }
    if (!this.#candidates.allows(this.#grammar, token)) {
      const allowed = this.#candidates.chooseUnder(this.#grammar, this.#chain, logits);
      if (allowed === null) return null;
      token = allowed;
    }
    functions.llama_sampler_accept(this.#chain, token);
    // Accepting what the grammar forbids throws a C++ exception through the FFI and ends the process: it was checked above.
    functions.llama_sampler_accept(this.#grammar, token);
    return token;
  }

  /** Lifts the constraint. */
  release(): void {
    if (this.#grammar !== null) this.#model.library.functions.llama_sampler_free(this.#grammar);
    this.#grammar = null;
  }

  free(): void {
    this.release();
    this.#model.library.functions.llama_sampler_free(this.#chain);
  }
}

/** llama.cpp's order: bias, penalties, top-k, top-p, min-p, temperature, choice. */
function buildChain(model: NativeModel, sampling: Sampling & { contextLength: number }): SamplerHandle {
  const { functions } = model.library;
  const chain = functions.llama_sampler_chain_init({ no_perf: true });
  const add = (sampler: SamplerHandle): void => functions.llama_sampler_chain_add(chain, sampler);
  const biases = Object.entries(sampling.logitBias).filter(([token]) => model.vocabulary.has(Number(token)));
  if (biases.length > 0) {
    add(functions.llama_sampler_init_logit_bias(model.vocabulary.size, biases.length, encodeBiases(biases)));
  }
  const lastTokens = sampling.penaltyLastN < 0 ? sampling.contextLength : sampling.penaltyLastN;
  if (penalises(sampling)) {
    const { repeatPenalty, frequencyPenalty, presencePenalty } = sampling;
    const size = model.vocabulary.size;
    add(functions.llama_sampler_init_penalties(size, lastTokens, repeatPenalty, frequencyPenalty, presencePenalty));
  }
  if (sampling.temperature <= 0) {
    add(functions.llama_sampler_init_greedy());
    return chain;
  }
  if (sampling.topK > 0) add(functions.llama_sampler_init_top_k(sampling.topK));
  if (sampling.topP < 1) add(functions.llama_sampler_init_top_p(sampling.topP, 1));
  if (sampling.minP > 0) add(functions.llama_sampler_init_min_p(sampling.minP, 1));
  add(functions.llama_sampler_init_temp(sampling.temperature));
  add(functions.llama_sampler_init_dist(sampling.seed));
  return chain;
}

/** Whether any penalty is on, so that the sampler has to know the prompt's last tokens. */
export function penalises(sampling: Sampling): boolean {
  return sampling.repeatPenalty !== 1 || sampling.frequencyPenalty !== 0 || sampling.presencePenalty !== 0;
}

/** `llama_logit_bias[]`: int32 token, float bias. A bias of −100 forbids the token, as OpenAI documents it. */
function encodeBiases(biases: [string, number][]): Buffer {
  const bytes = Buffer.alloc(biases.length * 8);
  for (const [index, [token, bias]] of biases.entries()) {
    bytes.writeInt32LE(Number(token), index * 8);
    bytes.writeFloatLE(bias <= -100 ? -Infinity : bias, index * 8 + 4);
  }
  return bytes;
}

/** A `llama_token_data_array` over the whole vocabulary, shared by all requests of one thread. */
export class Candidates {
  readonly #library: LlamaLibrary;
  readonly #size: number;
  readonly #entries: NativeMemory;
  readonly #array: NativeMemory;
  readonly #ids: Int32Array;
  readonly #values: Float32Array;
  readonly #header: DataView;

  constructor(library: LlamaLibrary, size: number) {
    this.#library = library;
    this.#size = size;
    // llama_token_data: int32 id, float logit, float p. llama_token_data_array: pointer, size_t, int64 selected, bool sorted.
    this.#entries = library.allocate(size * 12);
    this.#array = library.allocate(32);
    this.#ids = new Int32Array(this.#entries.buffer);
    this.#values = new Float32Array(this.#entries.buffer);
    this.#header = new DataView(this.#array.buffer);
  }

  /** The token that a chain, which must end in a choice, picks. */
  choose(chain: SamplerHandle, logits: Float32Array): number {
    this.#fill(logits);
    this.#library.functions.llama_sampler_apply(chain, this.#array.address);
    return this.#selected();
  }

  /** The same among what the grammar allows; null when that is nothing. */
  chooseUnder(grammar: SamplerHandle, chain: SamplerHandle, logits: Float32Array): number | null {
    this.#fill(logits);
    this.#library.functions.llama_sampler_apply(grammar, this.#array.address);
    let open = false;
    for (let index = 0; index < this.#size && !open; index++) open = this.#values[index * 3 + 1] !== -Infinity;
    if (!open) return null;
    this.#library.functions.llama_sampler_apply(chain, this.#array.address);
    return this.#selected();
  }

  allows(grammar: SamplerHandle, token: number): boolean {
    this.#ids[0] = token;
    this.#values[1] = 1;
    this.#values[2] = 0;
    this.#writeHeader(1);
    this.#library.functions.llama_sampler_apply(grammar, this.#array.address);
    return this.#values[1] !== -Infinity;
  }

  #fill(logits: Float32Array): void {
    const ids = this.#ids;
    const values = this.#values;
    for (let token = 0, at = 0; token < this.#size; token++, at += 3) {
      ids[at] = token;
      values[at + 1] = logits[token] as number;
      values[at + 2] = 0;
    }
    this.#writeHeader(this.#size);
  }

  #writeHeader(size: number): void {
    this.#header.setBigUint64(0, this.#entries.address, true);
    this.#header.setBigUint64(8, BigInt(size), true);
    this.#header.setBigInt64(16, -1n, true);
    this.#header.setBigUint64(24, 0n, true);
  }

  #selected(): number {
    const index = this.#header.getBigInt64(16, true);
    if (index < 0n) throw new Error("the sampler chose no token");
    // A sampler may have put the array elsewhere.
    const entry = this.#header.getBigUint64(0, true) + index * 12n;
    return new Int32Array(this.#library.floats(entry, 1).buffer)[0] as number;
  }
}
