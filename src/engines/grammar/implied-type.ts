import type { Json, JsonObject } from "../../core/json.ts";

/** The type that a JSON Schema without `type` can only mean by its other keywords; null when they say nothing. */
export function impliedType(schema: JsonObject): Json {
  if (
    schema["properties"] !== undefined ||
    schema["required"] !== undefined ||
    schema["additionalProperties"] !== undefined
  )
    return "object";
  if (schema["items"] !== undefined || schema["prefixItems"] !== undefined) return "array";
  if (schema["minLength"] !== undefined || schema["maxLength"] !== undefined) return "string";
  return null;
}
