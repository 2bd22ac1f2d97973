import type { JsonObject } from "../core/json.ts";
import { invalidValue, wrongType } from "./fields.ts";

const unitSeconds: Readonly<Record<string, number>> = { ns: 1e-9, us: 1e-6, µs: 1e-6, ms: 1e-3, s: 1, m: 60, h: 3600 };

/**
 * Ollama's field `keep_alive` in seconds, −1 for ever: a number of seconds, or a duration as Go writes it (`5m`,
 * `1h30m`, `-1m`). Throws `ApiError`.
 */
export function decodeKeepAlive(body: JsonObject): number | undefined {
  const value = body.keep_alive ?? undefined;
  if (value === undefined) return undefined;
  if (typeof value !== "number" && typeof value !== "string")
    throw wrongType("keep_alive", "a number of seconds or a duration such as 5m", value);
  const seconds = typeof value === "number" ? value : parseDuration(value.trim());
  if (!Number.isFinite(seconds))
    throw invalidValue("keep_alive", "must be a number of seconds or a duration such as 5m");
  return seconds < 0 ? -1 : seconds;
}

/** Seconds; NaN for what is no duration. */
function parseDuration(text: string): number {
  if (/^[+-]?\d{1,15}(\.\d{0,9})?$/.test(text)) return Number(text);
  const [, sign, parts = ""] = /^([+-]?)((?:\d{1,15}(?:\.\d{0,9})?(?:ns|us|µs|ms|s|m|h)){1,8})$/.exec(text) ?? [];
  if (parts === "") return Number.NaN;
  let seconds = 0;
  for (const [, amount, unit = ""] of parts.matchAll(/([\d.]+)(ns|us|µs|ms|s|m|h)/g))
    seconds += Number(amount) * (unitSeconds[unit] ?? Number.NaN);
  return sign === "-" ? -seconds : seconds;
}
