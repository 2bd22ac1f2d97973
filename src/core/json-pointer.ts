import { isObject, type Json, type JsonObject } from "./json.ts";

/** What a reference within a document means: `#/$defs/item` → that part. Undefined for what is not there, and for other documents. */
export function followReference(document: JsonObject, reference: string): Json | undefined {
  if (reference === "#") return document;
  if (!reference.startsWith("#/")) return undefined;
  let at: Json | undefined = document;
  for (const key of reference.slice(2).split("/")) {
    const name = decoded(key).replaceAll("~1", "/").replaceAll("~0", "~");
    if (isObject(at)) at = Object.hasOwn(at, name) ? at[name] : undefined;
    else at = Array.isArray(at) ? at[Number(name)] : undefined;
  }
  return at;
}

function decoded(key: string): string {
  try {
    return decodeURIComponent(key);
  } catch {
    return key;
  }
}
