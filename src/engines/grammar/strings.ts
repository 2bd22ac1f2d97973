import type { JsonObject } from "../../core/json.ts";
import { type Automaton, joinedAutomaton, toAutomaton } from "./automaton.ts";
import { allCharacters, type CharacterSet, complement, jsonCharacter, rangesText } from "./characters.ts";
import { formatPattern } from "./formats.ts";
import { type Expression, parsePattern, PatternError } from "./regular-expression.ts";
import { nothing } from "./gbnf.ts";
import { type Place, repeated, type Rules } from "./rules.ts";

/** Lengths in characters. `most` null: without end. */
interface Lengths {
  readonly least: number;
  readonly most: number | null;
}

const longestLength = 10_000_000;
const mostProductRules = 6000;
const mostProductSteps = 30_000;

/** The rule of a string schema with all its quotation marks; null when no string satisfies it. */
export function stringRule(rules: Rules, schema: JsonObject, place: Place): string | null {
  const read = readExpressions(rules, schema, place);
  const lengths = [readLengths(rules, schema, place), ...read.flatMap(asLengths)].reduce(bothLengths);
  if (lengths.most !== null && lengths.most < lengths.least) return null;
  const expressions = read.filter((expression) => asLengths(expression).length === 0);
  if (expressions.length === 0) return freeString(rules, lengths, place);
  const [only] = expressions;
  if (only !== undefined && expressions.length === 1 && within(lengthsOf(only), lengths)) {
    const body = expressionText(rules, only, place);
    return body === null ? null : rules.rule(place.name, `"\\"" ${body} "\\""`.replace(/ +/g, " "));
  }
  try {
    return productRule(rules, expressions.map(toAutomaton), lengths, place);
  } catch (error) {
    if (!(error instanceof PatternError)) throw error;
    rules.loosen(lengths.least > 0 || lengths.most !== null ? "minLength and maxLength" : "format", place);
    const body = expressionText(rules, only as Expression, place);
    return body === null ? null : rules.rule(place.name, `"\\"" ${body} "\\""`);
  }
}

function freeString(rules: Rules, { least, most }: Lengths, place: Place): string {
  if (least === 0 && most === null) return "string";
  return rules.rule(place.name, `"\\"" ${repeated(rules, "char", least, most)} "\\""`);
}

function readLengths(rules: Rules, schema: JsonObject, place: Place): Lengths {
  const least = toCount(schema["minLength"]) ?? 0;
  const most = toCount(schema["maxLength"]);
  if (least > longestLength) rules.loosen(`minLength above ${longestLength}`, place);
  // A longer text than any context holds: there is nothing to hold it to.
  return { least: Math.min(least, longestLength), most: most === null || most > longestLength ? null : most };
}

export function toCount(value: unknown): number | null {
  return typeof value === "number" && value >= 0 ? Math.ceil(value) : null;
}

function readExpressions(rules: Rules, schema: JsonObject, place: Place): Expression[] {
  const patterns = [schema["pattern"] ?? []].flat().filter((pattern) => typeof pattern === "string");
  const found: Expression[] = [];
  for (const pattern of patterns) {
    try {
      found.push(parsePattern(pattern));
    } catch (error) {
      if (!(error instanceof PatternError)) throw error;
      rules.loosen(`pattern (it ${error.message})`, place);
    }
  }
  for (const format of [schema["format"] ?? []].flat()) {
    if (typeof format !== "string") continue;
    const known = formatPattern(format);
    if (known === null) rules.loosen(`format ${format.slice(0, 40)}`, place);
    else if (known !== "") found.push(parsePattern(known));
  }
  return found;
}

/** `^[\\s\\S]{0,300}$` says nothing but lengths. */
function asLengths(expression: Expression): Lengths[] {
  const { type } = expression;
  if (type !== "repeat" || expression.body.type !== "set" || !isAll(expression.body)) return [];
  return [{ least: expression.min, most: expression.max }];
}

function bothLengths(a: Lengths, b: Lengths): Lengths {
  const most = a.most === null || b.most === null ? (a.most ?? b.most) : Math.min(a.most, b.most);
  return { least: Math.max(a.least, b.least), most };
}

function within(inner: Lengths, outer: Lengths): boolean {
  return inner.least >= outer.least && (outer.most === null || (inner.most !== null && inner.most <= outer.most));
}

function lengthsOf(expression: Expression): Lengths {
  switch (expression.type) {
    case "set":
      return { least: 1, most: 1 };
    case "sequence":
      return expression.parts
        .map(lengthsOf)
        .reduce((a, b) => ({ least: a.least + b.least, most: add(a.most, b.most) }), { least: 0, most: 0 });
    case "choice": {
      const ways = expression.ways.map(lengthsOf);
      return {
        least: Math.min(...ways.map((way) => way.least)),
        most: ways.some((way) => way.most === null) ? null : Math.max(...ways.map((way) => way.most as number)),
      };
    }
    case "repeat": {
      const body = lengthsOf(expression.body);
      const { min, max } = expression;
      return { least: body.least * min, most: max === null || body.most === null ? null : body.most * max };
    }
  }
}

function add(a: number | null, b: number | null): number | null {
  return a === null || b === null ? null : a + b;
}

/** How characters are written: in a JSON string, or as they are. */
interface Writing {
  readonly one: (set: CharacterSet) => string | null;
  readonly any: string;
}
// Any character at all may be written as an escape too.
const inJson: Writing = { one: jsonCharacter, any: "char" };
const asIs: Writing = { one: (set) => (set.length === 0 ? null : rangesText(set)), any: "[^\\x00]" };

/** The rule of all texts in which a pattern is found, as they are. Throws `PatternError`. */
export function patternRule(rules: Rules, pattern: string, name: string): string | null {
  const place = { pointer: "", name };
  const body = expressionText(rules, parsePattern(pattern), place, asIs);
  return body === null ? null : rules.rule(name, body);
}

/** GBNF of an expression's texts; null when the expression finds nothing. */
function expressionText(rules: Rules, expression: Expression, place: Place, writing = inJson): string | null {
  switch (expression.type) {
    case "set":
      return isAll(expression) ? writing.any : writing.one(expression.set);
    case "sequence": {
      const parts = expression.parts.map((part) => expressionText(rules, part, place, writing));
      return parts.includes(null) ? null : parts.filter((part) => part !== "").join(" ");
    }
    case "choice": {
      const ways = expression.ways
        .map((way) => expressionText(rules, way, place, writing))
        .filter((way) => way !== null);
      if (ways.length === 0) return null;
      return rules.rule(`${place.name}-way`, ways.map((way) => (way === "" ? nothing : way)).join(" | "));
    }
    case "repeat": {
      const body = expressionText(rules, expression.body, place, writing);
      if (body === null) return expression.min === 0 ? "" : null;
      const unit = /^[a-zA-Z0-9-]+$/.test(body) ? body : rules.rule(`${place.name}-part`, body);
      return repeated(rules, unit, expression.min, expression.max);
    }
  }
}

function isAll({ set }: Expression & { type: "set" }): boolean {
  return complement(set).length === 0 && set.length === allCharacters.length;
}

/** Several expressions and bounds on the length at once: a rule for each state and number of characters so far. */
function productRule(rules: Rules, automata: readonly Automaton[], lengths: Lengths, place: Place): string | null {
  const automaton = automata.reduce(joinedAutomaton);
  const top = lengths.most ?? lengths.least;
  if (automaton.next.length * (top + 1) > mostProductRules * 8) throw new PatternError("is too large");
  const alive = liveStates(automaton, lengths);
  if (!alive(0, 0)) return null;
  // Beyond the least length without a most one, nothing is counted any more.
  const after = (length: number): number => (lengths.most === null ? Math.min(length + 1, lengths.least) : length + 1);
  const names = new Map<string, string>();
  const states: [number, number][] = [[0, 0]];
  names.set("0,0", "");
  let steps = 0;
  for (let index = 0; index < states.length; index++) {
    const [state, length] = states[index] as [number, number];
    for (const { to } of automaton.next[state] ?? []) {
      if (++steps > mostProductSteps) throw new PatternError("is too large");
      const key = `${to},${after(length)}`;
      if (names.has(key) || !alive(to, after(length))) continue;
      if (states.push([to, after(length)]) > mostProductRules) throw new PatternError("is too large");
      names.set(key, "");
    }
  }
  for (const key of names.keys()) names.set(key, rules.reserve(`${place.name}-${key}`));
  for (const [state, length] of states) {
    const ways = (automaton.next[state] ?? []).flatMap(({ set, to }) => {
      const next = alive(to, after(length)) ? names.get(`${to},${after(length)}`) : undefined;
      return next === undefined ? [] : [`${jsonCharacter(set)} ${next}`];
    });
    if (automaton.final[state] === true && length >= lengths.least) ways.push(nothing);
    rules.define(names.get(`${state},${length}`) as string, ways.join(" | "));
  }
  return rules.rule(place.name, `"\\"" ${names.get("0,0")} "\\""`);
}

/** Whether from a state, after so many characters, an accepted end can still be reached. */
function liveStates(automaton: Automaton, { least, most }: Lengths): (state: number, length: number) => boolean {
  const top = most ?? least;
  const live: Uint8Array[] = Array.from({ length: top + 1 }, () => new Uint8Array(automaton.next.length));
  const last = live[top] as Uint8Array;
  for (const [state, final] of automaton.final.entries()) if (final) last[state] = 1;
  if (most === null) {
    for (let changed = true; changed;) {
      changed = false;
      for (const [state, steps] of automaton.next.entries()) {
        if (last[state] === 0 && steps.some(({ to }) => last[to] === 1)) [last[state], changed] = [1, true];
      }
    }
  }
  for (let length = top - 1; length >= 0; length--) {
    for (const [state, steps] of automaton.next.entries()) {
      const ends = automaton.final[state] === true && length >= least;
      const goesOn = steps.some(({ to }) => live[length + 1]?.[to] === 1);
      (live[length] as Uint8Array)[state] = ends || goesOn ? 1 : 0;
    }
  }
  return (state, length) => live[length]?.[state] === 1;
}
