import { limitNames } from "../access/key-fields.ts";
import type { ImportEntry } from "../access/key-import.ts";
import { isObject, type Json, type JsonObject } from "../core/json.ts";
import { UsageError } from "./command.ts";

/**
 * The keys in a file's text: a JSON list (or `{"keys": […]}`) of fields with `key` or `digest`; CSV with a line of heads,
 * of which one is `name`; or lines of `name key`, in which `sha256:<64 hexadecimal digits>` may stand for the key, and
 * `#` begins a remark. Throws `UsageError` where it is none of these.
 */
export function readKeysFile(text: string): ImportEntry[] {
  const plain = text.replace(/^\ufeff/, "");
  if (/^\s*[[{]/.test(plain)) return fromJson(plain);
  const lines = plain.split(/\r?\n/).map((line, index) => ({ place: `line ${index + 1}`, line: line.trim() }));
  const full = lines.filter(({ line }) => line !== "" && !line.startsWith("#"));
  const [first, ...rest] = full;
  if (first === undefined) return [];
  const heads = toCells(first.line);
  if (!heads.includes("name")) return full.map(({ place, line }) => ({ place, json: fromLine(line) }));
  return rest.map(({ place, line }) => ({ place, json: fromCells(heads, toCells(line)) }));
}

function fromJson(text: string): ImportEntry[] {
  let json: Json;
  try {
    json = JSON.parse(text) as Json;
  } catch {
    // The parser's own words would show a piece of the text, and so of a key.
    throw new UsageError("the file begins like JSON and is none");
  }
  const list = isObject(json) ? json.keys : json;
  if (!Array.isArray(list)) throw new UsageError('the JSON must be a list of keys, or {"keys": […]}');
  return list.map((one, index) => ({ place: `entry ${index + 1}`, json: one }));
}

function fromLine(line: string): JsonObject {
  const [, name = "", secret = ""] = /^(.*?)[\s,;]+(\S+)$/.exec(line) ?? [];
  return name === "" ? { name: "?" } : { name, ...toSecret(secret) };
}

function toSecret(text: string): JsonObject {
  const [, digest] = /^sha256:(.*)$/i.exec(text) ?? [];
  return digest === undefined ? { key: text } : { digest };
}

/** Cells of several words (models, roles) have spaces or `;` between them; limits stand under their own heads. */
function fromCells(heads: readonly string[], cells: readonly string[]): JsonObject {
  const entry: JsonObject = {};
  const limits: JsonObject = {};
  for (const [index, head] of heads.entries()) {
    const cell = cells[index] ?? "";
    if (cell === "") continue;
    if (head === "models" || head === "roles") entry[head] = cell.split(/[\s;]+/).filter((word) => word !== "");
    else if (Object.hasOwn(limitNames, head)) limits[head] = Number(cell);
    else if (head === "key") Object.assign(entry, toSecret(cell));
    else entry[head] = cell;
  }
  return Object.keys(limits).length === 0 ? entry : { ...entry, limits };
}

/** Cells of one line of CSV; a quoted cell may hold commas, and quotes that are doubled. */
function toCells(line: string): string[] {
  return Array.from(line.matchAll(/(?:^|,)\s*(?:"((?:[^"]|"")*)"|([^,]*))/g), ([, quoted, plain = ""]) =>
    quoted === undefined ? plain.trim() : quoted.replaceAll('""', '"'),
  );
}
