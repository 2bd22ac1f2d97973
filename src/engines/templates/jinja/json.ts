import { charge, chargeText, TemplateError } from "./budget.ts";
import { formatNumber, isFloat, toText, typeName, type Value, WholeFloat } from "./values.ts";

/** How Python's `json.dumps` writes. */
export interface JsonForm {
  readonly indent: string | null;
  readonly itemSeparator: string;
  readonly keySeparator: string;
  readonly sortKeys: boolean;
  /** Writes everything outside ASCII as `\uXXXX`. */
  readonly ascii: boolean;
}

/** `json.dumps(value)` as transformers' `tojson` calls it: `{"a": [1, 2]}`. Throws for what JSON cannot say. */
export function writeJson(value: Value, form: JsonForm, indentation = "\n"): string {
  charge(4);
  if (typeof value === "string") return writeText(value, form);
  if (value === null) return "null";
  if (typeof value === "boolean") return String(value);
  if (typeof value === "number") return formatJsonNumber(value, isFloat(value));
  if (value instanceof WholeFloat) return formatJsonNumber(value.value, true);
  const inner = form.indent === null ? "" : indentation + form.indent;
  if (Array.isArray(value)) {
    if (value.length === 0) return "[]";
    const items = value.map((item) => writeJson(item, form, inner));
    return wrap("[]", items, form, indentation);
  }
  if (value instanceof Map) {
    if (value.size === 0) return "{}";
    const entries = Array.from(value, ([key, item]) => [writeKey(key), item] as const);
    if (form.sortKeys) entries.sort(([left], [right]) => (left < right ? -1 : Number(left > right)));
    const items = entries.map(([key, item]) => writeText(key, form) + form.keySeparator + writeJson(item, form, inner));
    return wrap("{}", items, form, indentation);
  }
  throw new TemplateError(`${typeName(value)} cannot be written as JSON`);
}

function wrap(brackets: string, items: readonly string[], form: JsonForm, indentation: string): string {
  if (form.indent === null) return brackets[0] + items.join(form.itemSeparator) + brackets[1];
  const inner = indentation + form.indent;
  chargeText(items.length * inner.length);
  return brackets[0] + inner + items.join(form.itemSeparator + inner) + indentation + brackets[1];
}

function writeText(text: string, form: JsonForm): string {
  chargeText(text.length);
  const written = JSON.stringify(text);
  if (!form.ascii) return written;
  // The marker inside control tokens is none of the text's own characters.
  return written.replace(
    /[\x7f-\ufdcf\ufdd1-\uffff]/g,
    (one) => `\\u${one.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}

function writeKey(key: Value): string {
  if (key === null) return "null";
  return typeof key === "boolean" ? String(key) : toText(key);
}

function formatJsonNumber(value: number, float: boolean): string {
  if (Number.isNaN(value)) return "NaN";
  if (!Number.isFinite(value)) return value > 0 ? "Infinity" : "-Infinity";
  return formatNumber(value, float);
}

/** What `from_json` reads: an object becomes a dict, in the order of its keys. Throws `TemplateError`. */
export function readJson(text: string): Value {
  chargeText(text.length);
  try {
    return fromJson(JSON.parse(text));
  } catch (error) {
    if (error instanceof TemplateError) throw error;
    throw new TemplateError("from_json: the text is not JSON");
  }
}

/** Plain JSON as a value of the template language; what is no JSON becomes undefined. */
export function fromJson(json: unknown): Value {
  if (json === null || typeof json === "string" || typeof json === "boolean" || typeof json === "number") return json;
  if (Array.isArray(json)) return json.map(fromJson);
  if (typeof json !== "object") return undefined;
  const dict = new Map<Value, Value>();
  for (const [key, value] of Object.entries(json)) if (value !== undefined) dict.set(key, fromJson(value));
  return dict;
}
