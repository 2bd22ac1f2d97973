import { isObject, type Json, type JsonObject } from "../core/json.ts";
import { followReference } from "../core/json-pointer.ts";

/** Schemas come from callers: beyond these bounds a branch becomes "any value". */
const maxDepth = 24;
const maxNodes = 5000;

/**
 * The schema with every local `$ref` replaced by what it means, for servers that do not follow references or that get
 * the schema as a part of a larger one. A recursive branch ends as `{}` (any value). Remote references become `{}`.
 */
export function inlineRefs(schema: JsonObject): JsonObject {
  const budget = { nodes: 0 };
  const visit = (value: Json, open: readonly string[], depth: number): Json => {
    if (++budget.nodes > maxNodes || depth > maxDepth) return isObject(value) ? {} : value;
    if (Array.isArray(value)) return value.map((item) => visit(item, open, depth + 1));
    if (!isObject(value)) return value;
    if (typeof value.$ref === "string") {
      const target = open.includes(value.$ref) ? undefined : followReference(schema, value.$ref);
      const { $ref, ...beside } = value;
      const merged = !isObject(target) ? beside : { ...target, ...beside };
      return visit(merged, [...open, $ref as string], depth + 1);
    }
    const copy: JsonObject = {};
    for (const [key, item] of Object.entries(value)) {
      if (key !== "$defs" && key !== "definitions" && key !== "$schema" && item !== undefined)
        copy[key] = visit(item, open, depth + 1);
    }
    return copy;
  };
  return visit(schema, [], 0) as JsonObject;
}

/**
 * The part of JSON Schema that Ollama's tool type holds (its api/types.go): everything else is dropped there in
 * silence, so `const` becomes an `enum`, `oneOf` an `anyOf`, `allOf` is merged, and the other constraints are told to
 * the model in the description.
 */
export function toOllamaParameters(schema: JsonObject): JsonObject {
  const { properties, required } = toProperty(inlineRefs(schema));
  return { type: "object", properties: properties ?? {}, ...(required === undefined ? {} : { required }) };
}

function toProperty(given: Json | undefined): JsonObject {
  if (!isObject(given)) return {};
  const schema = mergeAllOf(given);
  const kept: JsonObject = {};
  for (const key of ["type", "required"]) if (schema[key] !== undefined) kept[key] = schema[key];
  const choices = schema.const === undefined ? schema.enum : [schema.const];
  if (choices !== undefined) kept.enum = choices;
  const variants = [schema.anyOf, schema.oneOf].find(Array.isArray);
  if (variants !== undefined) kept.anyOf = variants.map(toProperty);
  if (isObject(schema.items)) kept.items = toProperty(schema.items);
  if (isObject(schema.properties)) {
    kept.properties = Object.fromEntries(
      Object.entries(schema.properties).map(([name, property]) => [name, toProperty(property)]),
    );
  }
  const description = describe(schema);
  if (description !== "") kept.description = description;
  return kept;
}

function mergeAllOf(schema: JsonObject): JsonObject {
  if (!Array.isArray(schema.allOf)) return schema;
  const { allOf, ...merged } = schema;
  for (const part of allOf as Json[]) {
    if (!isObject(part)) continue;
    const { properties, required, ...rest } = mergeAllOf(part);
    Object.assign(merged, rest);
    if (isObject(properties))
      merged.properties = { ...(isObject(merged.properties) ? merged.properties : {}), ...properties };
    if (Array.isArray(required))
      merged.required = [...(Array.isArray(merged.required) ? merged.required : []), ...required];
  }
  return merged;
}

const constraints = [
  "default",
  "format",
  "pattern",
  "minimum",
  "maximum",
  "exclusiveMinimum",
  "exclusiveMaximum",
  "multipleOf",
  "minLength",
  "maxLength",
  "minItems",
  "maxItems",
  "uniqueItems",
];

function describe(schema: JsonObject): string {
  const said =
    typeof schema.description === "string" ? schema.description : typeof schema.title === "string" ? schema.title : "";
  const lost = constraints
    .filter((key) => schema[key] !== undefined && Math.abs(Number(schema[key])) !== Number.MAX_SAFE_INTEGER)
    .map((key) => `${key}: ${JSON.stringify(schema[key])}`);
  return lost.length === 0 ? said : `${said === "" ? "" : `${said} `}(${lost.join(", ")})`;
}
