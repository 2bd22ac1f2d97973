import type { FinishReason, TokenLogprob, Usage } from "../../../core/chat.ts";
import { Constraint } from "./constraint.ts";
import type { DrySamplers } from "./dry-samplers.ts";
import type { LogprobReader } from "./logprobs.ts";
import type { GenerateJob, Output } from "../messages.ts";
import type { NativeContext } from "../native/native-context.ts";
import type { NativeModel, Vocabulary } from "../native/native-model.ts";
import { type Candidates, lookback, Sampler, withinContext } from "./sampler.ts";
import type { Speculation } from "../speculation/speculation.ts";
import { StopFilter } from "./stop.ts";

/** What a generation needs of the model that it runs on. */
export interface Ground {
  readonly model: NativeModel;
  readonly candidates: Candidates;
  readonly dry: DrySamplers;
  readonly logprobs: LogprobReader;
  readonly contextLength: number;
  /** Absent: nothing is guessed ahead. */
  readonly speculation?: Speculation;
}

/** Gives back what belongs to the ground alone: not the model. */
export function freeGround({ dry, speculation }: Ground): void {
  speculation?.free();
  dry.free();
}

/** The log probability of a token that was chosen, and where its text lies in the answer. */
interface PlacedLogprob {
  readonly logprob: TokenLogprob;
  readonly start: number;
  readonly end: number;
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
  /** Tokens that were guessed ahead, and those of them that the model chose too. */
  drafted = 0;
  accepted = 0;
  readonly #ground: Ground;
  readonly #sampler: Sampler;
  readonly #limit: number;
  readonly #decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  readonly #stops: StopFilter;
  readonly #preserved: ReadonlySet<number>;
  readonly #constraint: Constraint | null;
  readonly #promptLogprobs: TokenLogprob[] = [];
  #unsaidLogprobs: PlacedLogprob[] = [];
  #unsaidTokens = 0;
  /** Length of the text that was decoded, and of that which was said. */
  #decoded = 0;
  #said = 0;

  constructor(ground: Ground, job: GenerateJob, prompt: number[]) {
    this.job = job;
    this.tokens = [...prompt];
    this.promptLength = prompt.length;
    this.#ground = ground;
    const room = ground.contextLength - prompt.length;
    this.#limit = Math.min(job.maxTokens ?? room, room);
    this.#stops = new StopFilter(job.stop);
    this.#preserved = preservedTokens(ground.model.vocabulary, job.preserved);
    const sampling = withinContext(job.sampling, ground.contextLength);
    this.#sampler = new Sampler(ground.model, ground, sampling);
    const window = lookback(sampling);
    if (window > 0) this.#sampler.remember(prompt.slice(-window));
    this.#constraint =
      job.grammar === null ? null : new Constraint(job.grammar, this.#sampler, { ...ground, shown: this.#preserved });
  }

  /** False when llama.cpp cannot read the grammar. */
  get grammarIsValid(): boolean {
    return this.#constraint?.valid ?? true;
  }

  get completionTokens(): number {
    return this.tokens.length - this.promptLength;
  }

  /** Tokens at the front of the prompt that need not be computed if a cache has them. */
  get reusable(): number {
    return this.readsPromptLogits ? 0 : this.promptLength - 1;
  }

  /** How many tokens may be guessed ahead: one less than may still be chosen. */
  get draftRoom(): number {
    return Math.min(this.job.sampling.draftMax ?? Infinity, this.#limit - this.completionTokens - 1);
  }

  /** Whether every row of the prompt must be computed with logits, none taken from a cache: for `observePrompt`. */
  get readsPromptLogits(): boolean {
    return this.job.promptLogprobs === true && this.job.topLogprobs !== null;
  }

  /** Notes how likely the prompt's next token was after a computed row. `position`: of the row's token; each counts once. */
  observePrompt(context: NativeContext, row: number, position: number): void {
    const next = this.tokens[position + 1];
    if (next === undefined || position + 1 >= this.promptLength || position !== this.#promptLogprobs.length) return;
    this.#promptLogprobs.push(this.#ground.logprobs.read(context.logits(row), next, this.job.topLogprobs ?? 0));
  }

  /** Chooses the next token after a computed row; returns what may be said, and the finish when that was the last. */
  advance(context: NativeContext, row: number): Output[] {
    const prompt = this.#sayPrompt();
    if (this.#limit <= 0) return [...prompt, this.#finish("length")];
    const { vocabulary } = this.#ground.model;
    const token = this.#sampler.sample(context, row, this.#constraint?.exempt);
    if (token === null) return [this.#failure("the grammar of this request allows no further token of this model")];
    this.tokens.push(token);
    this.#unsaidTokens += 1;
    if (vocabulary.endsGeneration(token)) return [...prompt, ...this.#end("stop")];
    const hidden = vocabulary.isControl(token) && !this.#preserved.has(token);
    const decoded = hidden ? "" : this.#decoder.decode(vocabulary.piece(token), { stream: true });
    const start = this.#decoded;
    this.#decoded += decoded.length;
    const { topLogprobs } = this.job;
    if (topLogprobs !== null) {
      const logprob = this.#ground.logprobs.read(context.logits(row), token, topLogprobs);
      this.#unsaidLogprobs.push({ logprob, start, end: this.#decoded });
    }
    this.#constraint?.observe(decoded);
    const { text, stop } = this.#stops.push(decoded);
    if (stop !== null) return [...prompt, ...this.#sayLast(text), this.#finish("stop", stop)];
    if (this.completionTokens >= this.#limit) return [...prompt, ...this.#say(text), ...this.#end("length")];
    return [...prompt, ...this.#say(text)];
  }

  /** The finish of a request that may not generate anything. */
  get finished(): Output | null {
    return this.#limit <= 0 && !this.readsPromptLogits ? this.#finish("length") : null;
  }

  free(): void {
    this.#constraint?.free();
    this.#sampler.free();
  }

  #end(reason: FinishReason): Output[] {
    const flushed = this.#decoder.decode();
    this.#decoded += flushed.length;
    const rest = this.#stops.push(flushed);
    if (rest.stop !== null) return [...this.#sayLast(rest.text), this.#finish("stop", rest.stop)];
    return [...this.#say(rest.text + this.#stops.end()), this.#finish(reason)];
  }

  /** Log probabilities wait until the text of their tokens may be said. */
  #say(text: string): Output[] {
    const said = this.#said + text.length;
    return this.#tell(
      text,
      this.#unsaidLogprobs.findIndex(({ end }) => end > said),
    );
  }

  /** What is said before a stop string: a token that lies in the string alone was never part of the answer. */
  #sayLast(text: string): Output[] {
    const said = this.#said + text.length;
    return this.#tell(
      text,
      this.#unsaidLogprobs.findIndex(({ start }) => start >= said),
    );
  }

  /** `unsaid`: index of the first log probability that stays back, −1 if none does. */
  #tell(text: string, unsaid: number): Output[] {
    const count = unsaid < 0 ? this.#unsaidLogprobs.length : unsaid;
    const logprobs = this.#unsaidLogprobs.splice(0, count).map(({ logprob }) => logprob);
    if (text === "" && logprobs.length === 0) return [];
    const tokens = this.#unsaidTokens;
    this.#said += text.length;
    this.#unsaidTokens = 0;
    return [{ id: this.job.id, type: "text", text, tokens, ...(logprobs.length === 0 ? {} : { logprobs }) }];
  }

  /** Before the first token: the log probabilities of the prompt. Its first token had nothing before it. */
  #sayPrompt(): Output[] {
    if (!this.readsPromptLogits || this.completionTokens > 0) return [];
    const { vocabulary } = this.#ground.model;
    const [first = -1] = this.tokens;
    const bytes = vocabulary.piece(first);
    const head: TokenLogprob = { token: bytes.toString("utf8"), logprob: 0, bytes: [...bytes], top: [] };
    // The begin token that the tokenizer adds to a text is not part of the text.
    const added = typeof this.job.prompt === "string" && vocabulary.addsBos && first === vocabulary.bos;
    const logprobs = added ? this.#promptLogprobs : [head, ...this.#promptLogprobs];
    return [{ id: this.job.id, type: "text", text: "", tokens: 0, logprobs, prompt: added ? "rest" : "all" }];
  }

  #finish(reason: FinishReason, stopSequence?: string): Output {
    const usage: Usage = {
      promptTokens: this.promptLength,
      completionTokens: this.completionTokens,
      cachedTokens: this.cachedTokens,
      ...(this.drafted === 0
        ? {}
        : { acceptedDraftTokens: this.accepted, rejectedDraftTokens: this.drafted - this.accepted }),
    };
    return { id: this.job.id, type: "finish", reason, usage, ...(stopSequence === undefined ? {} : { stopSequence }) };
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
