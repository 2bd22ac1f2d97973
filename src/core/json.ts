/** Any value that JSON can say. */
export type Json = string | number | boolean | null | Json[] | JsonObject;
/** A JSON object. A key may be absent, hence `undefined`; `JSON.stringify` leaves such keys out. */
export interface JsonObject {
  [key: string]: Json | undefined;
}

export function isObject(value: unknown): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
