import { isObject, type Json, type JsonObject } from "../core/json.ts";

/** Something in a request that a server may go and fetch. */
export interface MediaAddress {
  /** Path of the field, e.g. `messages[0].content[1].image_url.url`. */
  readonly at: string;
  readonly address: string;
}

/** Fields that hold what a model reads, beside `messages`; in chats, `documents` are texts for the template. */
const inputs = ["input", "prompt", "query", "queries", "documents"] as const;

/** Fields that hold text, whatever that looks like. */
const texts: ReadonlySet<string> = new Set([
  "text",
  "content",
  "refusal",
  "title",
  "name",
  "filename",
  "prompt_string",
]);

/**
 * Every address of a picture, sound, film or file that a request for an OpenAI-compatible server holds, in any of the
 * forms that llama-server and vLLM read. Data URLs are none.
 */
export function* mediaAddresses(body: JsonObject, path: string): Generator<MediaAddress> {
  const { messages } = body;
  for (const [index, message] of entriesOf(messages))
    if (isObject(message)) yield* partsOf(message, `messages[${index}]`);
  if (path === "/v1/chat/completions") return;
  for (const key of inputs) yield* walk(body[key], key, { at: key, text: true });
}

function* partsOf({ content }: JsonObject, at: string): Generator<MediaAddress> {
  for (const [index, part] of entriesOf(content)) yield* walk(part, "", { at: `${at}.content[${index}]`, text: true });
}

/** `text`: a string here is text, not a field's value. */
function* walk(
  value: Json | undefined,
  key: string,
  { at, text }: { at: string; text: boolean },
): Generator<MediaAddress> {
  if (typeof value === "string") {
    if (!text && isAddress(key, value)) yield { at, address: value };
  } else if (Array.isArray(value)) {
    for (const [index, item] of value.entries()) yield* walk(item, key, { at: `${at}[${index}]`, text });
  } else if (isObject(value)) {
    for (const name in value) yield* walk(value[name], name, { at: `${at}.${name}`, text: texts.has(name) });
  }
}

/** Under a name that says so, whatever is no data URL; elsewhere, what begins with a scheme, as base64 cannot. */
function isAddress(key: string, value: string): boolean {
  if (/^data:/i.test(value)) return false;
  return /ur[il]$/i.test(key) || /^[\s\0-\x20]*[a-z][a-z0-9+.-]*:/i.test(value);
}

function entriesOf(list: Json | undefined): Iterable<[number, Json]> {
  return Array.isArray(list) ? list.entries() : [];
}
