import { isObject, type Json, type JsonObject } from "../core/json.ts";
import { endOfString } from "../core/parse-json.ts";

/** What a server told of one answer, in tokens; absent: it did not say. */
export interface ToldUsage {
  readonly prompt?: number | undefined;
  /** Of the prompt, those not computed anew. */
  readonly cached?: number | undefined;
  readonly completion?: number | undefined;
}

/** No answer has more tokens; a server that says so is broken or hostile. */
const mostTokens = 1_000_000_000;
/** The longest usage object that is read: real ones stay below 600 characters. */
const longestUsage = 4096;

/**
 * The object that stands behind the key that ends at `from`, as text; "" when something else stands there; undefined
 * when the text ends before the object does. One longer than any usage counts as something else.
 */
export function objectBehind(text: string, from: number): string | undefined {
  const open = valueBehind(text, from);
  if (open === undefined) return undefined;
  if (text.charCodeAt(open) !== 0x7b) return "";
  let depth = 0;
  for (let at = open; at < text.length; at++) {
    if (at - open > longestUsage) return "";
    const code = text.charCodeAt(at);
    if (code === 0x22) {
      at = endOfString(text, at);
      if (at === -1) break;
    } else if (code === 0x7b) depth++;
    else if (code === 0x7d && --depth === 0) return text.slice(open, at + 1);
  }
  return text.length - open > longestUsage ? "" : undefined;
}

/** Index of the first character of the value behind a key that ends at `from`; −1 when it is no key; undefined when the text ends before. */
export function valueBehind(text: string, from: number): number | undefined {
  const colon = skipSpace(text, from);
  if (colon >= text.length) return undefined;
  if (text.charCodeAt(colon) !== 0x3a) return -1;
  const value = skipSpace(text, colon + 1);
  return value >= text.length ? undefined : value;
}

function skipSpace(text: string, from: number): number {
  let at = from;
  while (at < text.length && text.charCodeAt(at) <= 0x20) at++;
  return at;
}

/** A `usage` object's text, in the words of any dialect; undefined when it is none. */
export function decodeUsage(text: string): ToldUsage | undefined {
  const usage = parseObject(text);
  return usage === undefined ? undefined : readUsage(usage);
}

/**
 * What two counts of one answer say together: of the answer the larger, for it only grows on its way; of the prompt the
 * later, for Anthropic's form has one at the start already, where it may be an estimate.
 */
export function mergeUsage(one: ToldUsage | undefined, other: ToldUsage | undefined): ToldUsage | undefined {
  if (one === undefined || other === undefined) return one ?? other;
  const { prompt, cached } = (other.prompt ?? 0) > 0 ? other : one;
  return {
    prompt: prompt ?? other.prompt,
    cached: cached ?? one.cached ?? other.cached,
    completion: larger(one.completion, other.completion),
  };
}

/** What llama-server (`timings`, or beside the text of `/infill`) and Ollama's own paths say in the end of an answer that tells no `usage`. */
export function readEnding(text: string): ToldUsage | undefined {
  const mark = '"timings"';
  const at = text.lastIndexOf(mark);
  const timings = at === -1 ? undefined : parseObject(objectBehind(text, at + mark.length) ?? "");
  // llama-server's `tokens_cached` is no count of what was kept.
  const prompt = lastCount(text, /"(?:tokens_evaluated|prompt_eval_count)"\s*:\s*(\d{1,9})\b/g);
  const completion = lastCount(text, /"(?:tokens_predicted|eval_count)"\s*:\s*(\d{1,9})\b/g);
  const native = prompt === undefined && completion === undefined ? undefined : { prompt, completion };
  return mergeUsage(timings === undefined ? undefined : readTimings(timings), native);
}

/** OpenAI's chat and Responses, Anthropic's Messages. */
function readUsage(usage: JsonObject): ToldUsage | undefined {
  const details = usage["prompt_tokens_details"] ?? usage["input_tokens_details"];
  const read = toCount(usage["cache_read_input_tokens"]);
  const written = toCount(usage["cache_creation_input_tokens"]);
  const completion = toCount(usage["completion_tokens"]) ?? toCount(usage["output_tokens"]);
  const prompt = toCount(usage["prompt_tokens"]) ?? toCount(usage["input_tokens"]);
  if (prompt === undefined && completion === undefined) {
    // Jina's rerank tells only this.
    const total = toCount(usage["total_tokens"]);
    return total === undefined ? undefined : { prompt: total };
  }
  return {
    // Anthropic counts what it had in its cache, or put there, beside the input.
    prompt: prompt === undefined ? undefined : prompt + (read ?? 0) + (written ?? 0),
    cached:
      read ??
      (isObject(details) ? toCount(details["cached_tokens"]) : undefined) ??
      // DeepSeek's word.
      toCount(usage["prompt_cache_hit_tokens"]),
    completion,
  };
}

/** llama-server's `timings`: `prompt_n` are those computed, `cache_n` those kept. */
function readTimings(timings: JsonObject): ToldUsage | undefined {
  const computed = toCount(timings["prompt_n"]);
  const completion = toCount(timings["predicted_n"]);
  if (computed === undefined && completion === undefined) return undefined;
  const cached = toCount(timings["cache_n"]);
  return { prompt: computed === undefined ? undefined : computed + (cached ?? 0), cached, completion };
}

function lastCount(text: string, pattern: RegExp): number | undefined {
  const found = [...text.matchAll(pattern)].at(-1)?.[1];
  return found === undefined ? undefined : Number(found);
}

function parseObject(text: string): JsonObject | undefined {
  try {
    const json = JSON.parse(text) as Json;
    return isObject(json) ? json : undefined;
  } catch {
    return undefined;
  }
}

function toCount(value: Json | undefined): number | undefined {
  if (typeof value !== "number" || !(value >= 0)) return undefined;
  return Math.min(Math.round(value), mostTokens);
}

function larger(one: number | undefined, other: number | undefined): number | undefined {
  return one === undefined || other === undefined ? (one ?? other) : Math.max(one, other);
}
