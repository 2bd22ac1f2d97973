import type { Json, JsonObject } from "../../core/json.ts";
import { accepts, matches } from "./accepts.ts";
import { acceptsAny, joinedAutomaton, toAutomaton } from "./automaton.ts";
import { complement, characterSet, intersection, jsonCharacter, rangesText } from "./characters.ts";
import { literal, nothing } from "./gbnf.ts";
import { objectOf, propertySchema } from "./merge.ts";
import { parsePattern, PatternError } from "./regular-expression.ts";
import { type Place, type Rules, under } from "./rules.ts";
import { stringRule, toCount } from "./strings.ts";

interface Member {
  readonly rule: string;
  readonly required: boolean;
}

interface Members {
  readonly declared: readonly Member[];
  /** Members with any other key; null when there may be none. */
  readonly others: string | null;
  readonly least: number;
  readonly most: number | null;
  readonly anyOrder: boolean;
}

/** So many properties may come in any order: each subset of them takes a rule. */
const mostInAnyOrder = 5;
const mostDeclared = 1000;
const mostPatterns = 30;
const mostStates = 20_000;
/** Further keys may share so many characters with a named one: each nests the grammar deeper. */
const longestSharedKey = 100;

/** The rule of an object schema; null when no object satisfies it. */
export function objectRule(rules: Rules, schema: JsonObject, place: Place): string | null {
  const keys = declaredKeys(schema);
  if (keys.length > mostDeclared) rules.loosen(`more than ${mostDeclared} properties`, under(place, "properties"));
  const required = new Set([schema["required"] ?? []].flat());
  const declared: Member[] = [];
  for (const key of keys.slice(0, mostDeclared)) {
    const value = rules.visit(propertySchema(schema, key) ?? true, under(place, "properties", key));
    if (value !== null && accepts(schema["propertyNames"] ?? true, key)) {
      const rule = rules.rule(`${place.name}-${key}-kv`, `${literal(key)} ws ":" ws ${value} ws`);
      declared.push({ rule, required: required.has(key) });
    } else if (required.has(key)) return null;
  }
  const counts = readCounts(rules, schema, declared, place);
  const others = otherMembers(rules, schema, { keys, needed: counts.least > declared.length }, place);
  const anyOrder = rules.order === "any" && declared.length <= mostInAnyOrder;
  if (others !== null && counts.least > declared.length + 1) {
    rules.loosen("minProperties (a key may come twice)", under(place, "minProperties"));
  }
  return membersRule(rules, { ...counts, declared, others, anyOrder }, place);
}

function declaredKeys(schema: JsonObject): string[] {
  const required = [schema["required"] ?? []].flat().filter((key) => typeof key === "string");
  return [...new Set([...Object.keys(objectOf(schema["properties"])), ...required])];
}

function readCounts(
  rules: Rules,
  schema: JsonObject,
  declared: readonly Member[],
  place: Place,
): { least: number; most: number | null } {
  const required = declared.filter((member) => member.required).length;
  const least = toCount(schema["minProperties"]) ?? 0;
  const most = toCount(schema["maxProperties"]);
  if (Math.max(least, most ?? 0) > mostDeclared && least > 0) {
    rules.loosen(`minProperties above ${mostDeclared}`, under(place, "minProperties"));
  }
  const open = schema["additionalProperties"] !== undefined || schema["patternProperties"] !== undefined;
  return {
    least: least <= required ? 0 : Math.min(least, mostDeclared),
    most:
      most === null || most > mostDeclared || (!open && most >= declared.length && declared.length > 0) ? null : most,
  };
}

/** `key: value` of properties that the schema does not name, or names by a pattern only. */
function otherMembers(
  rules: Rules,
  schema: JsonObject,
  { keys, needed }: { keys: readonly string[]; needed: boolean },
  place: Place,
): string | null {
  const patterns = Object.entries(objectOf(schema["patternProperties"]));
  const names = schema["propertyNames"];
  if (patterns.length > 0) return patternMembers(rules, schema, keys, place);
  const others = schema["additionalProperties"] ?? schema["unevaluatedProperties"] ?? (keys.length === 0 || needed);
  if (others === false) return null;
  const value = rules.visit(others, under(place, "additionalProperties"));
  if (value === null) return null;
  let key: string | null = keys.length === 0 ? "string" : otherKey(rules, keys, place);
  if (names !== undefined && names !== true) {
    // Both bounds at once on one key are beyond a grammar: where properties are named, those are all.
    key = keys.length === 0 ? rules.visit({ allOf: [names, { type: "string" }] }, under(place, "propertyNames")) : null;
  }
  return key === null ? null : rules.rule(`${place.name}-other-kv`, `${key} ws ":" ws ${value} ws`);
}

function patternMembers(rules: Rules, schema: JsonObject, keys: readonly string[], place: Place): string | null {
  const all = Object.entries(objectOf(schema["patternProperties"]));
  if (all.length > mostPatterns) rules.loosen(`more than ${mostPatterns} patternProperties`, place);
  const patterns = all.slice(0, mostPatterns);
  const names = objectOf(schema["propertyNames"]);
  const ways: string[] = [];
  for (const [pattern] of patterns) {
    // A key that is named as well would come twice.
    if (keys.some((key) => matches(pattern, key))) continue;
    const at = under(place, "patternProperties", pattern);
    const values = patterns.filter(([other]) => overlap(pattern, other)).map(([, value]) => value ?? true);
    const value = rules.visit(values.length === 1 ? (values[0] as Json) : { allOf: values }, at);
    const both = { ...names, pattern: [pattern, names["pattern"] ?? []].flat() };
    const key = value === null ? null : stringRule(rules, both, { ...at, name: `${place.name}-key` });
    if (key !== null) ways.push(rules.rule(`${place.name}-pattern-kv`, `${key} ws ":" ws ${value} ws`));
  }
  return ways.length === 0 ? null : rules.rule(`${place.name}-patterns`, ways.join(" | "));
}

/** Whether a key may match both patterns. */
function overlap(a: string, b: string): boolean {
  if (a === b) return true;
  try {
    return acceptsAny(joinedAutomaton(toAutomaton(parsePattern(a)), toAutomaton(parsePattern(b))));
  } catch (error) {
    if (error instanceof PatternError) return true;
    throw error;
  }
}

/**
 * Rules of what may follow, one for each set of properties that are still to come (or, in declared order, each
 * place in it) and number of members so far.
 */
function membersRule(rules: Rules, members: Members, place: Place): string | null {
  const { declared, others, least, most, anyOrder } = members;
  const counted = Math.max(least, most === null ? 0 : most + 1);
  const known = new Map<string, string | null>();
  const all = 2 ** declared.length - 1;
  const end = declared.length;
  const complete = (at: number, count: number): boolean =>
    count >= least &&
    declared.every((member, index) => !member.required || (anyOrder ? (at & (1 << index)) === 0 : index < at));
  const rest = (at: number, count: number, hasOther: boolean, first: boolean): string | null => {
    const key = `${at} ${count} ${hasOther} ${first}`;
    const name = known.get(key);
    if (name !== undefined) return name;
    if (known.size > mostStates) rules.loosen("so many properties with a bound on their number", place);
    const reserved = rules.reserve(`${place.name}-rest`);
    known.set(key, reserved);
    const comma = first ? "" : `"," ws `;
    const ways: string[] = [];
    const more = Math.min(count + 1, counted);
    const go = (member: string, next: string | null): void => {
      if (next !== null) ways.push(`${comma}${member} ${next}`.trim());
    };
    const full = most !== null && count >= most;
    if (!full) {
      for (const [index, member] of declared.entries()) {
        if (anyOrder && (at & (1 << index)) !== 0) go(member.rule, rest(at & ~(1 << index), more, hasOther, false));
      }
      const next = anyOrder ? undefined : declared[at];
      if (next !== undefined) go(next.rule, rest(at + 1, more, hasOther, false));
      // Other keys may come twice: only the first counts as one more.
      const atEnd = anyOrder || at === end;
      const after = hasOther && most === null && least <= declared.length + 1 ? count : more;
      if (others !== null && atEnd) go(others, rest(at, after, true, false));
    }
    const skipped = anyOrder ? undefined : declared[at];
    if (skipped !== undefined && !skipped.required) {
      const next = rest(at + 1, count, hasOther, first);
      if (next !== null) ways.push(next);
    }
    const ends = (anyOrder || at === end) && complete(at, count);
    if (ends) ways.push(nothing);
    // A state that leads nowhere, unless it is one that leads to itself.
    if (ways.length === 0) known.set(key, null);
    rules.define(reserved, ways.join(" | "));
    return ways.length === 0 ? null : reserved;
  };
  const start = rest(anyOrder ? all : 0, 0, false, true);
  return start === null ? null : rules.rule(place.name, `"{" ws ${start} "}"`);
}

/** A string that is none of `keys`, so that no key comes twice. */
function otherKey(rules: Rules, keys: readonly string[], place: Place): string {
  const level = (depth: number, group: readonly string[][]): string => {
    const heads = [...new Set(group.flatMap((key) => key.slice(depth, depth + 1)))];
    const ways = (depth < longestSharedKey ? heads : []).map((head) => {
      const same = group.filter((key) => key[depth] === head);
      return `${literalOf(head)} ${level(depth + 1, same)}`;
    });
    // Where the key turns away from all others stands no escape: it would have to be read to be compared.
    const other = intersection(
      complement(characterSet(heads.map((head) => [head.codePointAt(0) as number, head.codePointAt(0) as number]))),
      unescaped,
    );
    ways.push(`${rangesText(other)} char*`);
    const complete = group.some((key) => key.length === depth);
    return `(${ways.join(" | ")})${complete ? "" : "?"}`;
  };
  const tree = level(
    0,
    keys.slice(0, mostDeclared).map((key) => [...key]),
  );
  return rules.rule(`${place.name}-other-key`, `"\\"" ${tree} "\\""`);
}

const unescaped = complement([
  [0, 0x1f],
  [0x22, 0x22],
  [0x5c, 0x5c],
  [0x7f, 0x7f],
]);

function literalOf(character: string): string {
  const code = character.codePointAt(0) as number;
  const written = jsonCharacter([[code, code]]);
  // A lone surrogate, which JSON can only write as an escape.
  return written ?? literal(character).replace(/^"\\"|\\""$/g, '"');
}
