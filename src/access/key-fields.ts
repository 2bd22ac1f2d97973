import { type CallerLimits, type Role, roles } from "../core/access.ts";
import { ApiError } from "../core/errors.ts";
import { isObject, type Json, type JsonObject } from "../core/json.ts";
import { suggestion } from "../core/nearest.ts";
import type { KeyRecord } from "../state/state.ts";

/** What may be said of a key. Absent: as it is, or the default; null: none any more. Times are milliseconds since 1970. */
export interface KeyFields {
  readonly name?: string;
  readonly owner?: string | null;
  readonly expires?: number | null;
  readonly roles?: readonly Role[];
  readonly models?: readonly string[];
  readonly limits?: { readonly [Name in keyof CallerLimits]: number | null };
}

/** Every limit of a caller, and whether it is a whole number. */
export const limitNames = {
  requestsPerMinute: "whole",
  tokensPerMinute: "whole",
  concurrent: "whole",
  tokensPerDay: "whole",
  tokensPerMonth: "whole",
  spendPerDay: "money",
  spendPerMonth: "money",
} as const satisfies Record<keyof CallerLimits, "whole" | "money">;

const longestName = 64;
const longestOwner = 128;
const mostModels = 100;
const longestModel = 200;
/** Beyond this, no call would ever meet it, and sums of it would lose digits. */
const mostWhole = 1e15;
const mostMoney = 1e9;
/** What is counted: millionths of the currency. */
const leastMoney = 1e-6;

/** The fields in a JSON object, e.g. `{"name": "ci", "expires": "2027-01-31", "limits": {"tokensPerDay": 100000}}`. Throws `ApiError` that names the field. */
export function readKeyFields(json: Json, now: number): KeyFields {
  if (!isObject(json)) throw new ApiError("invalid_type", "the fields of a key must be a JSON object");
  refuseUnknown(json, fieldNames, "");
  const fields: Record<string, unknown> = {};
  for (const [name, read] of Object.entries(readers)) {
    const value = json[name];
    if (value !== undefined) fields[name] = read(value, now);
  }
  return fields as KeyFields;
}

/** The key with these fields changed. */
export function withFields(key: KeyRecord, fields: KeyFields): KeyRecord {
  const { owner, expires, limits, ...rest } = fields;
  const { owner: oldOwner, expires: oldExpires, limits: oldLimits, ...kept } = key;
  const newOwner = owner === undefined ? oldOwner : owner;
  const newExpires = expires === undefined ? oldExpires : expires;
  return {
    ...kept,
    ...rest,
    limits: withLimits(oldLimits, limits ?? {}),
    ...(newOwner === undefined || newOwner === null ? {} : { owner: newOwner }),
    ...(newExpires === undefined || newExpires === null ? {} : { expires: newExpires }),
  };
}

/** Throws `ApiError` for a field that is none of the known ones, with the nearest. `path` stands before its name. */
export function refuseUnknown(json: JsonObject, known: readonly string[], path: string): void {
  for (const name of Object.keys(json)) {
    if (known.includes(name)) continue;
    const shown = `${path}${name.slice(0, 100)}`;
    throw new ApiError(
      "unsupported_parameter",
      `there is no field ${JSON.stringify(shown)}${suggestion(name.slice(0, 100), known) || `; there are ${known.join(", ")}`}`,
      { param: shown },
    );
  }
}

const readers: Readonly<Record<keyof KeyFields, (value: Json, now: number) => unknown>> = {
  name: readName,
  owner: (value) => (value === null || value === "" ? null : readText("owner", value, longestOwner)),
  expires: readExpiry,
  roles: (value) => readList("roles", value, roles.length, readRole),
  models: (value) => readList("models", value, mostModels, readModel),
  limits: readLimits,
};

/** Every field of a key that may be set. */
export const fieldNames: readonly string[] = Object.keys(readers);

function readName(value: Json): string {
  const name = readText("name", value, longestName);
  if (/^k[a-z2-7]{12}$/.test(name)) throw wrong("name", "must not look like the id of a key");
  if (name.startsWith("-")) throw wrong("name", "must not begin with a dash");
  return name;
}

function readText(field: string, value: Json, longest: number): string {
  if (typeof value !== "string") throw new ApiError("invalid_type", `${field} must be a string`, { param: field });
  const length = [...value].length;
  if (length < 1 || length > longest) throw wrong(field, `must have 1 to ${longest} characters, and has ${length}`);
  // Control characters, and those that change the direction of a text: a name is shown in terminals.
  if (/\p{C}|\p{Zl}|\p{Zp}/u.test(value)) throw wrong(field, "must not hold control characters");
  if (value.trim() !== value) throw wrong(field, "must not begin or end with a space");
  return value;
}

const timePattern = /^\d{4}-\d\d-\d\d(?:T\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?(?:Z|[+-]\d\d:\d\d))?$/;

function readExpiry(value: Json, now: number): number | null {
  if (value === null) return null;
  const time = typeof value === "string" && timePattern.test(value) ? Date.parse(value) : Number.NaN;
  if (Number.isNaN(time))
    throw wrong("expires", 'must be a time such as "2027-01-31" or "2027-01-31T18:00:00Z" (a day begins by UTC)');
  if (time <= now) throw wrong("expires", `is in the past: ${new Date(time).toISOString()}`);
  return time;
}

function readList<T>(field: string, value: Json, most: number, read: (one: Json, path: string) => T): T[] {
  if (!Array.isArray(value)) throw new ApiError("invalid_type", `${field} must be a list`, { param: field });
  if (value.length > most) throw wrong(field, `must have at most ${most} entries, and has ${value.length}`);
  if (field === "roles" && value.length === 0)
    throw wrong(field, "must not be empty: a key that may do nothing is a revoked one");
  return [...new Set(value.map((one, index) => read(one, `${field}[${index}]`)))];
}

function readRole(value: Json, path: string): Role {
  const role = roles.find((one) => one === value);
  if (role !== undefined) return role;
  const near = typeof value === "string" ? suggestion(value.slice(0, 100), roles) : "";
  throw wrong(path, `must be one of ${roles.join(", ")}${near}`);
}

function readModel(value: Json, path: string): string {
  return readText(path, value, longestModel);
}

function readLimits(value: Json): KeyFields["limits"] {
  if (!isObject(value)) throw new ApiError("invalid_type", "limits must be a JSON object", { param: "limits" });
  refuseUnknown(value, Object.keys(limitNames), "limits.");
  const limits: Record<string, number | null> = {};
  for (const [name, kind] of Object.entries(limitNames)) {
    const limit = value[name];
    if (limit !== undefined) limits[name] = limit === null ? null : readLimit(`limits.${name}`, limit, kind);
  }
  return limits as KeyFields["limits"];
}

function readLimit(path: string, value: Json, kind: "whole" | "money"): number {
  if (typeof value !== "number") throw new ApiError("invalid_type", `${path} must be a number`, { param: path });
  if (kind === "whole" && !(Number.isInteger(value) && value >= 1 && value <= mostWhole))
    throw wrong(path, "must be a whole number, 1 or more; leave it out for no limit");
  if (!(value >= leastMoney && value <= mostWhole && (kind === "whole" || value <= mostMoney)))
    throw wrong(path, `must be from 0.000001 to ${mostMoney}; leave it out for no limit`);
  return value;
}

function withLimits(limits: CallerLimits, change: NonNullable<KeyFields["limits"]>): CallerLimits {
  const entries = Object.entries({ ...limits, ...change }).filter(([, limit]) => limit !== null && limit !== undefined);
  return Object.fromEntries(entries) as CallerLimits;
}

function wrong(field: string, rule: string): ApiError {
  return new ApiError("invalid_value", `${field} ${rule}`, { param: field });
}
