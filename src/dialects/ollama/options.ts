import type { SamplingRequest } from "../../core/chat.ts";
import type { JsonObject } from "../../core/json.ts";
import { defined, invalidValue, type Range, readArray, readNumber, readObject, wrongType } from "../fields.ts";

interface Option extends Range {
  readonly wire: string;
  readonly whole?: boolean;
}

/**
 * Ollama's name of each number (`Options` in its api/types.go). What is about loading (`num_ctx`, `num_gpu`, `num_batch`,
 * `use_mmap` …) or has no effect there any more (`tfs_z`, `penalize_newline`) is not among them, and is left unread: a
 * model is never loaded anew because somebody asks for another context, and `/api/show` and `/api/ps` tell the true one.
 */
const numbers = {
  temperature: { wire: "temperature", min: 0 },
  topP: { wire: "top_p", min: 0, max: 1 },
  topK: { wire: "top_k", min: -1, whole: true },
  minP: { wire: "min_p", min: 0, max: 1 },
  typicalP: { wire: "typical_p", min: 0, max: 1 },
  presencePenalty: { wire: "presence_penalty", min: -2, max: 2 },
  frequencyPenalty: { wire: "frequency_penalty", min: -2, max: 2 },
  repeatPenalty: { wire: "repeat_penalty", min: 0 },
  repeatLastN: { wire: "repeat_last_n", min: -1, max: 2 ** 31 - 1, whole: true },
  mirostat: { wire: "mirostat", min: 0, max: 2, whole: true },
  mirostatTau: { wire: "mirostat_tau", min: 0, max: 100 },
  mirostatEta: { wire: "mirostat_eta", min: 0, max: 1 },
  draftMax: { wire: "draft_num_predict", min: 0, max: 64, whole: true },
} as const satisfies Partial<Record<keyof SamplingRequest, Option>>;

/** The field `options`. Unknown ones are skipped, as Ollama does. Throws `ApiError` naming the field. */
export function decodeOptions(body: JsonObject): SamplingRequest {
  const options = readObject(body, "options") ?? {};
  const found: Record<string, number> = {};
  for (const [key, option] of Object.entries<Option>(numbers)) {
    const value = readOption(options, option);
    if (value !== undefined) found[key] = value;
  }
  const most = readOption(options, { wire: "num_predict", whole: true });
  const seed = readOption(options, { wire: "seed", whole: true });
  return {
    ...found,
    // −1 and −2 mean until the model ends or the context is full; a negative seed is another one each time.
    ...defined({
      maxTokens: most !== undefined && most > 0 ? most : undefined,
      seed: seed !== undefined && seed >= 0 ? seed : undefined,
    }),
    stop: decodeStop(options),
  };
}

/** Fractions of whole numbers are cut off, as Ollama does. */
function readOption(options: JsonObject, { wire, whole = false, ...range }: Option): number | undefined {
  const value = readNumber(options, wire, range, "options");
  return whole && value !== undefined ? Math.trunc(value) : value;
}

function decodeStop(options: JsonObject): string[] {
  if (typeof options.stop === "string") return options.stop === "" ? [] : [options.stop];
  const list = readArray(options, "stop", "options") ?? [];
  if (list.length > 32) throw invalidValue("options.stop", "may hold at most 32 strings");
  const stops = list.map((item, index) => {
    if (typeof item !== "string") throw wrongType(`options.stop[${index}]`, "a string", item);
    return item;
  });
  return stops.filter((stop) => stop !== "");
}
