import { isObject, type Json, type JsonObject } from "../../core/json.ts";
import { matches, same } from "./accepts.ts";

/** Keywords that say nothing about which values are valid. */
export const annotations: ReadonlySet<string> = new Set(
  `$schema $id id $anchor $dynamicAnchor $comment $defs definitions $vocabulary title description default examples example
  deprecated readOnly writeOnly contentMediaType contentEncoding contentSchema externalDocs xml discriminator`.split(
    /\s+/,
  ),
);

const largest: Readonly<Record<string, true>> = {
  minLength: true,
  minItems: true,
  minProperties: true,
  minContains: true,
};
const smallest: Readonly<Record<string, true>> = {
  maxLength: true,
  maxItems: true,
  maxProperties: true,
  maxContains: true,
};
const mostBranches = 256;

/** Why two schemas cannot become one. `keyword` is the one on which they disagree. */
export class MergeError extends Error {
  readonly keyword: string;

  constructor(keyword: string) {
    super(`two schemas that must both hold disagree on ${keyword}`);
    this.keyword = keyword;
  }
}

/** A schema of what satisfies both. Neither has `$ref` or `allOf` at its top. Throws `MergeError`. */
export function bothSchemas(a: Json, b: Json): Json {
  if (a === false || b === false) return false;
  if (!isObject(a)) return b;
  if (!isObject(b)) return a;
  const [one, other] = [plainBounds(a), plainBounds(b)];
  const merged: JsonObject = { ...one };
  for (const [keyword, value] of Object.entries(other)) {
    const mine = merged[keyword];
    if (value === undefined || annotations.has(keyword)) continue;
    if (mine === undefined || same(mine, value)) merged[keyword] = value;
    else if (!objectKeywords.has(keyword)) {
      const both = bothValues(keyword, mine, value);
      if (both === undefined) throw new MergeError(keyword);
      merged[keyword] = both;
    }
  }
  if (isObjectSchema(one) || isObjectSchema(other)) Object.assign(merged, bothObjects(one, other));
  return merged;
}

function bothValues(keyword: string, a: Json, b: Json): Json | undefined {
  if (typeof a === "number" && typeof b === "number") {
    if (largest[keyword] === true || keyword === "minimum" || keyword === "exclusiveMinimum") return Math.max(a, b);
    if (smallest[keyword] === true || keyword === "maximum" || keyword === "exclusiveMaximum") return Math.min(a, b);
    if (keyword === "multipleOf" && Number.isInteger(a) && Number.isInteger(b)) return leastCommonMultiple(a, b);
  }
  switch (keyword) {
    case "type":
      return sharedTypes([a].flat(), [b].flat());
    case "enum":
      return Array.isArray(a) && Array.isArray(b) ? a.filter((one) => b.some((other) => same(one, other))) : undefined;
    case "pattern":
    case "format":
      return [...new Set([a, b].flat())];
    case "uniqueItems":
      return a === true || b === true;
    case "items":
    case "additionalItems":
    case "propertyNames":
    case "unevaluatedProperties":
    case "unevaluatedItems":
    case "contains":
      return keyword !== "contains" && !Array.isArray(a) && !Array.isArray(b) ? { allOf: [a, b] } : undefined;
    case "prefixItems":
      if (!Array.isArray(a) || !Array.isArray(b) || a.length !== b.length) return undefined;
      return a.map((item, index) => ({ allOf: [item, b[index] as Json] }));
    case "not":
      return { anyOf: [a, b] };
    case "if":
      // A list of conditions: see `withConditionList`.
      return [a, b].flat();
    case "anyOf":
    case "oneOf":
      return Array.isArray(a) && Array.isArray(b) ? products(a, b) : undefined;
    default:
      return undefined;
  }
}

/** Every branch of one with every branch of the other. */
export function products(a: readonly Json[], b: readonly Json[]): Json[] | undefined {
  if (a.length * b.length > mostBranches) return undefined;
  return a.flatMap((one) => b.map((other) => ({ allOf: [one, other] })));
}

function sharedTypes(a: readonly Json[], b: readonly Json[]): Json {
  const shared = a.flatMap((type) => {
    if (b.includes(type)) return [type];
    if (type === "integer" && b.includes("number")) return ["integer"];
    return type === "number" && b.includes("integer") ? ["integer"] : [];
  });
  return shared.length === 1 ? (shared[0] as Json) : [...new Set(shared)];
}

function leastCommonMultiple(a: number, b: number): number {
  const divisor = (x: number, y: number): number => (y === 0 ? x : divisor(y, x % y));
  return (a / divisor(a, b)) * b;
}

const objectKeywords: ReadonlySet<string> = new Set([
  "properties",
  "patternProperties",
  "additionalProperties",
  "required",
  "dependentRequired",
]);

function isObjectSchema(schema: JsonObject): boolean {
  return [...objectKeywords].some((keyword) => schema[keyword] !== undefined);
}

/** A property that only one of them names must still satisfy what the other says about the rest. */
function bothObjects(a: JsonObject, b: JsonObject): JsonObject {
  const [mine, yours] = [objectOf(a["properties"]), objectOf(b["properties"])];
  const merged: JsonObject = {};
  const keys = [...new Set([...Object.keys(mine), ...Object.keys(yours)])];
  // Not by assignment: a key may be `__proto__`.
  const properties = keys.map((key) => [key, both(propertySchema(a, key), propertySchema(b, key))] as const);
  if (keys.length > 0) merged["properties"] = Object.fromEntries(properties);
  const patterns = { ...objectOf(a["patternProperties"]) };
  for (const [pattern, schema] of Object.entries(objectOf(b["patternProperties"]))) {
    patterns[pattern] = both(patterns[pattern], schema);
  }
  if (Object.keys(patterns).length > 0) merged["patternProperties"] = patterns;
  const others = both(a["additionalProperties"], b["additionalProperties"]);
  if (others !== undefined) merged["additionalProperties"] = others;
  const required = [a["required"] ?? [], b["required"] ?? []].flat();
  if (required.length > 0) merged["required"] = [...new Set(required)];
  const dependent = { ...objectOf(a["dependentRequired"]) };
  for (const [key, keys] of Object.entries(objectOf(b["dependentRequired"]))) {
    dependent[key] = [...new Set([dependent[key] ?? [], keys ?? []].flat())];
  }
  if (Object.keys(dependent).length > 0) merged["dependentRequired"] = dependent;
  return merged;
}

/** What an object schema says of one property; undefined when it says nothing. */
export function propertySchema(schema: JsonObject, key: string): Json | undefined {
  const own = objectOf(schema["properties"]);
  const found: Json[] = [];
  if (Object.hasOwn(own, key) && own[key] !== undefined) found.push(own[key]);
  for (const [pattern, value] of Object.entries(objectOf(schema["patternProperties"]))) {
    if (value !== undefined && matches(pattern, key)) found.push(value);
  }
  if (found.length === 0) return schema["additionalProperties"];
  return found.length === 1 ? found[0] : { allOf: found };
}

function both(a: Json | undefined, b: Json | undefined): Json | undefined {
  if (a === undefined || a === true) return b ?? a;
  if (b === undefined || b === true || same(a, b)) return a;
  return a === false || b === false ? false : { allOf: [a, b] };
}

export function objectOf(value: Json | undefined): JsonObject {
  return isObject(value) ? value : {};
}

/** `const` as an enum of one, and draft 4's `exclusiveMinimum: true` as a number, so that both can be compared. */
export function plainBounds(schema: JsonObject): JsonObject {
  const plain = { ...schema };
  if (plain["const"] !== undefined) {
    const only = plain["const"];
    plain["enum"] = Array.isArray(plain["enum"]) && !plain["enum"].some((one) => same(one, only)) ? [] : [only];
    delete plain["const"];
  }
  for (const [exclusive, bound] of [
    ["exclusiveMinimum", "minimum"],
    ["exclusiveMaximum", "maximum"],
  ] as const) {
    if (plain[exclusive] === true && plain[bound] !== undefined) {
      plain[exclusive] = plain[bound];
      delete plain[bound];
    } else if (typeof plain[exclusive] === "boolean") delete plain[exclusive];
  }
  return plain;
}
