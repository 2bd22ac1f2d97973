import type { Tool } from "../../core/chat.ts";
import { isObject, type Json, type JsonObject } from "../../core/json.ts";

/**
 * Tools in the words that every template reads: some (Hermes, Command R+) fail on a schema without a description, with
 * several types, or with alternatives. Only for templates that have refused the tools as they are.
 */
export function toPlainTools(tools: readonly Tool[]): Tool[] {
  return tools.map(({ name, description = "", parameters }) => ({
    name,
    description,
    parameters: toPlain(parameters),
  }));
}

const alternatives = ["anyOf", "oneOf", "allOf"];

function toPlain(schema: JsonObject): JsonObject {
  const chosen = alternatives.flatMap((name) => schema[name] ?? []).find((one) => isObject(one) && one.type !== "null");
  const own = Object.entries(schema).filter(([name]) => !alternatives.includes(name));
  const plain: JsonObject = { ...(isObject(chosen) ? toPlain(chosen) : {}), ...Object.fromEntries(own) };
  if (isObject(plain.properties)) {
    const properties = Object.entries(plain.properties).map(([name, value]) => [name, withDescription(value)]);
    plain.properties = Object.fromEntries(properties) as JsonObject;
  }
  if (isObject(plain.items)) plain.items = toPlain(plain.items);
  if (Array.isArray(plain.type)) plain.type = plain.type.find((type) => type !== "null") ?? "string";
  plain.type ??= "string";
  return plain;
}

function withDescription(value: Json | undefined): JsonObject {
  return { description: "", ...toPlain(isObject(value) ? value : {}) };
}
