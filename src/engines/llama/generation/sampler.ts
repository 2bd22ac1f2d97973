import type { SamplerName } from "../../../core/sampler-names.ts";
import type { LlamaLibrary, NativeMemory } from "../native/binding.ts";
import type { LlamaFunctions, SamplerHandle } from "../native/declarations.ts";
import type { DrySamplers } from "./dry-samplers.ts";
import type { GrammarState } from "./grammar-state.ts";
import type { NativeContext } from "../native/native-context.ts";
import type { NativeModel } from "../native/native-model.ts";
import type { Sampling } from "../settings.ts";

/** Chooses the tokens of one request. Free it when the request ends. */
export class Sampler {
  readonly #model: NativeModel;
  readonly #candidates: Candidates;
  readonly #chain: SamplerHandle;
  /** Forbids the end of the answer while fewer than `minTokens` were chosen; null when that is past or not asked. */
  #opening: SamplerHandle | null = null;
  readonly #minTokens: number;
  #chosen = 0;
  #freed = false;
  #grammar: GrammarState | null = null;

  constructor(model: NativeModel, tools: { candidates: Candidates; dry: DrySamplers }, sampling: Sampling) {
    this.#model = model;
    this.#candidates = tools.candidates;
    this.#chain = buildChain(model, tools.dry, sampling);
    this.#minTokens = sampling.minTokens;
    if (sampling.minTokens > 0) this.#opening = forbid(model, model.vocabulary.endTokens);
  }

  /** From the next token on, only what the grammar allows is chosen; the sampler frees it. */
  constrain(grammar: GrammarState): void {
    this.release();
    this.#grammar = grammar;
  }

  /** Lets penalties count tokens that were not chosen here: the prompt's. */
  remember(tokens: readonly number[]): void {
    if (this.#freed) throw new Error("tokens for a sampler that was freed");
    for (const token of tokens) this.#model.library.functions.llama_sampler_accept(this.#chain, token);
  }

  /**
   * The next token after a row of the last decode; null when the grammar allows none at all. Under a grammar the token
   * is chosen first and checked after: only a rejected one costs a pass of the grammar over the whole vocabulary.
   * `exempt` names tokens that the grammar must let pass unseen (an opening reasoning tag).
   */
  sample(context: NativeContext, row: number, exempt?: (token: number) => boolean): number | null {
    const { functions } = this.#model.library;
    if (this.#freed) throw new Error("a choice by a sampler that was freed");
    if (context.model !== this.#model) throw new Error("a choice among the tokens of another model");
    const index = context.outputIndex(row);
    if (this.#chosen >= this.#minTokens) this.#endOpening();
    this.#chosen += 1;
    // Accepts the token as well.
    if (this.#grammar === null && this.#opening === null)
      return functions.llama_sampler_sample(this.#chain, context.handle, index);
    const token = this.#choose(context.logits(row), exempt);
    if (token === null) return null;
    functions.llama_sampler_accept(this.#chain, token);
    // Accepting what the grammar forbids throws a C++ exception through the FFI and ends the process: it was checked.
    if (this.#grammar !== null && exempt?.(token) !== true) this.#grammar.accept(token);
    return token;
  }

  #choose(logits: Float32Array, exempt?: (token: number) => boolean): number | null {
    const chain = this.#opening === null ? [this.#chain] : [this.#opening, this.#chain];
    const token = this.#candidates.choose(chain, logits);
    const grammar = this.#grammar;
    if (grammar === null || exempt?.(token) === true || grammar.allows(token)) return token;
    const allowed = grammar.choose(chain, logits);
    if (allowed !== null && grammar.allows(allowed)) return allowed;
    // All that the grammar allows was forbidden by biases, as where it wants the end and `ignore_eos` does not.
    return this.#model.vocabulary.endTokens.find((end) => grammar.allows(end)) ?? null;
  }

  /** Lifts the constraint. */
  release(): void {
    this.#grammar?.free();
    this.#grammar = null;
  }

  free(): void {
    if (this.#freed) return;
    this.#freed = true;
    this.release();
    this.#endOpening();
    this.#model.library.functions.llama_sampler_free(this.#chain);
  }

  #endOpening(): void {
    if (this.#opening !== null) this.#model.library.functions.llama_sampler_free(this.#opening);
    this.#opening = null;
  }
}

/** Below it a token is never chosen anyway. */
const smallestProbability = 1e-30;

/** llama-server's chain: biases, the filters in the order asked for, then the choice. Filters without effect are left out. */
function buildChain(model: NativeModel, dry: DrySamplers, sampling: Sampling): SamplerHandle {
  const { functions } = model.library;
  const chain = functions.llama_sampler_chain_init({ no_perf: true });
  const add = (sampler: SamplerHandle | null): void => {
    if (sampler !== null) functions.llama_sampler_chain_add(chain, sampler);
  };
  add(biases(model, sampling));
  const chosen = sampling.temperature <= 0 ? "greedy" : sampling.mirostat.version === 0 ? "filtered" : "mirostat";
  for (const name of sampling.samplers) {
    if (name === "penalties") add(penalties(model, sampling));
    else if (name === "dry") add(dry.create(sampling.dry));
    else if (chosen === "filtered") {
      // llama.cpp's typical filter does nothing at all where a probability is 0, as that of a banned token: 0 · log 0.
      if (name === "typ_p" && sampling.typicalP < 1) add(functions.llama_sampler_init_min_p(smallestProbability, 1));
      add(filter(functions, name, sampling));
    }
  }
  if (chosen === "greedy") add(functions.llama_sampler_init_greedy());
  else if (chosen === "filtered") add(functions.llama_sampler_init_dist(sampling.seed));
  else {
    add(functions.llama_sampler_init_temp(sampling.temperature));
    add(mirostat(model, sampling));
  }
  return chain;
}

/** A filter by its name; null where its values switch it off. */
function filter(
  functions: LlamaFunctions,
  name: Exclude<SamplerName, "penalties" | "dry">,
  sampling: Sampling,
): SamplerHandle | null {
  const { topK, topP, minP, typicalP, topNSigma, xtc, temperature, dynatemp, seed } = sampling;
  const keep = Math.max(1, sampling.minKeep);
  switch (name) {
    case "top_k":
      return topK > 0 ? functions.llama_sampler_init_top_k(Math.max(topK, sampling.minKeep)) : null;
    case "top_p":
      return topP < 1 ? functions.llama_sampler_init_top_p(topP, keep) : null;
    case "min_p":
      return minP > 0 ? functions.llama_sampler_init_min_p(minP, keep) : null;
    case "typ_p":
      return typicalP < 1 ? functions.llama_sampler_init_typical(typicalP, keep) : null;
    case "top_n_sigma":
      return topNSigma > 0 ? functions.llama_sampler_init_top_n_sigma(topNSigma) : null;
    case "xtc":
      return xtc.probability > 0
        ? functions.llama_sampler_init_xtc(xtc.probability, xtc.threshold, sampling.minKeep, seed)
        : null;
    case "temperature":
      return dynatemp.range > 0
        ? functions.llama_sampler_init_temp_ext(temperature, dynatemp.range, dynatemp.exponent)
        : functions.llama_sampler_init_temp(temperature);
  }
}

function mirostat(
  { library, vocabulary }: NativeModel,
  { mirostat: { version, tau, eta }, seed }: Sampling,
): SamplerHandle {
  // 100: the candidates from which version 1 estimates the spread, as llama-server has it.
  return version === 1
    ? library.functions.llama_sampler_init_mirostat(vocabulary.size, seed, tau, eta, 100)
    : library.functions.llama_sampler_init_mirostat_v2(seed, tau, eta);
}

function penalties({ library, vocabulary }: NativeModel, sampling: Sampling): SamplerHandle | null {
  const { repeatPenalty, frequencyPenalty, presencePenalty, penaltyLastN } = sampling;
  if (repeatPenalty === 1 && frequencyPenalty === 0 && presencePenalty === 0) return null;
  const { functions } = library;
  const { size } = vocabulary;
  return functions.llama_sampler_init_penalties(size, penaltyLastN, repeatPenalty, frequencyPenalty, presencePenalty);
}

/** Sampling whose windows are tokens: −1 is the whole context, and llama.cpp allocates as many as it is told. */
export function withinContext(sampling: Sampling, contextLength: number): Sampling {
  const clamp = (lastN: number): number => (lastN < 0 ? contextLength : Math.min(lastN, contextLength));
  return {
    ...sampling,
    penaltyLastN: clamp(sampling.penaltyLastN),
    dry: { ...sampling.dry, lastN: clamp(sampling.dry.lastN) },
    minKeep: Math.min(sampling.minKeep, 0x7fffffff),
  };
}

/** Tokens before the answer that its sampler has to know. */
export function lookback(sampling: Sampling): number {
  const { repeatPenalty, frequencyPenalty, presencePenalty, penaltyLastN, dry } = sampling;
  const penalises = repeatPenalty !== 1 || frequencyPenalty !== 0 || presencePenalty !== 0;
  return Math.max(penalises ? penaltyLastN : 0, dry.multiplier > 0 ? dry.lastN : 0);
}

function biases(model: NativeModel, sampling: Sampling): SamplerHandle | null {
  const { vocabulary, library } = model;
  const entries = new Map<number, number>();
  for (const [token, bias] of Object.entries(sampling.logitBias)) {
    // OpenAI documents −100 as a ban.
    if (vocabulary.has(Number(token))) entries.set(Number(token), bias <= -100 ? -Infinity : bias);
  }
  if (sampling.ignoreEos) for (const token of vocabulary.endTokens) entries.set(token, -Infinity);
  if (entries.size === 0) return null;
  return library.functions.llama_sampler_init_logit_bias(vocabulary.size, entries.size, encodeBiases(entries));
}

function forbid({ library, vocabulary }: NativeModel, tokens: readonly number[]): SamplerHandle {
  const entries = new Map(tokens.map((token) => [token, -Infinity]));
  return library.functions.llama_sampler_init_logit_bias(vocabulary.size, entries.size, encodeBiases(entries));
}

/** `llama_logit_bias[]`: int32 token, float bias. */
function encodeBiases(entries: ReadonlyMap<number, number>): Buffer {
  const bytes = Buffer.alloc(entries.size * 8);
  let at = 0;
  for (const [token, bias] of entries) {
    bytes.writeInt32LE(token, at);
    bytes.writeFloatLE(bias, at + 4);
    at += 8;
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
  /** Room for the ids of all tokens, for whoever picks some for `chooseAmong`. */
  readonly ids: Int32Array;

  constructor(library: LlamaLibrary, size: number) {
    this.#library = library;
    this.#size = size;
    // llama_token_data: int32 id, float logit, float p. llama_token_data_array: pointer, size_t, int64 selected, bool sorted.
    this.#entries = library.allocate(size * 12);
    this.#array = library.allocate(32);
    this.#ids = new Int32Array(this.#entries.buffer);
    this.#values = new Float32Array(this.#entries.buffer);
    this.#header = new DataView(this.#array.buffer);
    this.ids = new Int32Array(size);
  }

  /** The token that the samplers, applied one after the other, pick; the last must end in a choice. */
  choose(samplers: readonly SamplerHandle[], logits: Float32Array): number {
    this.#fill(logits);
    for (const sampler of samplers) this.#library.functions.llama_sampler_apply(sampler, this.#array.address);
    return this.#selected();
  }

  /** The same among some tokens less those that `filter` forbids; null when none is left. */
  chooseAmong(
    tokens: Int32Array,
    { filter, samplers, logits }: { filter: SamplerHandle; samplers: readonly SamplerHandle[]; logits: Float32Array },
  ): number | null {
    const { functions } = this.#library;
    for (const [index, token] of tokens.entries()) this.#put(index, token, logits[token] as number);
    this.#writeHeader(tokens.length);
    functions.llama_sampler_apply(filter, this.#array.address);
    let left = 0;
    for (let index = 0; index < tokens.length; index++) {
      const logit = this.#values[index * 3 + 1] as number;
      // Samplers further down may not know what to make of a candidate that cannot be.
      if (logit !== -Infinity) this.#put(left++, this.#ids[index * 3] as number, logit);
    }
    if (left === 0) return null;
    this.#writeHeader(left);
    for (const sampler of samplers) functions.llama_sampler_apply(sampler, this.#array.address);
    // Banned tokens are chosen where nothing else is left.
    return this.#selectedLogit() === -Infinity ? null : this.#selected();
  }

  #put(index: number, token: number, logit: number): void {
    this.#ids[index * 3] = token;
    this.#values[index * 3 + 1] = logit;
    this.#values[index * 3 + 2] = 0;
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

  #selectedLogit(): number | undefined {
    const index = this.#header.getBigInt64(16, true);
    return index < 0n ? -Infinity : this.#library.floats(this.#header.getBigUint64(0, true) + index * 12n, 2)[1];
  }

  #selected(): number {
    const index = this.#header.getBigInt64(16, true);
    if (index < 0n) throw new Error("the sampler chose no token");
    // A sampler may have put the array elsewhere.
    const entry = this.#header.getBigUint64(0, true) + index * 12n;
    return new Int32Array(this.#library.floats(entry, 1).buffer)[0] as number;
  }
}
