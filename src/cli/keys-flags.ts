import { limitNames } from "../access/key-fields.ts";
import { parseDuration } from "../config/units.ts";
import { ApiError } from "../core/errors.ts";
import type { Json, JsonObject } from "../core/json.ts";
import { type Options, type ReadFlags, UsageError } from "./command.ts";

type Flags = ReadFlags["flags"];

/** `requestsPerMinute` → `requests-per-minute`. */
const limitFlags: ReadonlyMap<string, string> = new Map(
  Object.keys(limitNames).map((name) => [name, name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)]),
);

/** Flags that set a field of a key. */
export const fieldFlags: Options = {
  owner: { type: "string" },
  expires: { type: "string" },
  models: { type: "string" },
  role: { type: "string" },
  ...Object.fromEntries([...limitFlags.values()].map((flag) => [flag, { type: "string" as const }])),
};

/** The fields that the flags say, as JSON for `readKeyFields`. `none` takes a bound away. Throws `UsageError`. */
export function toFields(flags: Flags, now: number): JsonObject {
  const { owner, expires, models, role, name } = flags;
  const limits: JsonObject = {};
  for (const [field, flag] of limitFlags) {
    const value = flags[flag];
    if (typeof value === "string") limits[field] = toNumber(flag, value);
  }
  return {
    ...(typeof name === "string" ? { name } : {}),
    ...(typeof owner === "string" ? { owner: owner === "none" ? null : owner } : {}),
    ...(typeof expires === "string" ? { expires: toTime(expires, now) } : {}),
    ...(typeof models === "string" ? { models: toWords(models).filter((model) => model !== "*") } : {}),
    ...(typeof role === "string" ? { roles: toWords(role) } : {}),
    ...(Object.keys(limits).length > 0 ? { limits } : {}),
  };
}

/** What `read` returns; a refused field is said by its flag. Throws `UsageError`. */
export function byFlags<T>(read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (!(error instanceof ApiError) || error.param === null) throw error;
    const flag = toFlag(error.param);
    throw new UsageError(flag === undefined ? error.message : error.message.replace(error.param, flag));
  }
}

/** A duration such as `24h` in milliseconds. Throws `UsageError`. */
export function toDuration(flag: string, text: string): number {
  const duration = parseDuration(text);
  if (duration >= 0) return duration;
  throw new UsageError(`--${flag} wants a duration such as 24h or 30m, not ${JSON.stringify(text)}`);
}

function toFlag(param: string): string | undefined {
  const [, limit] = /^limits\.(\w+)$/.exec(param) ?? [];
  if (limit !== undefined) return `--${limitFlags.get(limit) ?? limit}`;
  if (param.startsWith("roles")) return "--role";
  if (param.startsWith("models")) return "--models";
  return param === "owner" || param === "expires" ? `--${param}` : undefined;
}

function toNumber(flag: string, text: string): number | null {
  if (text === "none") return null;
  const [, digits, unit] = /^(-?\d+(?:\.\d+)?(?:e\d+)?)([kM]?)$/.exec(text) ?? [];
  if (digits === undefined) throw new UsageError(`--${flag} wants a number such as 60, 200k or 1.5M, or none`);
  return Number(digits) * (unit === "k" ? 1e3 : unit === "M" ? 1e6 : 1);
}

function toTime(text: string, now: number): Json {
  if (text === "never" || text === "none") return null;
  const lifetime = parseDuration(text);
  if (Number.isNaN(lifetime)) return text;
  if (lifetime > 0 && lifetime < 1e14) return new Date(now + lifetime).toISOString();
  throw new UsageError(`--expires wants a duration such as 90d, a day such as 2027-01-31, or never`);
}

function toWords(text: string): string[] {
  return text
    .split(",")
    .map((word) => word.trim())
    .filter((word) => word !== "");
}
