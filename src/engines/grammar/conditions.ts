import { isObject, type Json, type JsonObject } from "../../core/json.ts";
import { same, typeOf } from "./accepts.ts";
import { objectOf, propertySchema } from "./merge.ts";
import { type Place, type Rules, under } from "./rules.ts";

const mostDependents = 4;

/** `if`, `then` and `else` as one keyword, a list, so that the conditions of several schemas can hold together. */
export function withConditionList(schema: JsonObject): JsonObject {
  const { if: condition, then, else: otherwise, ...rest } = schema;
  if (condition === undefined || Array.isArray(condition)) return schema;
  if (then === undefined && otherwise === undefined) return rest;
  return { ...rest, if: [{ condition, met: then ?? true, unmet: otherwise ?? true }] };
}

/**
 * A schema without `if` (as `withConditionList` makes it), `not`, `dependentRequired` and their like, where those can be
 * said by other keywords; what cannot be is loosened. Some of what comes out is narrower than what was asked for.
 */
export function withoutConditions(rules: Rules, schema: JsonObject, place: Place): JsonObject {
  const { if: conditions, not, dependencies, ...rest } = schema;
  let plain: JsonObject = rest;
  for (const condition of Array.isArray(conditions) ? conditions : []) {
    plain = withBranches(rules, plain, { base: rest, ...(condition as JsonObject & Condition) }, place);
  }
  if (not !== undefined) plain = withoutMatching(rules, plain, { base: rest, not }, place);
  return withoutDependents(rules, plain, { base: rest, dependencies: objectOf(dependencies) }, place);
}

interface Condition {
  readonly condition: Json;
  readonly met: Json;
  readonly unmet: Json;
}

function and(schema: JsonObject, more: Json): JsonObject {
  return { allOf: [schema, more] };
}

function withBranches(
  rules: Rules,
  schema: JsonObject,
  { base, condition, met, unmet }: Condition & { base: JsonObject },
  place: Place,
): JsonObject {
  if (typeof condition === "boolean") return and(schema, condition ? met : unmet);
  const negated = negation(condition, base);
  if (negated === null) {
    rules.loosen("if", under(place, "if"));
    return schema;
  }
  return and(schema, { anyOf: [{ allOf: [condition, met] }, { allOf: [negated, unmet] }] });
}

function withoutMatching(
  rules: Rules,
  schema: JsonObject,
  { base, not }: { base: JsonObject; not: Json },
  place: Place,
): JsonObject {
  const negated = negation(not, base);
  if (negated !== null) return and(schema, negated);
  rules.loosen("not", under(place, "not"));
  return schema;
}

/** A schema of values that do not satisfy `schema`, given that they satisfy `base`; null where none can be found. */
function negation(schema: Json, base: JsonObject): Json | null {
  if (schema === true) return false;
  if (schema === false) return true;
  if (!isObject(schema)) return null;
  const entries = Object.entries(schema).filter(([key]) => !["title", "description", "$comment"].includes(key));
  if (entries.length === 0) return false;
  if (Array.isArray(schema["anyOf"]) && entries.length === 1) {
    const parts = schema["anyOf"].map((part) => negation(part, base));
    return parts.every((part) => part !== null) ? { allOf: parts } : null;
  }
  if (Array.isArray(schema["allOf"]) && entries.length === 1) return anyNegation(schema["allOf"], base);
  const values = schema["const"] !== undefined ? [schema["const"]] : schema["enum"];
  if (Array.isArray(values)) return withoutValues(values, base);
  if (schema["type"] !== undefined && entries.length === 1) return withoutTypes([schema["type"]].flat(), base);
  const known = new Set(["required", "properties", "type"]);
  if (!entries.every(([key]) => known.has(key)) || (schema["type"] ?? "object") !== "object") return null;
  return negatedObject(schema, base);
}

function anyNegation(parts: readonly Json[], base: JsonObject): Json | null {
  const ways = parts.map((part) => negation(part, base)).filter((way) => way !== null);
  return ways.length === 0 ? null : { anyOf: ways };
}

function withoutValues(values: readonly Json[], base: JsonObject): Json | null {
  const all = base["type"] === "boolean" ? [true, false] : base["enum"];
  if (Array.isArray(all)) return { enum: all.filter((value) => !values.some((other) => same(value, other))) };
  // A value of another type is another value.
  return withoutTypes(
    [...new Set(values.map((value) => (typeOf(value) === "integer" ? "number" : typeOf(value))))],
    base,
  );
}

function withoutTypes(types: readonly Json[], base: JsonObject): Json | null {
  const all = ["object", "array", "string", "number", "boolean", "null"];
  const left = [base["type"] ?? all]
    .flat()
    .filter((type) => !types.includes(type) && !(type === "integer" && types.includes("number")));
  if (left.includes("number") && types.includes("integer")) return null;
  return left.length === 0 && base["type"] !== undefined ? null : { type: left };
}

/** An object lacks one of the required properties, or has one whose value is another. */
function negatedObject(schema: JsonObject, base: JsonObject): Json | null {
  const ways: Json[] = [];
  const required = [schema["required"] ?? []].flat().filter((key) => typeof key === "string");
  const must = new Set([base["required"] ?? []].flat());
  for (const key of required) if (!must.has(key)) ways.push({ properties: { [key]: false } });
  for (const [key, value] of Object.entries(objectOf(schema["properties"]))) {
    const own = propertySchema(base, key);
    const other = negation(value ?? true, isObject(own) ? own : {});
    if (other !== null && other !== false) ways.push({ properties: { [key]: other }, required: [key] });
  }
  return ways.length === 0 ? null : { anyOf: ways };
}

/** Each property on which others depend is either there, with them, or not there. */
function withoutDependents(
  rules: Rules,
  schema: JsonObject,
  { base, dependencies }: { base: JsonObject; dependencies: JsonObject },
  place: Place,
): JsonObject {
  const needed = {
    ...objectOf(base["dependentRequired"]),
    ...objectOf(base["dependentSchemas"]),
    ...dependencies,
  };
  const declared = objectOf(base["properties"]);
  const keys = Object.keys(needed).filter(
    (key) => declared[key] !== undefined || base["additionalProperties"] !== false,
  );
  if (keys.length > mostDependents) {
    rules.loosen(`dependentRequired of more than ${mostDependents} properties`, under(place, "dependentRequired"));
    return withoutDependentKeywords(schema);
  }
  return keys.reduce<JsonObject>((whole, key) => {
    const others = needed[key] ?? true;
    const present = Array.isArray(others) ? { required: [key, ...others] } : { allOf: [{ required: [key] }, others] };
    return and(whole, { anyOf: [{ properties: { [key]: false } }, present] });
  }, withoutDependentKeywords(schema));
}

/** They are said by what was added; beneath an `allOf` they would be found again. */
function withoutDependentKeywords(schema: JsonObject): JsonObject {
  const { dependentRequired: _required, dependentSchemas: _schemas, allOf, ...rest } = schema;
  if (!Array.isArray(allOf)) return rest;
  return { ...rest, allOf: allOf.map((part) => (isObject(part) ? withoutDependentKeywords(part) : part)) };
}
