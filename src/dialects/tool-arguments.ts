import { isObject, type Json, type JsonObject } from "../core/json.ts";
import { endOfString } from "../core/parse-json.ts";
import { findMisfit, type Misfit, toFitting } from "./tool-schema.ts";

/** Arguments of a call as they may go on, or why they may not. */
export type SoundArguments = { readonly text: string } | { readonly problem: Misfit };

export interface ArgumentsAsked {
  /** The tool's schema; absent: any object will do. */
  readonly schema?: JsonObject;
  /** Whether the model ended the text itself: what was cut off is not closed. */
  readonly whole: boolean;
}

/** Most lists and objects of arguments that are put right; no tool takes so many. */
const mostNested = 1000;

/**
 * Arguments as a model wrote them → as its tool takes them. Text that is sound stays as it is, byte for byte. What has but
 * one reading is put right; for all else the problem is told, in words that the model understands.
 */
export function soundArguments(text: string, { schema = {}, whole }: ArgumentsAsked): SoundArguments {
  if (text.trim() === "") return check({}, "{}", schema);
  const value = parse(text);
  if (isObject(value)) {
    const misfit = findMisfit(value, schema);
    if (misfit === undefined) return { text };
  }
  if (isTooNested(text)) return value === undefined ? notJson : { problem: "the arguments are nested too deep" };
  const mended = value === undefined && whole ? mendJson(text) : undefined;
  const read =
    value ?? (mended === undefined ? undefined : parse(mended)) ?? (whole ? plainText(text, schema) : undefined);
  if (read === undefined) return notJson;
  return fit(unquoted(read), mended ?? text, schema);
}

/**
 * JSON text whose slips have but one reading, put right: lists and objects not closed at the end, closed once too often,
 * commas before a close, line breaks and tabs in strings, Python's literals, a fence of Markdown around it. Undefined where
 * it would take a guess, above all for a string that does not end. The result need not be JSON.
 */
export function mendJson(text: string): string | undefined {
  const source = withoutFence(text.trim());
  const parts: string[] = [];
  const open: string[] = [];
  for (let at = 0; at < source.length;) {
    const token = tokenAt(source, at);
    if (token === undefined) return undefined;
    at += token.length;
    if (token === "{" || token === "[") open.push(token === "{" ? "}" : "]");
    else if (token === "}" || token === "]") {
      // Nothing but closes may stand behind the whole of it.
      if (open.length === 0 && parts.length > 0)
        return /^[\s}\]]*$/.test(source.slice(at)) ? parts.join("") : undefined;
      if (open.pop() !== token) return undefined;
      parts.push((parts.pop() ?? "").replace(/,\s*$/, ""));
    }
    parts.push(literals.get(token) ?? (token.startsWith('"') ? escapeControls(token) : token));
  }
  // Something was to follow: which, nobody knows.
  if (/[,:{[]\s*$/.test(parts.at(-1) ?? "")) return undefined;
  return parts.join("") + open.toReversed().join("");
}

const notJson: SoundArguments = { problem: "the arguments are not valid JSON" };

/** A whole string, a bracket, a word, or a run of anything else; undefined for a string without an end. */
function tokenAt(source: string, at: number): string | undefined {
  if (source.startsWith('"', at)) {
    const end = endOfString(source, at);
    return end === -1 ? undefined : source.slice(at, end + 1);
  }
  tokens.lastIndex = at;
  return tokens.exec(source)?.[0];
}

const tokens = /[{}[\]]|[A-Za-z]+|[^"{}[\]A-Za-z]+/y;

const literals: ReadonlyMap<string, string> = new Map([
  ["True", "true"],
  ["False", "false"],
  ["None", "null"],
]);

const controls: Readonly<Record<string, string>> = { "\n": "\\n", "\r": "\\r", "\t": "\\t" };

function withoutFence(text: string): string {
  const first = text.indexOf("\n");
  const fenced = text.endsWith("```") && /^```(?:json)?\s*$/.test(text.slice(0, Math.max(0, first)));
  return fenced ? text.slice(first + 1, -3).trim() : text;
}

function escapeControls(string: string): string {
  return string.replace(/[\n\r\t]/g, (control) => controls[control] ?? control);
}

function fit(value: Json, text: string, schema: JsonObject): SoundArguments {
  const misfit = isObject(value) ? findMisfit(value, schema) : "the arguments must be an object";
  if (misfit === undefined) return { text: isObject(parse(text)) ? text : JSON.stringify(value) };
  // Written anew, figures that a double cannot hold would become others.
  if (hasLongNumber(text)) return { problem: misfit };
  const fitted = (isObject(value) ? toFitting(value, schema) : undefined) ?? wrapped(value, schema);
  return isObject(fitted) ? { text: JSON.stringify(fitted) } : { problem: misfit };
}

/** A text without any JSON about it, such as a patch, where a text is all that the tool takes. */
function plainText(text: string, schema: JsonObject): Json | undefined {
  const [only, ...others] = isObject(schema.properties) ? Object.values(schema.properties) : [];
  const takesText = others.length === 0 && isObject(only) && only.type === "string";
  return takesText && /^\s*[^\s{}[\]"`]/.test(text) ? text : undefined;
}

/** The value of a tool's only parameter, given instead of the object around it. */
function wrapped(value: Json, schema: JsonObject): Json | undefined {
  const properties = isObject(schema.properties) ? Object.entries(schema.properties) : [];
  const [only] = properties;
  if (only === undefined || properties.length > 1) return undefined;
  const [name, part] = only;
  const typed = isObject(part) && typeof part.type === "string";
  if (!typed || value === null || (isObject(value) && Object.hasOwn(value, name))) return undefined;
  const object = { [name]: value };
  return findMisfit(object, schema) === undefined ? object : undefined;
}

/** `"{\"a\":1}"`: JSON in a string, once or twice. */
function unquoted(value: Json): Json {
  let read: Json = value;
  for (let times = 0; times < 2 && typeof read === "string"; times++) {
    const inner = /^\s*["{[]/.test(read) ? parse(read) : undefined;
    if (inner === undefined) return value;
    read = inner;
  }
  return typeof read === "string" ? value : read;
}

function check(value: JsonObject, text: string, schema: JsonObject): SoundArguments {
  const misfit = findMisfit(value, schema);
  return misfit === undefined ? { text } : { problem: misfit };
}

function parse(text: string): Json | undefined {
  try {
    return JSON.parse(text) as Json;
  } catch {
    return undefined;
  }
}

function isTooNested(text: string): boolean {
  let opened = 0;
  for (const bracket of ["{", "["])
    for (let at = text.indexOf(bracket); at !== -1 && opened <= mostNested; at = text.indexOf(bracket, at + 1))
      opened++;
  return opened > mostNested;
}

/** Outside of strings or within: a guard need not be exact. */
function hasLongNumber(text: string): boolean {
  return /(?:^|[\s:[,])-?\d{16,}(?=[\s,\]}]|$)/.test(text);
}
