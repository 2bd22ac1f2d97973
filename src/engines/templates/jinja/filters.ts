import { chargeText, TemplateError } from "./budget.ts";
import { itemOf } from "./attributes.ts";
import { calculate } from "./arithmetic.ts";
import { formatPercent } from "./format.ts";
import { readJson, writeJson } from "./json.ts";
import { capitalize, center, replace, splitLines, strip } from "./string-methods.ts";
import {
  batch,
  choose,
  chooseBy,
  copyItems,
  dictSort,
  extreme,
  follow,
  groupBy,
  itemsIfAny,
  itemsOf,
  join,
  sort,
  sum,
  unique,
} from "./sequence-filters.ts";
import {
  type Arguments,
  asNumber,
  bindArguments,
  isTrue,
  lengthOf,
  toFloat,
  toInteger,
  toItems,
  toText,
  Tuple,
  typeName,
  type Value,
} from "./values.ts";

export type Filter = (value: Value, given: Arguments) => Value;

/** Jinja's filters, and transformers' `tojson`. */
export const filters = new Map<string, Filter>([
  ["abs", (value) => (isNegative(value) ? calculate("-", 0, value) : value)],
  ["attr", (value, { positional: [name] }) => itemOf(value, name, () => "a value")],
  ["batch", batch],
  ["capitalize", (value) => capitalize(toText(value))],
  ["center", (value, { positional: [width = 80] }) => center(toText(value), toInteger(width, "a width"))],
  ["count", (value) => lengthOf(value)],
  ["length", (value) => lengthOf(value)],
  ["default", orDefault],
  ["d", orDefault],
  ["dictsort", dictSort],
  ["escape", (value) => escape(toText(value))],
  ["e", (value) => escape(toText(value))],
  ["first", (value) => toItems(value)[0]],
  ["last", (value) => toItems(value).at(-1)],
  ["float", (value, { positional: [fallback = 0] }) => toFloat(parseNumber(value) ?? asNumber(fallback) ?? 0)],
  ["format", (value, { positional }) => formatPercent(toText(value), Tuple.fromItems(positional))],
  ["from_json", (value) => readJson(toText(value))],
  ["groupby", groupBy],
  ["indent", indent],
  ["int", (value, { positional: [fallback = 0] }) => toWhole(value) ?? fallback],
  ["items", itemsOf],
  ["join", join],
  ["list", (value) => copyItems(value)],
  ["lower", (value) => withLength(toText(value), (text) => text.toLowerCase())],
  ["map", map],
  ["max", (value, given) => extreme("max", value, given)],
  ["min", (value, given) => extreme("min", value, given)],
  ["reject", (value, given) => choose(value, given, false)],
  ["select", (value, given) => choose(value, given, true)],
  ["rejectattr", (value, given) => chooseBy(value, given, false)],
  ["selectattr", (value, given) => chooseBy(value, given, true)],
  ["replace", replaceIn],
  [
    "reverse",
    (value) => (typeof value === "string" ? copyItems(value).reverse().join("") : copyItems(value).reverse()),
  ],
  ["round", round],
  ["safe", (value) => value],
  ["sort", sort],
  ["string", (value) => toText(value)],
  ["sum", sum],
  ["title", (value) => withLength(toText(value), titleOf)],
  ["tojson", toJson],
  [
    "trim",
    (value, { positional: [characters = null] }) =>
      strip(toText(value), characters === null ? null : toText(characters)),
  ],
  ["truncate", truncate],
  ["unique", unique],
  ["upper", (value) => withLength(toText(value), (text) => text.toUpperCase())],
  ["urlencode", (value) => withLength(toText(value), encodeURIComponent)],
  ["wordcount", (value) => withLength(toText(value), (text) => text.match(/[\p{L}\p{N}_]+/gu)?.length ?? 0)],
]);

function withLength<Result>(text: string, work: (text: string) => Result): Result {
  chargeText(text.length);
  return work(text);
}

function isNegative(value: Value): boolean {
  return (asNumber(value) ?? 0) < 0;
}

function orDefault(value: Value, given: Arguments): Value {
  const [fallback = "", boolean = false] = bindArguments("default", given, ["default_value", "boolean"]);
  return value === undefined || (isTrue(boolean) && !isTrue(value)) ? fallback : value;
}

function parseNumber(value: Value): number | undefined {
  const number = asNumber(value);
  if (number !== undefined) return number;
  // A longer one is no number, and would take the expression below a time that grows with its square.
  if (
    typeof value !== "string" ||
    value.length > 400 ||
    !/^\s*[+-]?(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][+-]?\d+)?\s*$/.test(value)
  )
    return undefined;
  return Number(value.replaceAll("_", ""));
}

function toWhole(value: Value): number | undefined {
  const number = parseNumber(value);
  // `+ 0` turns −0 into 0.
  return number === undefined || !Number.isFinite(number) ? undefined : Math.trunc(number) + 0;
}

function escape(text: string): string {
  const entities: Readonly<Record<string, string>> = {
    "&": "&amp;",
    "<": "&lt;",
    ">": "&gt;",
    "'": "&#39;",
    '"': "&#34;",
  };
  chargeText(text.length * 3);
  return text.replace(/[&<>'"]/g, (one) => entities[one] ?? one);
}

function indent(value: Value, given: Arguments): Value {
  const [width = 4, first = false, blank = false] = bindArguments("indent", given, ["width", "first", "blank"]);
  const margin = typeof width === "string" ? width : calculate("*", " ", width);
  if (typeof margin !== "string") throw new TemplateError("indent needs a width");
  const lines = splitLines(`${toText(value)}\n`);
  chargeText(lines.length * margin.length);
  const indented = lines.map((line, index) => {
    const skipped = index === 0 ? !isTrue(first) : line === "" && !isTrue(blank);
    return skipped ? line : margin + line;
  });
  return indented.join("\n");
}

function map(value: Value, { positional, named }: Arguments): Value {
  const items = itemsIfAny(value);
  if (named.has("attribute")) {
    const [path, fallback] = [named.get("attribute"), named.get("default")];
    return items.map((item) => follow(item, path) ?? fallback);
  }
  const [name, ...rest] = positional;
  const filter = filters.get(toText(name));
  if (filter === undefined) throw new TemplateError(`there is no filter ${toText(name)}`);
  return items.map((item) => filter(item, { positional: rest, named }));
}

function replaceIn(value: Value, given: Arguments): Value {
  const [old, by, count = null] = bindArguments("replace", given, ["old", "new", "count"]);
  return replace(toText(value), toText(old), toText(by), count === null ? -1 : toInteger(count, "a count"));
}

function round(value: Value, given: Arguments): Value {
  const [precision = 0, method = "common"] = bindArguments("round", given, ["precision", "method"]);
  const number = asNumber(value);
  if (number === undefined) throw new TemplateError(`${typeName(value)} cannot be rounded`);
  const scale = 10 ** toInteger(precision, "a precision");
  if (method === "ceil") return toFloat(Math.ceil(number * scale) / scale);
  if (method === "floor") return toFloat(Math.floor(number * scale) / scale);
  // Python rounds halves to even.
  const scaled = number * scale;
  const whole = Math.round(scaled);
  const even = Math.abs(scaled % 1) === 0.5 && whole % 2 !== 0 ? whole - 1 : whole;
  return toFloat(even / scale);
}

/** Jinja's own `title`: a word begins after white space, a hyphen or a bracket. */
function titleOf(text: string): string {
  return text.replace(/[^-\s({[<]+/g, (word) => capitalize(word));
}

function truncate(value: Value, given: Arguments): Value {
  const names = ["length", "killwords", "end", "leeway"];
  const [length = 255, killWords = false, end = "...", leeway = 5] = bindArguments("truncate", given, names);
  const text = toText(value);
  const most = toInteger(length, "a length");
  if (text.length <= most + toInteger(leeway, "a leeway")) return text;
  const kept = text.slice(0, Math.max(0, most - toText(end).length));
  if (isTrue(killWords)) return kept + toText(end);
  const blank = kept.lastIndexOf(" ");
  return (blank < 0 ? kept : kept.slice(0, blank)) + toText(end);
}

function toJson(value: Value, given: Arguments): Value {
  const names = ["ensure_ascii", "indent", "separators", "sort_keys"];
  const [ascii = false, width = null, separators = null, sortKeys = false] = bindArguments("tojson", given, names);
  const indentation: Value = width === null ? null : typeof width === "string" ? width : calculate("*", " ", width);
  const [item, key] = separators === null ? [] : toItems(separators);
  return writeJson(value, {
    indent: typeof indentation === "string" ? indentation : null,
    itemSeparator: toText(item ?? (indentation === null ? ", " : ",")),
    keySeparator: toText(key ?? ": "),
    sortKeys: isTrue(sortKeys),
    ascii: isTrue(ascii),
  });
}
