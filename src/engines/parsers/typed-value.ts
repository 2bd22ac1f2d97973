import { isObject, type Json, type JsonObject } from "../../core/json.ts";
import { Input, Unreadable } from "./input.ts";
import { python, readValue } from "./json-copy.ts";

/** JSON text → its value; undefined where it is none. */
export function parseJson(text: string): Json | undefined {
  try {
    return JSON.parse(text) as Json;
  } catch {
    return undefined;
  }
}

/** How a parameter's text is to be read: as it is, as JSON, or as JSON where that is what it is. */
export type ParameterKind = "string" | "json" | "either";

/** The kind of a parameter by its tool's schema; `either` for those that the schema does not tell of. */
export function parameterKind(schema: JsonObject | undefined, key: string): ParameterKind {
  const properties = schema?.["properties"];
  const property = isObject(properties) && Object.hasOwn(properties, key) ? properties[key] : undefined;
  const types = property === undefined ? null : typesOf(property, schema ?? {}, 0);
  if (types === null) return "either";
  if (!types.has("string")) return "json";
  return types.size === 1 ? "string" : "either";
}

/** JSON text of a parameter that was written without quotes; a string where it cannot be more. */
export function toJson(text: string, kind: ParameterKind): string {
  const trimmed = text.trim();
  if (kind !== "string") {
    if (parseJson(trimmed) !== undefined) return trimmed;
    const loose = readLoose(trimmed);
    if (loose !== null) return loose;
  }
  return JSON.stringify(text);
}

/** Types that a schema allows; null: any. */
function typesOf(schema: Json, document: JsonObject, depth: number): Set<string> | null {
  if (!isObject(schema) || depth > 8) return null;
  const reference = schema["$ref"];
  if (typeof reference === "string") return typesOf(resolve(reference, document), document, depth + 1);
  const listed = Array.isArray(schema["enum"]) ? schema["enum"] : "const" in schema ? [schema["const"] ?? null] : null;
  if (listed !== null) return new Set(listed.map((value) => typeOfValue(value)));
  const { type } = schema;
  if (typeof type === "string") return new Set(schema["nullable"] === true ? [type, "null"] : [type]);
  if (Array.isArray(type)) return new Set(type.filter((name) => typeof name === "string"));
  const branches = schema["anyOf"] ?? schema["oneOf"];
  if (!Array.isArray(branches)) return null;
  const each = branches.map((branch) => typesOf(branch, document, depth + 1));
  return each.reduce<Set<string> | null>(
    (union, types) => (union === null || types === null ? null : new Set([...union, ...types])),
    new Set(),
  );
}

function typeOfValue(value: Json): string {
  if (value === null) return "null";
  return Array.isArray(value) ? "array" : typeof value;
}

function resolve(reference: string, document: JsonObject): Json {
  const steps = reference.split("/").slice(1);
  return steps.reduce<Json>(
    (at, step) => (isObject(at) && Object.hasOwn(at, step) ? (at[step] ?? null) : null),
    document,
  );
}

/** Python's literals, which some templates print; null where the text is none. */
function readLoose(text: string): string | null {
  const input = new Input();
  input.add(text);
  input.close();
  const reading = readValue(input, python);
  try {
    const step = reading.next();
    const rest = input.run(/[^]+/y);
    return step.done === true && rest === "" ? step.value : null;
  } catch (error) {
    if (error instanceof Unreadable) return null;
    throw error;
  }
}
