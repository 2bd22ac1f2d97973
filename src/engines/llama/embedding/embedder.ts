import type { EmbeddingRequest, RerankRequest } from "../../../core/chat.ts";
import { EmbeddingContext, type EmbeddingPlan } from "./embedding-context.ts";
import type { Failure, Output } from "../messages.ts";
import { ModelError, type NativeModel } from "../native/native-model.ts";
import { type PairEncoder, createPairEncoder } from "./rerank-prompt.ts";
import { normalise, packVectors } from "./vectors.ts";

/** A request that this model cannot serve; travels to the caller as it is. */
export class RequestFailure extends Error {
  readonly failure: Failure;

  constructor(failure: Failure) {
    super(failure.message);
    this.failure = failure;
  }
}

/** One request on its way. */
interface Job {
  readonly id: number;
  readonly inputs: readonly number[][];
  /** Vectors or class outputs, in the order of the inputs; the first ones are computed. */
  readonly results: Float32Array[];
  /** Inputs given to batches so far. */
  taken: number;
  finish(results: Float32Array[], promptTokens: number): (Output & { type: "answer" })["answer"];
}

/** An input in a batch. */
interface Share {
  readonly job: Job;
  readonly tokens: number[];
}

/**
 * Vectors and relevances of models that pool, a batch at each step. Requests that are there together share batches,
 * turn by turn, so that a long list does not keep a short question waiting.
 */
export class Embedder {
  readonly #model: NativeModel;
  readonly #context: EmbeddingContext;
  readonly #contextLength: number;
  readonly #encodePair: PairEncoder;
  readonly #length: number;
  /** In the order in which they get their turn. */
  readonly #jobs: Job[] = [];
  #outputs: Output[] = [];

  /** Throws `ModelError`. */
  constructor(model: NativeModel, plan: EmbeddingPlan) {
    this.#model = model;
    this.#contextLength = plan.contextLength;
    this.#context = new EmbeddingContext(model, plan);
    this.#encodePair = createPairEncoder(model);
    this.#length = plan.pooling === "rank" ? Math.max(1, model.classCount) : model.embeddingLength;
  }

  /** L2-normalised; `dimensions` cuts the vectors and normalises them again. Throws `RequestFailure`. */
  embed(id: number, request: EmbeddingRequest): void {
    const length = this.#length;
    const dimensions = request.dimensions ?? length;
    if (dimensions > length) {
      const message = `this model's vectors have ${length} dimensions; ${dimensions} were asked for`;
      throw new RequestFailure({ code: "invalid_value", message, param: "dimensions" });
    }
    const { vocabulary } = this.#model;
    const inputs = request.input.map((input, index) => {
      const special = { addSpecial: true, parseSpecial: true };
      const tokens = typeof input === "string" ? vocabulary.tokenize(input, special) : input;
      return this.#checked(request.truncate === true ? this.#cut(tokens) : tokens, `input[${index}]`);
    });
    this.#submit(id, inputs, (results, promptTokens) =>
      packVectors(
        results.map((vector) => normalise(vector, dimensions)),
        promptTokens,
      ),
    );
  }

  /** Relevance 0 … 1 of each document. Throws `RequestFailure`. */
  rerank(id: number, request: RerankRequest): void {
    const inputs = request.documents.map((document, index) =>
      this.#checked(this.#encodePair(request.query, document), `documents[${index}]`),
    );
    const toScore = this.#scoring();
    this.#submit(id, inputs, (results, promptTokens) => ({ scores: results.map(toScore), promptTokens }));
  }

  abort(id: number): void {
    const index = this.#jobs.findIndex((job) => job.id === id);
    if (index >= 0) this.#jobs.splice(index, 1);
  }

  /** Takes what was said since the last call. */
  takeOutputs(): Output[] {
    const outputs = this.#outputs;
    this.#outputs = [];
    return outputs;
  }

  /** Computes one batch, and blocks as long as that takes; false when there is nothing to do. */
  step(): boolean {
    const shares = this.#plan();
    if (shares.length === 0) {
      this.#context.shrink();
      return false;
    }
    const vectors = this.#compute(shares);
    for (const [index, { job }] of shares.entries()) {
      const vector = vectors?.[index];
      // Broken off: the requests that are still there take their turn again.
      if (vector === undefined) job.taken = job.results.length;
      else job.results.push(vector);
    }
    for (const { job } of shares) this.#settle(job);
    return true;
  }

  free(): void {
    this.#context.free();
  }

  #submit(id: number, inputs: readonly number[][], finish: Job["finish"]): void {
    this.#jobs.push({ id, inputs, results: [], taken: 0, finish });
  }

  /** One input of each request in turn, until the batch is full. */
  #plan(): Share[] {
    const shares: Share[] = [];
    let tokens = 0;
    while (shares.length < this.#context.sequences) {
      const job = this.#jobs.find((candidate) => candidate.taken < candidate.inputs.length);
      const next = job?.inputs[job.taken];
      if (job === undefined || next === undefined) break;
      if (shares.length > 0 && tokens + next.length > this.#context.budget) break;
      tokens += next.length;
      job.taken += 1;
      shares.push({ job, tokens: next });
      this.#jobs.push(...this.#jobs.splice(this.#jobs.indexOf(job), 1));
    }
    return shares;
  }

  #compute(shares: readonly Share[]): Float32Array[] | null {
    const inputs = shares.map((share) => share.tokens);
    try {
      return this.#context.compute(inputs, this.#length);
    } catch (error) {
      if (!(error instanceof ModelError)) throw error;
      const longest = Math.max(...inputs.map((tokens) => tokens.length));
      const message = `there is no memory to embed ${longest} tokens at once; send a shorter input`;
      for (const { job } of shares) this.#fail(job, { code: "insufficient_memory", message });
      return null;
    }
  }

  #settle(job: Job): void {
    if (job.results.length < job.inputs.length || !this.#remove(job)) return;
    const promptTokens = job.inputs.reduce((sum, tokens) => sum + tokens.length, 0);
    this.#outputs.push({ id: job.id, type: "answer", answer: job.finish(job.results, promptTokens) });
  }

  #fail(job: Job, failure: Failure): void {
    if (this.#remove(job)) this.#outputs.push({ id: job.id, type: "failed", failure });
  }

  #remove(job: Job): boolean {
    const index = this.#jobs.indexOf(job);
    if (index >= 0) this.#jobs.splice(index, 1);
    return index >= 0;
  }

  /** As much of an input as the context holds, with the token by which this model knows an input's end, if it has one. */
  #cut(tokens: number[]): number[] {
    const limit = this.#contextLength;
    const last = tokens.at(-1);
    if (tokens.length <= limit || last === undefined) return tokens;
    const nothing = this.#model.vocabulary.tokenize("", { addSpecial: true, parseSpecial: true });
    return last === nothing.at(-1) ? [...tokens.slice(0, limit - 1), last] : tokens.slice(0, limit);
  }

  #checked(tokens: number[], param: string): number[] {
    const { vocabulary } = this.#model;
    const unknown = tokens.find((token) => !vocabulary.has(token));
    if (unknown !== undefined || tokens.length === 0) {
      const message =
        unknown === undefined
          ? "the input has no tokens"
          : `the input holds token ${unknown}; this model's tokens are 0 … ${vocabulary.size - 1}`;
      throw new RequestFailure({ code: "invalid_value", message, param });
    }
    if (tokens.length > this.#contextLength) {
      const message = `This model's maximum context length is ${this.#contextLength} tokens. However, your input resulted in ${tokens.length} tokens.`;
      throw new RequestFailure({ code: "context_length_exceeded", message, param });
    }
    return tokens;
  }

  /** One class is a bare logit. Of several the first is "relevant"; Qwen3's head gives probabilities (llama-graph.cpp), others logits. */
  #scoring(): (output: Float32Array) => number {
    if (this.#length === 1) return (output) => sigmoid(output[0] ?? 0);
    if (this.#model.architecture?.startsWith("qwen3") === true) return (output) => output[0] ?? 0;
    return (output) => {
      const first = output[0] ?? 0;
      return 1 / output.reduce((sum, value) => sum + Math.exp(value - first), 0);
    };
  }
}

function sigmoid(value: number): number {
  return 1 / (1 + Math.exp(-value));
}
