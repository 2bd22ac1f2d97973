import { isObject, type Json, type JsonObject } from "../../core/json.ts";
import { accepts, isType, same } from "./accepts.ts";
import { objectOf, propertySchema } from "./merge.ts";

/** Properties of properties that are compared. */
const deepest = 4;

/**
 * Whether nothing that a grammar writes for `a` is valid for `b` too. Both are schemas as they stand after references
 * were followed; false means: not known.
 */
export function excludes(a: Json, b: Json, resolve: (schema: Json) => Json, depth = 0): boolean {
  if (depth > deepest) return false;
  if (a === false || b === false) return true;
  if (!isObject(a) || !isObject(b)) return false;
  const [mine, yours] = [typesOf(a), typesOf(b)];
  if (mine !== null && yours !== null && !mine.some((type) => yours.some((other) => overlaps(type, other))))
    return true;
  const values = valuesOf(a);
  if (values !== null) return values.every((value) => !accepts(b, value));
  const others = valuesOf(b);
  if (others !== null) return others.every((value) => !accepts(a, value));
  if (!mine?.every((type) => type === "object") || !yours?.every((type) => type === "object")) return false;
  return excludesObjects(a, b, resolve, depth);
}

function excludesObjects(a: JsonObject, b: JsonObject, resolve: (schema: Json) => Json, depth: number): boolean {
  const required = (schema: JsonObject): string[] =>
    [schema["required"] ?? []].flat().filter((key) => typeof key === "string");
  // Where nothing is said of further properties, the grammar writes none.
  const written = new Set([...Object.keys(objectOf(a["properties"])), ...required(a)]);
  const open = a["patternProperties"] !== undefined || (a["additionalProperties"] ?? written.size === 0) !== false;
  if (!open && required(b).some((key) => !written.has(key))) return true;
  return required(a).some((key) => {
    const [one, other] = [propertySchema(a, key), propertySchema(b, key)];
    if (other === false) return true;
    return one !== undefined && other !== undefined && excludes(resolve(one), resolve(other), resolve, depth + 1);
  });
}

function typesOf(schema: JsonObject): Json[] | null {
  if (schema["type"] !== undefined) return [schema["type"]].flat();
  const values = valuesOf(schema);
  if (values !== null) return null;
  return schema["properties"] !== undefined || schema["required"] !== undefined ? ["object"] : null;
}

function valuesOf(schema: JsonObject): Json[] | null {
  if (schema["const"] !== undefined) return [schema["const"]];
  if (!Array.isArray(schema["enum"])) return null;
  const types = [schema["type"] ?? []].flat();
  return schema["enum"].filter((value) => types.length === 0 || types.some((type) => isType(value, type)));
}

function overlaps(a: Json, b: Json): boolean {
  return same(a, b) || (a === "integer" && b === "number") || (a === "number" && b === "integer");
}
