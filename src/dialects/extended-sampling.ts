import type { ExtendedSampling } from "../core/chat.ts";
import type { Json, JsonObject } from "../core/json.ts";
import { findSampler, type SamplerName, samplerNames } from "../core/sampler-names.ts";
import {
  defined,
  invalidValue,
  quoted,
  type Range,
  readArray,
  readBoolean,
  readInteger,
  readNumber,
  wrongType,
} from "./fields.ts";

interface NumberField extends Range {
  readonly wire: string;
  readonly whole?: boolean;
}

/** How llama-server names the numbers, and what it takes (its tools/server/README.md); `min_tokens` is vLLM's. */
const numberFields = {
  repeatLastN: { wire: "repeat_last_n", min: -1, max: 2 ** 31 - 1, whole: true },
  typicalP: { wire: "typical_p", min: 0, max: 1 },
  topNSigma: { wire: "top_n_sigma", min: -1, max: 1000 },
  xtcProbability: { wire: "xtc_probability", min: 0, max: 1 },
  xtcThreshold: { wire: "xtc_threshold", min: 0, max: 1 },
  dryMultiplier: { wire: "dry_multiplier", min: 0, max: 100 },
  dryBase: { wire: "dry_base", min: 1, max: 100 },
  dryAllowedLength: { wire: "dry_allowed_length", min: 0, max: 2 ** 31 - 1, whole: true },
  dryPenaltyLastN: { wire: "dry_penalty_last_n", min: -1, max: 2 ** 31 - 1, whole: true },
  dynatempRange: { wire: "dynatemp_range", min: 0, max: 100 },
  dynatempExponent: { wire: "dynatemp_exponent", min: 0, max: 100 },
  mirostat: { wire: "mirostat", min: 0, max: 2, whole: true },
  mirostatTau: { wire: "mirostat_tau", min: 0, max: 100 },
  mirostatEta: { wire: "mirostat_eta", min: 0, max: 1 },
  minKeep: { wire: "min_keep", min: 0, max: 2 ** 31 - 1, whole: true },
  minTokens: { wire: "min_tokens", min: 0, max: 2 ** 31 - 1, whole: true },
  draftMax: { wire: "speculative.n_max", min: 0, max: 64, whole: true },
} as const satisfies Partial<Record<keyof ExtendedSampling, NumberField>>;

/** The wire's names of all fields read here. */
export const extendedSamplingFields: readonly string[] = [
  ...Object.values(numberFields).map(({ wire }) => wire),
  "dry_sequence_breakers",
  "samplers",
  "ignore_eos",
];

/** Throws `ApiError` naming the field. */
export function decodeExtendedSampling(body: JsonObject): ExtendedSampling {
  const numbers: Record<string, number> = {};
  for (const [key, field] of Object.entries<NumberField>(numberFields)) {
    const value = field.whole === true ? readInteger(body, field.wire, field) : readNumber(body, field.wire, field);
    if (value !== undefined) numbers[key] = value;
  }
  return {
    ...numbers,
    ...defined({
      drySequenceBreakers: decodeBreakers(body),
      samplers: decodeSamplers(body.samplers ?? undefined),
      ignoreEos: readBoolean(body, "ignore_eos"),
    }),
  };
}

export function encodeExtendedSampling(sampling: ExtendedSampling): JsonObject {
  const numbers: JsonObject = {};
  for (const [key, { wire }] of Object.entries(numberFields)) {
    const value = sampling[key as keyof typeof numberFields];
    if (value !== undefined) numbers[wire] = value;
  }
  return {
    ...numbers,
    ...defined({
      dry_sequence_breakers: sampling.drySequenceBreakers,
      samplers: sampling.samplers,
      ignore_eos: sampling.ignoreEos,
    }),
  };
}

/** llama.cpp searches its whole vocabulary for each breaker: 16 are enough for every list in use. */
function decodeBreakers(body: JsonObject): string[] | undefined {
  const list = readArray(body, "dry_sequence_breakers");
  if (list !== undefined && list.length > 16)
    throw invalidValue("dry_sequence_breakers", "may hold at most 16 strings");
  return list?.map((item, index) => {
    if (typeof item !== "string") throw wrongType(`dry_sequence_breakers[${index}]`, "a string", item);
    return item;
  });
}

function decodeSamplers(value: Json | undefined): SamplerName[] | undefined {
  if (value === undefined) return undefined;
  if (typeof value !== "string" && !Array.isArray(value)) throw wrongType("samplers", "an array of names", value);
  return [...value].map((item, index) => {
    const at = typeof value === "string" ? "samplers" : `samplers[${index}]`;
    if (typeof item !== "string") throw wrongType(at, "a string", item);
    const name = findSampler(item);
    if (name === undefined) throw invalidValue(at, `must be one of ${samplerNames.join(", ")}, not ${quoted(item)}`);
    return name;
  });
}
