import type { Embeddings, RerankResult } from "../../core/chat.ts";
import type { Failure, Query } from "./messages.ts";
import { NativeContext, type Row } from "./native-context.ts";
import { type NativeModel, contextParams } from "./native-model.ts";
import type { WorkerSettings } from "./settings.ts";

/** A request that this model cannot serve; travels to the caller as it is. */
export class RequestFailure extends Error {
  readonly failure: Failure;

  constructor(failure: Failure) {
    super(failure.message);
    this.failure = failure;
  }
}

/** Sequences that are embedded together in one batch. */
const batchSequences = 32;

/**
 * Vectors and relevances from models that pool. An input is always computed in one pass: an encoder that gets it in
 * parts gives, without a word, another vector.
 */
export class Embedder {
  readonly #model: NativeModel;
  readonly #context: NativeContext;
  readonly #contextLength: number;

  constructor(model: NativeModel, settings: WorkerSettings, contextLength: number) {
    const params = contextParams(model.library, settings);
    params.embeddings = true;
    params.n_ctx = contextLength;
    params.n_batch = contextLength;
    params.n_ubatch = contextLength;
    params.n_seq_max = Math.min(batchSequences, contextLength);
    params.kv_unified = true;
    this.#model = model;
    this.#contextLength = contextLength;
    this.#context = new NativeContext(model, params);
  }

  /** L2-normalised; `dimensions` cuts the vectors and normalises them again. Throws `RequestFailure`. */
  embed(query: (Query & { type: "embed" })["request"]): Embeddings {
    const length = this.#model.embeddingLength;
    const dimensions = query.dimensions ?? length;
    if (dimensions > length) {
      const message = `this model's vectors have ${length} dimensions; ${dimensions} were asked for`;
      throw new RequestFailure({ code: "invalid_value", message, param: "dimensions" });
    }
    const inputs = query.input.map((input, index) => this.#tokens(input, `input[${index}]`));
    const vectors = this.#pool(inputs, length).map((vector) => normalise(vector.subarray(0, dimensions)));
    return { vectors, promptTokens: countTokens(inputs) };
  }

  /** Relevance 0 … 1 of each document. Throws `RequestFailure`. */
  rerank(query: (Query & { type: "rerank" })["request"]): RerankResult {
    const { vocabulary } = this.#model;
    const plain = { addSpecial: false, parseSpecial: false };
    const question = vocabulary.tokenize(query.query, plain);
    const mark = (token: number): number[] => (vocabulary.has(token) ? [token] : []);
    const inputs = query.documents.map((document, index) => {
      // llama.cpp's layout: [bos] query [eos] [sep] document [eos].
      const tokens = [...mark(vocabulary.bos), ...question, ...mark(vocabulary.eos), ...mark(vocabulary.separator)];
      tokens.push(...vocabulary.tokenize(document, plain), ...mark(vocabulary.eos));
      return this.#checked(tokens, `documents[${index}]`);
    });
    const classes = Math.max(1, this.#model.classCount);
    // One class is a bare logit; several are probabilities already, the first of them "yes".
    const scores = this.#pool(inputs, classes).map((output) =>
      classes === 1 ? sigmoid(output[0] ?? 0) : (output[0] ?? 0),
    );
    return { scores, promptTokens: countTokens(inputs) };
  }

  #tokens(input: string | number[], param: string): number[] {
    const { vocabulary } = this.#model;
    const tokens =
      typeof input === "string" ? vocabulary.tokenize(input, { addSpecial: true, parseSpecial: true }) : input;
    return this.#checked(tokens, param);
  }

  #checked(tokens: number[], param: string): number[] {
    const unknown = tokens.find((token) => !this.#model.vocabulary.has(token));
    if (unknown !== undefined || tokens.length === 0) {
      const message = unknown === undefined ? "the input has no tokens" : `the model has no token ${unknown}`;
      throw new RequestFailure({ code: "invalid_value", message, param });
    }
    if (tokens.length > this.#contextLength) {
      const message = `This model's maximum context length is ${this.#contextLength} tokens. However, your input resulted in ${tokens.length} tokens.`;
      throw new RequestFailure({ code: "context_length_exceeded", message, param });
    }
    return tokens;
  }

  #pool(inputs: readonly number[][], length: number): Float32Array[] {
    const results: Float32Array[] = [];
    let group: number[][] = [];
    let size = 0;
    const flush = (): void => {
      if (group.length > 0) results.push(...this.#compute(group, length));
      group = [];
      size = 0;
    };
    for (const input of inputs) {
      if (group.length === this.#context.sequences || size + input.length > this.#contextLength) flush();
      group.push(input);
      size += input.length;
    }
    flush();
    return results;
  }

  #compute(group: readonly number[][], length: number): Float32Array[] {
    const rows: Row[] = group.flatMap((tokens, sequence) =>
      tokens.map((token, position) => ({ token, position, sequence, output: true })),
    );
    const result = this.#context.decode(rows);
    if (result !== "done")
      throw new RequestFailure({
        code: "insufficient_memory",
        message: `llama.cpp broke off the embedding (${result})`,
      });
    const vectors = group.map((_, sequence) => this.#context.embedding(sequence, length));
    this.#context.clear();
    return vectors;
  }

  free(): void {
    this.#context.free();
  }
}

function normalise(vector: Float32Array): number[] {
  let sum = 0;
  for (const value of vector) sum += value * value;
  const scale = sum > 0 ? 1 / Math.sqrt(sum) : 0;
  return Array.from(vector, (value) => value * scale);
}

function sigmoid(value: number): number {
  return 1 / (1 + Math.exp(-value));
}

function countTokens(inputs: readonly number[][]): number {
  return inputs.reduce((sum, tokens) => sum + tokens.length, 0);
}
