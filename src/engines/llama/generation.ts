import type { FinishReason, TokenLogprob, Usage } from "../../core/chat.ts";
import { Constraint } from "./constraint.ts";
import { toLogprob } from "./logprobs.ts";
import type { GenerateJob, Output } from "./messages.ts";
import type { NativeContext } from "./native-context.ts";
import type { NativeModel, Vocabulary } from "./native-model.ts";
import { type Candidates, penalises, Sampler } from "./sampler.ts";
import { StopFilter } from "./stop.ts";

/** What a generation needs of the model that it runs on. */
export interface Ground {
  readonly model: NativeModel;
  readonly candidates: Candidates;
  readonly contextLength: number;
}

/**
 * One request in the making: from token ids to text that may be said. It knows nothing of slots or batches.
 * `tokens` is the prompt followed by what was generated; the last one has not been computed yet.
 */
export class Generation {
  readonly job: GenerateJob;
  readonly tokens: number[];
  readonly promptLength: number;
  cachedTokens = 0;
  readonly #ground: Ground;
  readonly #sampler: Sampler;
  readonly #limit: number;
  readonly #decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  readonly #stops: StopFilter;
  readonly #preserved: ReadonlySet<number>;
  readonly #constraint: Constraint | null;
  #unsaidLogprobs: TokenLogprob[] = [];
  #unsaidTokens = 0;

  constructor(ground: Ground, job: GenerateJob, prompt: number[]) {
    this.job = job;
    this.tokens = [...prompt];
    this.promptLength = prompt.length;
    this.#ground = ground;
    const room = ground.contextLength - prompt.length;
    this.#limit = Math.min(job.maxTokens ?? room, room);
    this.#stops = new StopFilter(job.stop);
    this.#preserved = preservedTokens(ground.model.vocabulary, job.preserved);
    this.#sampler = new Sampler(ground.model, ground.candidates, {
      ...job.sampling,
      contextLength: ground.contextLength,
    });
    const window = job.sampling.penaltyLastN < 0 ? ground.contextLength : job.sampling.penaltyLastN;
    if (penalises(job.sampling) && window > 0) this.#sampler.remember(prompt.slice(-window));
    this.#constraint = job.grammar === null ? null : new Constraint(job.grammar, this.#sampler);
  }

  /** False when llama.cpp cannot read the grammar. */
  get grammarIsValid(): boolean {
    return this.#constraint?.valid ?? true;
  }

  get completionTokens(): number {
    return this.tokens.length - this.promptLength;
  }

  /** Chooses the next token after a computed row; returns what may be said, and the finish when that was the last. */
  advance(context: NativeContext, row: number): Output[] {
    const { vocabulary } = this.#ground.model;
    const token = this.#sampler.sample(context, row, this.#constraint?.exempt(vocabulary));
    if (token === null) return [this.#failure("the grammar of this request allows no further token of this model")];
    this.tokens.push(token);
    this.#unsaidTokens += 1;
    if (vocabulary.endsGeneration(token)) return this.#end("stop");
    const { topLogprobs } = this.job;
    if (topLogprobs !== null) {
      const bytesOf = (id: number): Buffer => vocabulary.piece(id);
      this.#unsaidLogprobs.push(toLogprob(context.logits(row), token, { top: topLogprobs, bytesOf }));
    }
    const hidden = vocabulary.isControl(token) && !this.#preserved.has(token);
    const decoded = hidden ? "" : this.#decoder.decode(vocabulary.piece(token), { stream: true });
    this.#constraint?.observe(decoded);
    const { text, stop } = this.#stops.push(decoded);
    if (stop !== null) return [...this.#say(text), this.#finish("stop")];
    if (this.completionTokens >= this.#limit) return [...this.#say(text), ...this.#end("length")];
    return this.#say(text);
  }

  /** The finish of a request that may not generate anything. */
  get finished(): Output | null {
    return this.#limit <= 0 ? this.#finish("length") : null;
  }

  free(): void {
    this.#sampler.free();
  }

  #end(reason: FinishReason): Output[] {
    const rest = this.#stops.push(this.#decoder.decode());
    if (rest.stop !== null) return [...this.#say(rest.text), this.#finish("stop")];
    return [...this.#say(rest.text + this.#stops.end()), this.#finish(reason)];
  }

  #say(text: string): Output[] {
    if (text === "" && this.#unsaidLogprobs.length === 0) return [];
    const output: Output = {
      id: this.job.id,
      type: "text",
      text,
      tokens: this.#unsaidTokens,
      ...(this.#unsaidLogprobs.length === 0 ? {} : { logprobs: this.#unsaidLogprobs }),
    };
    this.#unsaidLogprobs = [];
    this.#unsaidTokens = 0;
    return [output];
  }

  #finish(reason: FinishReason): Output {
    const usage: Usage = {
      promptTokens: this.promptLength,
      completionTokens: this.completionTokens,
      cachedTokens: this.cachedTokens,
    };
    return { id: this.job.id, type: "finish", reason, usage };
  }

  #failure(message: string): Output {
    return { id: this.job.id, type: "failed", failure: { code: "invalid_request", message } };
  }
}

/** Control tokens that the parsers want to see: only texts that are exactly one token of this vocabulary. */
function preservedTokens(vocabulary: Vocabulary, texts: readonly string[]): Set<number> {
  const tokens = new Set<number>();
  for (const text of texts) {
    const ids = vocabulary.tokenize(text, { addSpecial: false, parseSpecial: true });
    if (ids.length === 1 && ids[0] !== undefined) tokens.add(ids[0]);
  }
  return tokens;
}
