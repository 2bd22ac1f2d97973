import { isObject, type Json, type JsonObject } from "../../core/json.ts";
import { type Automaton, recognises, toAutomaton } from "./automaton.ts";
import { formatPattern } from "./formats.ts";
import { parsePattern, PatternError } from "./regular-expression.ts";

/** The name of a value's type as JSON Schema has it; an integer is also a `number`. */
export function typeOf(value: Json): string {
  if (value === null) return "null";
  if (Array.isArray(value)) return "array";
  if (typeof value === "number") return Number.isInteger(value) ? "integer" : "number";
  return typeof value;
}

export function isType(value: Json, type: Json): boolean {
  const actual = typeOf(value);
  return actual === type || (actual === "integer" && type === "number");
}

/**
 * Whether a value satisfies what a schema says by itself: its type, values, bounds, pattern, required and forbidden
 * properties, and whatever lies directly below. Keywords that combine schemas are not looked at.
 */
export function accepts(schema: Json, value: Json): boolean {
  if (typeof schema === "boolean") return schema;
  if (!isObject(schema)) return true;
  const types = [schema["type"] ?? []].flat();
  if (types.length > 0 && !types.some((type) => isType(value, type))) return false;
  if (schema["const"] !== undefined && !same(schema["const"], value)) return false;
  if (Array.isArray(schema["enum"]) && !schema["enum"].some((one) => same(one, value))) return false;
  if (typeof value === "string") return acceptsText(schema, value);
  if (typeof value === "number") return acceptsNumber(schema, value);
  if (Array.isArray(value)) return acceptsList(schema, value);
  return isObject(value) ? acceptsObject(schema, value) : true;
}

/** Equal as JSON, whatever the order of properties. */
export function same(a: Json, b: Json): boolean {
  if (a === b) return true;
  if (Array.isArray(a)) {
    return Array.isArray(b) && a.length === b.length && a.every((item, index) => same(item, b[index] as Json));
  }
  if (!isObject(a) || !isObject(b)) return false;
  const keys = Object.keys(a);
  return (
    keys.length === Object.keys(b).length &&
    keys.every((key) => Object.hasOwn(b, key) && same(a[key] as Json, b[key] as Json))
  );
}

function acceptsText(schema: JsonObject, text: string): boolean {
  const length = [...text].length;
  const { minLength, maxLength } = schema;
  if (typeof minLength === "number" && length < minLength) return false;
  if (typeof maxLength === "number" && length > maxLength) return false;
  const patterns = [schema["pattern"] ?? []].flat().filter((pattern) => typeof pattern === "string");
  const formats = [schema["format"] ?? []].flat().filter((format) => typeof format === "string");
  return [...patterns, ...formats.map((format) => formatPattern(format) ?? "")].every((pattern) =>
    matches(pattern, text),
  );
}

/** Whether the pattern is found in a text; a pattern that no grammar can express counts as found. */
export function matches(pattern: string, text: string): boolean {
  const known = automata.get(pattern) ?? readPattern(pattern);
  automata.set(pattern, known);
  if (automata.size > mostAutomata) automata.clear();
  return known === "inexpressible" || recognises(known, text);
}

/** Of the patterns of the schema at hand, which many keys are compared with. */
const automata = new Map<string, Automaton | "inexpressible">();
const mostAutomata = 50;

function readPattern(pattern: string): Automaton | "inexpressible" {
  try {
    return toAutomaton(parsePattern(pattern));
  } catch (error) {
    if (error instanceof PatternError) return "inexpressible";
    throw error;
  }
}

function acceptsNumber(schema: JsonObject, value: number): boolean {
  const { minimum, maximum, exclusiveMinimum, exclusiveMaximum, multipleOf } = schema;
  if (typeof minimum === "number" && (value < minimum || (exclusiveMinimum === true && value === minimum)))
    return false;
  if (typeof maximum === "number" && (value > maximum || (exclusiveMaximum === true && value === maximum)))
    return false;
  if (typeof exclusiveMinimum === "number" && value <= exclusiveMinimum) return false;
  if (typeof exclusiveMaximum === "number" && value >= exclusiveMaximum) return false;
  if (typeof multipleOf !== "number" || multipleOf <= 0) return true;
  const times = value / multipleOf;
  return Math.abs(times - Math.round(times)) < 1e-9;
}

function acceptsList(schema: JsonObject, list: readonly Json[]): boolean {
  const { minItems, maxItems, items, prefixItems } = schema;
  if (typeof minItems === "number" && list.length < minItems) return false;
  if (typeof maxItems === "number" && list.length > maxItems) return false;
  if (schema["uniqueItems"] === true && list.some((item, at) => list.slice(0, at).some((other) => same(item, other)))) {
    return false;
  }
  const first = Array.isArray(prefixItems) ? prefixItems : Array.isArray(items) ? items : [];
  const rest = Array.isArray(items) ? (schema["additionalItems"] ?? true) : (items ?? true);
  return list.every((item, index) => accepts(first[index] ?? rest, item));
}

function acceptsObject(schema: JsonObject, object: JsonObject): boolean {
  const keys = Object.keys(object);
  const { minProperties, maxProperties, required, properties, additionalProperties } = schema;
  if (typeof minProperties === "number" && keys.length < minProperties) return false;
  if (typeof maxProperties === "number" && keys.length > maxProperties) return false;
  if (Array.isArray(required) && required.some((key) => typeof key === "string" && !Object.hasOwn(object, key))) {
    return false;
  }
  return keys.every((key) => {
    const known = isObject(properties) && Object.hasOwn(properties, key) ? properties[key] : undefined;
    const other = schema["patternProperties"] === undefined ? additionalProperties : true;
    return accepts(known ?? other ?? true, object[key] as Json);
  });
}
