import { isObject, type Json, type JsonObject } from "../../core/json.ts";

/** A value in TOML, tables inline. Absent keys are left out; TOML has no null, which throws a TypeError. */
export function toTomlValue(value: Json): string {
  if (value === null) throw new TypeError("TOML has no null");
  if (typeof value === "string") return toTomlText(value);
  if (Array.isArray(value)) return `[${value.map(toTomlValue).join(", ")}]`;
  if (!isObject(value)) return String(value);
  return `{ ${entriesOf(value)
    .map(([key, one]) => `${toTomlKey(key)} = ${toTomlValue(one)}`)
    .join(", ")} }`;
}

/** A file of TOML: plain values first, each object as a table of its own, two levels deep at most. */
export function toTomlFile(document: JsonObject): string {
  const plain = entriesOf(document).filter(([, value]) => !isObject(value));
  const tables = entriesOf(document).flatMap(([key, value]) => (isObject(value) ? tablesOf([key], value) : []));
  return `${[plain.map(toLine).join("\n"), ...tables].filter((part) => part !== "").join("\n\n")}\n`;
}

function tablesOf(path: readonly string[], table: JsonObject): string[] {
  const plain = entriesOf(table).filter(([, value]) => !isObject(value));
  const inner = entriesOf(table).flatMap(([key, value]) => (isObject(value) ? tablesOf([...path, key], value) : []));
  if (plain.length === 0) return inner;
  return [[`[${path.map(toTomlKey).join(".")}]`, ...plain.map(toLine)].join("\n"), ...inner];
}

function toLine([key, value]: [string, Json]): string {
  return `${toTomlKey(key)} = ${toTomlValue(value)}`;
}

function toTomlKey(key: string): string {
  return /^[A-Za-z0-9_-]+$/.test(key) ? key : toTomlText(key);
}

/** In single quotes where that can be: PowerShell loses double ones. JSON's escapes are TOML's, but for DEL, which only TOML wants escaped. */
function toTomlText(text: string): string {
  return /['\p{Cc}]/u.test(text) ? JSON.stringify(text).replaceAll("\u007f", "\\u007f") : `'${text}'`;
}

function entriesOf(table: JsonObject): [string, Json][] {
  return Object.entries(table).filter((entry): entry is [string, Json] => entry[1] !== undefined);
}
