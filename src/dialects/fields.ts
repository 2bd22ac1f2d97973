import { ApiError } from "../core/errors.ts";
import { isObject, type Json, type JsonObject } from "../core/json.ts";

/** Bounds of a number, both included. */
export interface Range {
  readonly min?: number;
  readonly max?: number;
}

// Every reader takes the object, the key and the path of the object ("" at the top). `null` counts as absent, as it
// does for OpenAI. A wrong type throws `invalid_type`, a value out of range `invalid_value`, both with `param`.

export function readString(from: JsonObject, key: string, at = ""): string | undefined {
  const value = from[key] ?? undefined;
  if (value === undefined || typeof value === "string") return value;
  throw wrongType(join(at, key), "a string", value);
}

export function readBoolean(from: JsonObject, key: string, at = ""): boolean | undefined {
  const value = from[key] ?? undefined;
  if (value === undefined || typeof value === "boolean") return value;
  throw wrongType(join(at, key), "true or false", value);
}

export function readNumber(from: JsonObject, key: string, range: Range = {}, at = ""): number | undefined {
  const value = from[key] ?? undefined;
  if (value === undefined) return undefined;
  if (typeof value !== "number") throw wrongType(join(at, key), "a number", value);
  const { min = -Infinity, max = Infinity } = range;
  if (value < min || value > max) throw invalidValue(join(at, key), `must be ${inWords(range)}`);
  return value;
}

export function readInteger(from: JsonObject, key: string, range: Range = {}, at = ""): number | undefined {
  const value = readNumber(from, key, range, at);
  if (value === undefined || Number.isInteger(value)) return value;
  throw wrongType(join(at, key), "a whole number", value);
}

export function readObject(from: JsonObject, key: string, at = ""): JsonObject | undefined {
  const value = from[key] ?? undefined;
  if (value === undefined || isObject(value)) return value;
  throw wrongType(join(at, key), "an object", value);
}

export function readArray(from: JsonObject, key: string, at = ""): Json[] | undefined {
  const value = from[key] ?? undefined;
  if (value === undefined || Array.isArray(value)) return value;
  throw wrongType(join(at, key), "an array", value);
}

/** What `read` found, or `missing_required_parameter`. */
export function required<Value>(value: Value | undefined, param: string): Value {
  if (value !== undefined) return value;
  throw new ApiError("missing_required_parameter", `the field \`${param}\` is missing`, { param });
}

/** An element of an array that must be an object. */
export function asObject(value: Json | undefined, param: string): JsonObject {
  if (isObject(value)) return value;
  throw wrongType(param, "an object", value);
}

export function wrongType(param: string, wanted: string, found: Json | undefined): ApiError {
  return new ApiError("invalid_type", `\`${param}\` must be ${wanted}, not ${nameOf(found)}`, { param });
}

/** `rule` continues the sentence that starts with the field's path: "must not be empty". */
export function invalidValue(param: string, rule: string): ApiError {
  return new ApiError("invalid_value", `\`${param}\` ${rule}`, { param });
}

export function unsupportedParameter(param: string, rule: string): ApiError {
  return new ApiError("unsupported_parameter", `\`${param}\` ${rule}`, { param });
}

/** A value of the caller's, fit to be repeated in a 4xx message: short, and none of the figures on which clients retry. */
export function quoted(value: string): string {
  const risky = /429|50[0234]|524|try again|overloaded|timed out|server error|rate limit/i.test(value);
  if (risky || value === "") return "this value";
  return JSON.stringify(value.length > 64 ? `${value.slice(0, 64)}…` : value);
}

/** The object without the keys named. */
export function without(object: JsonObject, keys: ReadonlySet<string>): JsonObject {
  return Object.fromEntries(Object.entries(object).filter(([key]) => !keys.has(key)));
}

/** The fields that have a value: `exactOptionalPropertyTypes` tells absent from undefined. */
export function defined<Fields extends object>(
  fields: Fields,
): { [Key in keyof Fields]?: Exclude<Fields[Key], undefined> } {
  const kept: Partial<Fields> = {};
  for (const key of Object.keys(fields) as (keyof Fields)[]) if (fields[key] !== undefined) kept[key] = fields[key];
  return kept as { [Key in keyof Fields]?: Exclude<Fields[Key], undefined> };
}

function join(at: string, key: string): string {
  return at === "" ? key : `${at}.${key}`;
}

function nameOf(value: Json | undefined): string {
  if (value === undefined) return "absent";
  if (value === null) return "null";
  if (Array.isArray(value)) return "an array";
  if (typeof value === "number" && !Number.isInteger(value)) return "a fraction";
  return (
    { object: "an object", string: "a string", number: "a number", boolean: "a boolean" }[typeof value as string] ??
    typeof value
  );
}

function inWords({ min, max }: Range): string {
  if (min === undefined) return `at most ${max}`;
  return max === undefined ? `at least ${min}` : `from ${min} to ${max}`;
}
