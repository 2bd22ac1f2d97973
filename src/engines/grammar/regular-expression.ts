import { allCharacters, type CharacterSet, characterSet, complement } from "./characters.ts";

/** An ECMA-262 regular expression as a tree. `max` null: without end. */
export type Expression =
  | { readonly type: "set"; readonly set: CharacterSet }
  | { readonly type: "sequence"; readonly parts: readonly Expression[] }
  | { readonly type: "choice"; readonly ways: readonly Expression[] }
  | { readonly type: "repeat"; readonly body: Expression; readonly min: number; readonly max: number | null };

const empty: Expression = { type: "sequence", parts: [] };
const anything: Expression = { type: "repeat", body: { type: "set", set: allCharacters }, min: 0, max: null };

const longestPattern = 4000;
const deepestGroups = 100;
const mostRepetitions = 100_000;

/** Why a regular expression cannot become a grammar. */
export class PatternError extends Error {}

/**
 * The tree of all texts in which the pattern is found (as JSON Schema's `pattern` means it: anywhere, unless anchored).
 * Throws `PatternError` for what no grammar can express: look-around, back references, word boundaries, anchors within.
 */
export function parsePattern(source: string): Expression {
  if (source.length > longestPattern) throw new PatternError(`is longer than ${longestPattern} characters`);
  const parser = new PatternParser(source);
  return parser.whole();
}

type Anchored = Expression | { readonly type: "start" } | { readonly type: "end" };

class PatternParser {
  readonly #source: string;
  #at = 0;
  #depth = 0;

  constructor(source: string) {
    this.#source = source;
  }

  whole(): Expression {
    const ways = this.#alternatives();
    if (this.#at < this.#source.length) throw new PatternError("has a parenthesis too many");
    return choice(ways.map(found));
  }

  #alternatives(): Anchored[][] {
    if (++this.#depth > deepestGroups) throw new PatternError(`nests deeper than ${deepestGroups} groups`);
    const ways: Anchored[][] = [[]];
    for (; this.#at < this.#source.length && this.#peek() !== ")";) {
      if (this.#take("|")) ways.push([]);
      else ways.at(-1)?.push(...this.#term());
    }
    this.#depth--;
    return ways;
  }

  #term(): Anchored[] {
    if (this.#take("^")) return [{ type: "start" }];
    if (this.#take("$")) return [{ type: "end" }];
    const atom = this.#atom();
    const bounds = this.#quantifier();
    if (bounds === null) return atom;
    const body = inner(atom);
    if (body === null) throw new PatternError("repeats an anchor");
    return [repeat(body, bounds[0], bounds[1])];
  }

  #atom(): Anchored[] {
    if (this.#take("(")) return this.#group();
    if (this.#take("[")) return [{ type: "set", set: this.#class() }];
    if (this.#take(".")) return [{ type: "set", set: complement(lineEnds) }];
    if (this.#take("\\")) return [{ type: "set", set: this.#escape(false) }];
    if (/^[*+?]/.test(this.#peek())) throw new PatternError("repeats nothing");
    return [{ type: "set", set: single(this.#next()) }];
  }

  #group(): Anchored[] {
    if (this.#take("?")) {
      if (this.#take(":")) return this.#closed();
      const name = /^<[\p{ID_Start}$_][\p{ID_Continue}$]*>/u.exec(this.#rest());
      if (name === null) throw new PatternError("uses look-around or flags within a group");
      this.#at += name[0].length;
    }
    return this.#closed();
  }

  #closed(): Anchored[] {
    const ways = this.#alternatives();
    if (!this.#take(")")) throw new PatternError("has a parenthesis too few");
    const [only] = ways;
    if (ways.length === 1 && only !== undefined) return only;
    const inners = ways.map(inner);
    if (inners.every((way) => way !== null)) return [choice(inners)];
    // `(^a|b)`: only where the group is all there is, which the caller's `found` cannot see; each way stands for itself.
    if (this.#depth === 1 && this.#rest() === "") return [choice(ways.map(found)), { type: "start" }, { type: "end" }];
    throw new PatternError("has an anchor in the middle");
  }

  #quantifier(): [number, number | null] | null {
    const match = /^(?:([*+?])|\{(\d+)(?:(,)(\d*))?\})\??/.exec(this.#rest());
    if (match === null) return null;
    this.#at += match[0].length;
    const [, sign, low, comma, high] = match;
    if (sign !== undefined) return sign === "*" ? [0, null] : sign === "+" ? [1, null] : [0, 1];
    const min = Number(low);
    const max = comma === undefined ? min : high === "" ? null : Number(high);
    if (min > mostRepetitions || (max ?? 0) > mostRepetitions) throw new PatternError("repeats too often");
    if (max !== null && max < min) throw new PatternError("has a repetition whose bounds are the wrong way round");
    return [min, max];
  }

  #class(): CharacterSet {
    const negated = this.#take("^");
    const ranges: (readonly [number, number])[] = [];
    while (!this.#take("]")) {
      if (this.#at >= this.#source.length) throw new PatternError("has a class without an end");
      const low = this.#classAtom();
      if (this.#peek() === "-" && this.#source[this.#at + 1] !== "]" && this.#at + 1 < this.#source.length) {
        this.#at++;
        const high = this.#classAtom();
        const [from, to] = [onlyOf(low), onlyOf(high)];
        if (from === null || to === null) ranges.push(...low, [0x2d, 0x2d], ...high);
        else if (from > to) throw new PatternError("has a range whose ends are the wrong way round");
        else ranges.push([from, to]);
      } else ranges.push(...low);
    }
    const set = characterSet(ranges);
    return negated ? complement(set) : set;
  }

  #classAtom(): CharacterSet {
    return this.#take("\\") ? this.#escape(true) : single(this.#next());
  }

  #escape(inClass: boolean): CharacterSet {
    const letter = this.#next();
    const named = shorthand[letter];
    if (named !== undefined) return named;
    if (letter === "p" || letter === "P") return this.#property(letter === "P");
    const control = controls[letter];
    if (control !== undefined) return single(control);
    if (letter === "b" && inClass) return single("\b");
    if (/[bB]/.test(letter)) throw new PatternError("uses a word boundary");
    if (letter === "c") return single(String.fromCharCode(this.#next().charCodeAt(0) % 32));
    if (letter === "x") return single(String.fromCharCode(this.#hex(/^[0-9a-fA-F]{2}/)));
    if (letter === "u") return this.#unicode();
    if (letter === "0" && !/^\d/.test(this.#rest())) return single("\0");
    if (/[1-9]/.test(letter) || letter === "k") throw new PatternError("uses a back reference");
    if (/[A-Za-z0-9]/.test(letter)) throw new PatternError(`has the unknown escape \\${letter}`);
    return single(letter);
  }

  #unicode(): CharacterSet {
    const braces = /^\{([0-9a-fA-F]{1,6})\}/.exec(this.#rest());
    if (braces !== null) {
      this.#at += braces[0].length;
      const code = parseInt(braces[1] as string, 16);
      if (code > 0x10ffff) throw new PatternError("names a character beyond Unicode");
      return [[code, code]];
    }
    const unit = this.#hex(/^[0-9a-fA-F]{4}/);
    const low = /^\\u([dD][c-fC-F][0-9a-fA-F]{2})/.exec(this.#rest());
    if (unit >= 0xd800 && unit < 0xdc00 && low !== null) {
      this.#at += low[0].length;
      const code = 0x10000 + ((unit - 0xd800) << 10) + (parseInt(low[1] as string, 16) - 0xdc00);
      return [[code, code]];
    }
    return [[unit, unit]];
  }

  #hex(form: RegExp): number {
    const match = form.exec(this.#rest());
    if (match === null) throw new PatternError("has a broken \\x or \\u escape");
    this.#at += match[0].length;
    return parseInt(match[0], 16);
  }

  #property(negated: boolean): CharacterSet {
    const match = /^\{[A-Za-z_]+(=[A-Za-z_0-9]+)?\}/.exec(this.#rest());
    if (match === null) throw new PatternError("has a broken \\p escape");
    this.#at += match[0].length;
    const set = charactersOf(match[0]);
    return negated ? complement(set) : set;
  }

  #rest(): string {
    return this.#source.slice(this.#at, this.#at + 64);
  }

  #peek(): string {
    return this.#source[this.#at] ?? "";
  }

  #take(text: string): boolean {
    if (!this.#source.startsWith(text, this.#at)) return false;
    this.#at += text.length;
    return true;
  }

  #next(): string {
    const code = this.#source.codePointAt(this.#at);
    if (code === undefined) throw new PatternError("breaks off");
    const character = String.fromCodePoint(code);
    this.#at += character.length;
    return character;
  }
}

const properties = new Map<string, CharacterSet>();

/** The characters of a Unicode property, asked of the engine's own regular expressions; `braced` is `{L}`. */
function charactersOf(braced: string): CharacterSet {
  const known = properties.get(braced);
  if (known !== undefined) return known;
  let test: RegExp;
  try {
    test = new RegExp(`^\\p${braced}$`, "u");
  } catch {
    throw new PatternError(`names the unknown property \\p${braced}`);
  }
  const ranges: [number, number][] = [];
  for (let code = 0; code <= 0x10ffff; code++) {
    if (!test.test(String.fromCodePoint(code))) continue;
    const before = ranges.at(-1);
    if (before !== undefined && before[1] === code - 1) before[1] = code;
    else ranges.push([code, code]);
  }
  const set = characterSet(ranges);
  // There are some hundred properties in all: what is kept stays small.
  properties.set(braced, set);
  return set;
}

/** A way through the whole pattern, with what may stand before and behind it where it is not anchored. */
function found(way: readonly Anchored[]): Expression {
  const starts = way[0]?.type === "start" ? 1 : 0;
  const selfStanding = way.length === 3 && way[1]?.type === "start" && way[2]?.type === "end";
  if (selfStanding) return way[0] as Expression;
  const ends = way.length > starts && way.at(-1)?.type === "end" ? 1 : 0;
  const body = inner(way.slice(starts, way.length - ends));
  if (body === null) throw new PatternError("has an anchor in the middle");
  return sequence([...(starts === 1 ? [] : [anything]), body, ...(ends === 1 ? [] : [anything])]);
}

/** The same without anchors; null when it has some. */
function inner(parts: readonly Anchored[]): Expression | null {
  const plain = parts.filter((part): part is Expression => part.type !== "start" && part.type !== "end");
  return plain.length === parts.length ? sequence(plain) : null;
}

function sequence(parts: readonly Expression[]): Expression {
  const flat = parts.flatMap((part) => (part.type === "sequence" ? part.parts : [part]));
  return flat.length === 1 ? (flat[0] as Expression) : { type: "sequence", parts: flat };
}

function choice(ways: readonly Expression[]): Expression {
  return ways.length === 1 ? (ways[0] as Expression) : { type: "choice", ways };
}

/** Without a nullable body: a grammar that repeats what may be empty is left-recursive. */
function repeat(body: Expression, min: number, max: number | null): Expression {
  if (max === 0) return empty;
  const filled = withoutEmpty(body);
  if (filled === null) return empty;
  return { type: "repeat", body: filled, min: isNullable(body) ? 0 : min, max };
}

export function isNullable(expression: Expression): boolean {
  switch (expression.type) {
    case "set":
      return false;
    case "sequence":
      return expression.parts.every(isNullable);
    case "choice":
      return expression.ways.some(isNullable);
    case "repeat":
      return expression.min === 0;
  }
}

/** The same language less the empty text; null when nothing is left. */
function withoutEmpty(expression: Expression): Expression | null {
  if (!isNullable(expression)) return expression;
  switch (expression.type) {
    case "set":
      return expression;
    case "repeat":
      return { ...expression, min: 1 };
    case "choice": {
      const ways = expression.ways.map(withoutEmpty).filter((way) => way !== null);
      return ways.length === 0 ? null : choice(ways);
    }
    case "sequence": {
      if (expression.parts.length > 16) throw new PatternError("repeats too long a row of optional parts");
      const ways = expression.parts.map((part, index) => {
        const filled = withoutEmpty(part);
        return filled === null ? null : sequence([filled, ...expression.parts.slice(index + 1)]);
      });
      const some = ways.filter((way) => way !== null);
      return some.length === 0 ? null : choice(some);
    }
  }
}

function single(character: string): CharacterSet {
  const code = character.codePointAt(0) as number;
  return [[code, code]];
}

function onlyOf(set: CharacterSet): number | null {
  const [range] = set;
  return set.length === 1 && range !== undefined && range[0] === range[1] ? range[0] : null;
}

const lineEnds = characterSet([
  [0x0a, 0x0a],
  [0x0d, 0x0d],
  [0x2028, 0x2029],
]);
const digits: CharacterSet = [[0x30, 0x39]];
const wordCharacters = characterSet([...digits, [0x41, 0x5a], [0x5f, 0x5f], [0x61, 0x7a]]);
/** ECMA-262's WhiteSpace and LineTerminator. */
const spaces = characterSet([
  [0x09, 0x0d],
  [0x20, 0x20],
  [0xa0, 0xa0],
  [0x1680, 0x1680],
  [0x2000, 0x200a],
  [0x2028, 0x2029],
  [0x202f, 0x202f],
  [0x205f, 0x205f],
  [0x3000, 0x3000],
  [0xfeff, 0xfeff],
]);
const shorthand: Record<string, CharacterSet> = {
  d: digits,
  D: complement(digits),
  w: wordCharacters,
  W: complement(wordCharacters),
  s: spaces,
  S: complement(spaces),
};
const controls: Record<string, string> = { n: "\n", r: "\r", t: "\t", v: "\v", f: "\f" };
