import type { Json, JsonObject } from "../../core/json.ts";

const keywords: readonly (readonly [type: string, keywords: readonly string[]])[] = [
  [
    "object",
    `properties required additionalProperties patternProperties propertyNames minProperties maxProperties
    unevaluatedProperties`.split(/\s+/),
  ],
  ["array", ["items", "prefixItems", "additionalItems", "minItems", "maxItems", "uniqueItems", "contains"]],
  ["string", ["pattern", "minLength", "maxLength", "format"]],
  ["number", ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"]],
];

/** The type that a JSON Schema without `type` can only mean by its other keywords; null when they say nothing. */
export function impliedType(schema: JsonObject): Json {
  return keywords.find(([, list]) => list.some((keyword) => schema[keyword] !== undefined))?.[0] ?? null;
}
