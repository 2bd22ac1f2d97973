import type { SamplingRequest } from "../../core/chat.ts";
import { findSampler, type SamplerName } from "../../core/sampler-names.ts";
import type { MetadataValue } from "./gguf-reader.ts";

/** How the makers of a model want its tokens chosen where nobody else says: `general.sampling.*` of its file. */
export interface RecommendedSampling {
  readonly values: Partial<SamplingRequest>;
  /** Why keys, or parts of them, are left out, one sentence each; to be logged. */
  readonly ignored: readonly string[];
}

interface NumberKey {
  readonly key: string;
  readonly min: number;
  readonly max: number;
  readonly whole?: boolean;
}

/**
 * The keys of gguf-py/gguf/constants.py, and what may stand there. llama.cpp reads them in common_init_sampler_from_model
 * (common/common.cpp) and takes whatever they hold; a penalty of 0 would divide by it, and an unknown mirostat end the process.
 */
const numberKeys = {
  temperature: { key: "temp", min: 0, max: 100 },
  topK: { key: "top_k", min: -1, max: 2 ** 31 - 1, whole: true },
  topP: { key: "top_p", min: 0, max: 1 },
  minP: { key: "min_p", min: 0, max: 1 },
  xtcProbability: { key: "xtc_probability", min: 0, max: 1 },
  xtcThreshold: { key: "xtc_threshold", min: 0, max: 1 },
  repeatLastN: { key: "penalty_last_n", min: -1, max: 2 ** 31 - 1, whole: true },
  repeatPenalty: { key: "penalty_repeat", min: 0.01, max: 100 },
  mirostat: { key: "mirostat", min: 0, max: 2, whole: true },
  mirostatTau: { key: "mirostat_tau", min: 0, max: 100 },
  mirostatEta: { key: "mirostat_eta", min: 0, max: 1 },
} as const satisfies Partial<Record<keyof SamplingRequest, NumberKey>>;

const sequenceKey = "general.sampling.sequence";
/** Each is a pass over the vocabulary for every token; llama.cpp knows eleven. */
const mostSamplers = 32;

/** Reads what a file recommends. Nothing in it makes this throw: what does not fit is named in `ignored`. */
export function readRecommendedSampling(metadata: ReadonlyMap<string, MetadataValue>): RecommendedSampling {
  const values: Record<string, number> = {};
  const ignored: string[] = [];
  for (const [field, range] of Object.entries<NumberKey>(numberKeys)) {
    const key = `general.sampling.${range.key}`;
    const value = metadata.get(key);
    if (value === undefined) continue;
    if (typeof value === "number" && fits(value, range))
      values[field] = range.whole === true ? value : toShortest(value);
    else ignored.push(`${key} is ${told(value)}, not ${describeRange(range)}`);
  }
  const samplers = readSequence(metadata.get(sequenceKey), ignored);
  return { values: samplers === undefined ? values : { ...values, samplers }, ignored };
}

function fits(value: number, { min, max, whole = false }: NumberKey): boolean {
  // A 32-bit 0.01 is a little less than 0.01.
  return toShortest(value) >= min && value <= max && (!whole || Number.isInteger(value));
}

/** Names divided by semicolons, in the order in which they are applied. */
function readSequence(value: MetadataValue | undefined, ignored: string[]): SamplerName[] | undefined {
  if (value === undefined) return undefined;
  const names = typeof value === "string" ? value.split(";", mostSamplers + 1) : [];
  if (names.length === 0 || names.length > mostSamplers) {
    ignored.push(`${sequenceKey} is ${told(value)}, not the names of at most ${mostSamplers} samplers`);
    return undefined;
  }
  const known = names.flatMap((name) => findSampler(name.trim()) ?? []);
  const unknown = names.filter((name) => findSampler(name.trim()) === undefined);
  if (unknown.length > 0)
    ignored.push(`${sequenceKey} names ${told(unknown.join(";"))}, of which there is no sampler here`);
  return known.length === 0 ? undefined : known;
}

/** The fewest digits that mean the same 32-bit number: 0.95 rather than 0.949999988079071. */
function toShortest(value: number): number {
  const single = Math.fround(value);
  // Nine digits tell every 32-bit number from its neighbours.
  for (let digits = 1; digits <= 9; digits++) {
    const short = Number(value.toPrecision(digits));
    if (Math.fround(short) === single) return short;
  }
  return value;
}

function describeRange({ min, max, whole = false }: NumberKey): string {
  return `a ${whole ? "whole number" : "number"} from ${min} to ${max}`;
}

function told(value: MetadataValue): string {
  if (typeof value === "string") return JSON.stringify(value.length > 60 ? `${value.slice(0, 60)}…` : value);
  if (value === null) return "a very long text";
  return typeof value === "object" ? "a list" : String(value);
}
