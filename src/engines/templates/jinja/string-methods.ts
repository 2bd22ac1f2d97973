import { charge, chargeText, TemplateError } from "./budget.ts";
import { formatBraces } from "./format.ts";
import {
  type Arguments,
  bindArguments,
  hasWideCharacters,
  lengthOf,
  toInteger,
  toItems,
  Tuple,
  typeName,
  type Value,
} from "./values.ts";

type StringMethod = (self: string, given: Arguments) => Value;

// Python's str.isspace: without U+FEFF, which JavaScript counts, and with the separators 1C–1F and U+0085.
const spaces = new Set(
  "\t\n\v\f\r\x1c\x1d\x1e\x1f \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000",
);
const lineEnds = new Set("\n\v\f\r\x1c\x1d\x1e\x85\u2028\u2029");

/** `str.strip`; `characters` null: white space. */
export function strip(text: string, characters: string | null, sides: "both" | "left" | "right" = "both"): string {
  charge(1);
  const strips = (character: string): boolean =>
    characters === null ? spaces.has(character) : characters.includes(character);
  let [start, end] = [0, text.length];
  if (sides !== "right") while (start < end && strips(text.charAt(start))) start += 1;
  if (sides !== "left") while (end > start && strips(text.charAt(end - 1))) end -= 1;
  chargeText(text.length - (end - start));
  return text.slice(start, end);
}

/** `str.title`: every run of letters begins with a capital. */
function toTitle(text: string): string {
  return text.replace(/\p{L}+/gu, (word) => capitalize(word));
}

export function capitalize(text: string): string {
  const [first = ""] = text;
  return first.toUpperCase() + text.slice(first.length).toLowerCase();
}

/** `str.replace`; a count of −1 replaces all. */
export function replace(text: string, old: string, by: string, count = -1): string {
  if (count < 0 && old !== "") {
    const parts = text.split(old);
    chargeText(text.length + (parts.length - 1) * by.length);
    return parts.join(by);
  }
  const parts = old === "" ? ["", ...text, ""] : text.split(old);
  const joined = count < 0 ? parts.length - 1 : Math.min(count, parts.length - 1);
  chargeText(text.length + joined * by.length);
  const rest = parts.slice(joined).join(old);
  return joined === 0 ? text : parts.slice(0, joined).join(by) + by + rest;
}

/** `str.splitlines`, without the line ends. */
export function splitLines(text: string): string[] {
  chargeText(text.length);
  const lines: string[] = [];
  let start = 0;
  for (let at = 0; at < text.length; at += 1) {
    if (!lineEnds.has(text.charAt(at))) continue;
    lines.push(text.slice(start, at));
    if (text.startsWith("\r\n", at)) at += 1;
    start = at + 1;
  }
  if (start < text.length) lines.push(text.slice(start));
  charge(lines.length);
  return lines;
}

function toText(value: Value, what: string): string {
  if (typeof value === "string") return value;
  throw new TemplateError(`${what} needs a text, not ${typeName(value)}`);
}

function stripper(name: string, sides: "both" | "left" | "right"): StringMethod {
  return (self, given) => {
    const [characters = null] = bindArguments(name, given, ["chars"]);
    return strip(self, characters === null ? null : toText(characters, name), sides);
  };
}

function split(self: string, given: Arguments): Value {
  const [separator = null, limit = -1] = bindArguments("split", given, ["sep", "maxsplit"]);
  chargeText(self.length);
  const most = toInteger(limit, "maxsplit");
  if (separator === null) return splitWords(self, most);
  const parts = separated(self, separator);
  charge(parts.length);
  if (most < 0 || parts.length <= most + 1) return parts;
  return [...parts.slice(0, most), parts.slice(most).join(toText(separator, "split"))];
}

function splitRight(self: string, given: Arguments): Value {
  const [separator = null, limit = -1] = bindArguments("rsplit", given, ["sep", "maxsplit"]);
  chargeText(self.length);
  const most = toInteger(limit, "maxsplit");
  if (separator === null) {
    if (most >= 0) throw new TemplateError("rsplit at white space takes no limit here");
    return splitWords(self, -1);
  }
  const parts = separated(self, separator);
  charge(parts.length);
  if (most < 0 || parts.length <= most + 1) return parts;
  const cut = parts.length - most;
  return [parts.slice(0, cut).join(toText(separator, "rsplit")), ...parts.slice(cut)];
}

function separated(text: string, separator: Value): string[] {
  const mark = toText(separator, "split");
  if (mark === "") throw new TemplateError("a text cannot be split at nothing");
  return text.split(mark);
}

function splitWords(text: string, most: number): string[] {
  const words: string[] = [];
  let at = 0;
  for (;;) {
    while (at < text.length && spaces.has(text.charAt(at))) at += 1;
    if (at >= text.length) return words;
    if (words.length === most) {
      words.push(strip(text.slice(at), null, "right"));
      return words;
    }
    const start = at;
    while (at < text.length && !spaces.has(text.charAt(at))) at += 1;
    words.push(text.slice(start, at));
  }
}

function partition(
  name: string,
  find: (self: string, mark: string) => number,
  missing: "left" | "right",
): StringMethod {
  return (self, given) => {
    const mark = toText(given.positional[0], name);
    chargeText(self.length);
    const at = find(self, mark);
    if (at < 0) return Tuple.fromItems(missing === "right" ? [self, "", ""] : ["", "", self]);
    return Tuple.fromItems([self.slice(0, at), mark, self.slice(at + mark.length)]);
  };
}

function affix(name: string, has: (self: string, affix: string) => boolean): StringMethod {
  const holds = (self: string, wanted: string): boolean => (chargeText(wanted.length), has(self, wanted));
  return (self, { positional: [wanted] }) =>
    Array.isArray(wanted) ? wanted.some((one) => holds(self, toText(one, name))) : holds(self, toText(wanted, name));
}

/** Where a text is found, in Python's characters; −1 when it is not. */
function finder(name: string, find: (self: string, part: string) => number): StringMethod {
  return (self, { positional }) => {
    if (positional.length !== 1) throw new TemplateError(`${name} takes one argument here`);
    chargeText(self.length);
    const at = find(self, toText(positional[0], name));
    return at > 0 && hasWideCharacters(self) ? lengthOf(self.slice(0, at)) : at;
  };
}

function must(method: StringMethod, name: string): StringMethod {
  return (self, given) => {
    const at = method(self, given);
    if (at === -1) throw new TemplateError(`${name}: the text does not hold it`);
    return at;
  };
}

function padder(name: string, pad: (self: string, width: number, fill: string) => string): StringMethod {
  return (self, given) => {
    const [width, fill = " "] = bindArguments(name, given, ["width", "fillchar"]);
    const wanted = toInteger(width, "a width");
    chargeText(wanted);
    return pad(self, wanted, toText(fill, name));
  };
}

/** `str.center`. */
export function center(text: string, width: number, fill = " "): string {
  const missing = Math.max(0, width - lengthOf(text));
  chargeText(missing);
  // CPython puts the odd blank on the left only where the width is odd.
  const left = Math.floor(missing / 2) + (missing & width & 1);
  return fill.repeat(left) + text + fill.repeat(missing - left);
}

function zeroFill(text: string, width: number): string {
  const sign = /^[+-]/.test(text) ? text.charAt(0) : "";
  return sign + text.slice(sign.length).padStart(width - sign.length, "0");
}

function matches(form: RegExp): StringMethod {
  return (self) => (chargeText(self.length), form.test(self));
}

function maps(change: (self: string) => string): StringMethod {
  return (self) => (chargeText(self.length), change(self));
}

/** Python's methods of a text. */
export const stringMethods = new Map<string, StringMethod>([
  ["strip", stripper("strip", "both")],
  ["lstrip", stripper("lstrip", "left")],
  ["rstrip", stripper("rstrip", "right")],
  ["split", split],
  ["rsplit", splitRight],
  ["splitlines", (self) => splitLines(self)],
  ["partition", partition("partition", (self, mark) => self.indexOf(mark), "right")],
  ["rpartition", partition("rpartition", (self, mark) => self.lastIndexOf(mark), "left")],
  ["startswith", affix("startswith", (self, wanted) => self.startsWith(wanted))],
  ["endswith", affix("endswith", (self, wanted) => self.endsWith(wanted))],
  [
    "removeprefix",
    (self, { positional: [wanted] }) =>
      typeof wanted === "string" && self.startsWith(wanted) ? self.slice(wanted.length) : self,
  ],
  [
    "removesuffix",
    (self, { positional: [wanted] }) =>
      typeof wanted === "string" && self.endsWith(wanted) ? self.slice(0, self.length - wanted.length) : self,
  ],
  ["find", finder("find", (self, part) => self.indexOf(part))],
  ["rfind", finder("rfind", (self, part) => self.lastIndexOf(part))],
  [
    "index",
    must(
      finder("index", (self, part) => self.indexOf(part)),
      "index",
    ),
  ],
  [
    "rindex",
    must(
      finder("rindex", (self, part) => self.lastIndexOf(part)),
      "rindex",
    ),
  ],
  [
    "count",
    (self, { positional: [part] }) => {
      chargeText(self.length);
      const wanted = toText(part, "count");
      return wanted === "" ? lengthOf(self) + 1 : self.split(wanted).length - 1;
    },
  ],
  [
    "replace",
    (self, given) => {
      const [old, by, count = -1] = bindArguments("replace", given, ["old", "new", "count"]);
      return replace(self, toText(old, "replace"), toText(by, "replace"), toInteger(count, "a count"));
    },
  ],
  [
    "join",
    (self, { positional: [items] }) => {
      const texts = toItems(items).map((item) => toText(item, "join"));
      chargeText(texts.reduce((sum, text) => sum + text.length + self.length, 0));
      return texts.join(self);
    },
  ],
  ["format", formatBraces],
  ["upper", maps((self) => self.toUpperCase())],
  ["lower", maps((self) => self.toLowerCase())],
  ["casefold", maps((self) => self.toLowerCase())],
  ["capitalize", maps(capitalize)],
  ["title", maps(toTitle)],
  [
    "swapcase",
    maps((self) =>
      Array.from(self, (one) => (one === one.toUpperCase() ? one.toLowerCase() : one.toUpperCase())).join(""),
    ),
  ],
  ["isdigit", matches(/^\p{Nd}+$/u)],
  ["isnumeric", matches(/^\p{N}+$/u)],
  ["isdecimal", matches(/^\p{Nd}+$/u)],
  ["isalpha", matches(/^\p{L}+$/u)],
  ["isalnum", matches(/^[\p{L}\p{N}]+$/u)],
  ["isspace", checks((self) => self !== "" && Array.from(self).every((one) => spaces.has(one)))],
  ["isupper", checks((self) => self === self.toUpperCase() && self !== self.toLowerCase())],
  ["islower", checks((self) => self === self.toLowerCase() && self !== self.toUpperCase())],
  ["ljust", padder("ljust", (self, width, fill) => self.padEnd(width, fill))],
  ["rjust", padder("rjust", (self, width, fill) => self.padStart(width, fill))],
  ["center", padder("center", center)],
  ["zfill", padder("zfill", (self, width) => zeroFill(self, width))],
]);

function checks(holds: (self: string) => boolean): StringMethod {
  return (self) => (chargeText(self.length), holds(self));
}
