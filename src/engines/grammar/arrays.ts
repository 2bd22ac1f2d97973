import { isObject, type Json, type JsonObject } from "../../core/json.ts";
import { same } from "./accepts.ts";
import { literal, nothing } from "./gbnf.ts";
import { type Place, repeated, type Rules, under } from "./rules.ts";
import { toCount } from "./strings.ts";

const longestPrefix = 200;
const mostItems = 1_000_000;
const mostUniqueStates = 5000;

/** The rule of an array schema; null when no array satisfies it. */
export function arrayRule(rules: Rules, schema: JsonObject, place: Place): string | null {
  const least = toCount(schema["minItems"]) ?? 0;
  const declared = toCount(schema["maxItems"]);
  if (least > mostItems) rules.loosen(`minItems above ${mostItems}`, under(place, "minItems"));
  const most = declared === null || declared > mostItems ? null : declared;
  const bounds = { least: Math.min(least, mostItems), most };
  if (most !== null && most < least) return null;
  const { first, rest } = readItems(rules, schema, bounds.least, place);
  if (schema["uniqueItems"] === true && (most === null || most > 1)) {
    const unique = first.length === 0 ? uniqueRule(rules, rest, bounds, place) : undefined;
    if (unique !== undefined) return unique;
    rules.loosen("uniqueItems", under(place, "uniqueItems"));
  }
  return listRule(rules, { first, rest, ...bounds }, place);
}

/** The schemas of the first items, each its own, and of all that follow; `false` where nothing may follow. */
function readItems(rules: Rules, schema: JsonObject, least: number, place: Place): { first: Json[]; rest: Json } {
  const fixed = Array.isArray(schema["prefixItems"])
    ? schema["prefixItems"]
    : Array.isArray(schema["items"])
      ? schema["items"]
      : [];
  if (fixed.length > longestPrefix) rules.loosen(`more than ${longestPrefix} prefixItems`, under(place, "prefixItems"));
  const first = fixed.slice(0, longestPrefix);
  const given = Array.isArray(schema["items"]) ? schema["additionalItems"] : schema["items"];
  // A tuple that says nothing of what follows is written without.
  const rest = given ?? schema["unevaluatedItems"] ?? (first.length === 0 || least > first.length);
  const contains = schema["contains"];
  const wanted = toCount(schema["minContains"]) ?? 1;
  if (schema["maxContains"] !== undefined) rules.loosen("maxContains", under(place, "maxContains"));
  if (contains === undefined || wanted === 0) return { first, rest };
  if (wanted > longestPrefix) rules.loosen(`minContains above ${longestPrefix}`, under(place, "minContains"));
  // The first items are those that the array must contain.
  const held = Array.from({ length: Math.min(Math.max(wanted, first.length), longestPrefix) }, (_, index) =>
    index < wanted ? { allOf: [first[index] ?? rest, contains] } : (first[index] ?? rest),
  );
  return { first: held, rest };
}

interface List {
  readonly first: readonly Json[];
  readonly rest: Json;
  readonly least: number;
  readonly most: number | null;
}

function listRule(rules: Rules, { first, rest, least, most }: List, place: Place): string | null {
  const heads: string[] = [];
  const room = Math.min(first.length, most ?? first.length);
  for (const [index, item] of first.slice(0, room).entries()) {
    const rule = rules.visit(item, under(place, "prefixItems", index));
    if (rule === null) break;
    heads.push(`${rule} ws`);
  }
  const follows = heads.length === first.length && (most === null || most > heads.length) && rest !== false;
  const tail = follows ? rules.visit(rest, under(place, "items")) : null;
  const missing = Math.max(0, least - heads.length);
  if (missing > 0 && tail === null) return null;
  if (heads.length === 0 && tail === null) return rules.rule(place.name, `"[" ws "]"`);
  if (heads.length > 0) {
    const fixed = heads.join(` "," ws `);
    if (tail === null) return rules.rule(place.name, `"[" ws ${fixed} "]"`);
    const more = rules.rule(`${place.name}-more`, `"," ws ${tail} ws`);
    return rules.rule(
      place.name,
      `"[" ws ${fixed} ${repeated(rules, more, missing, most === null ? null : most - heads.length)} "]"`,
    );
  }
  const more = rules.rule(`${place.name}-more`, `"," ws ${tail} ws`);
  const list = `${tail} ws ${repeated(rules, more, Math.max(0, least - 1), most === null ? null : most - 1)}`.trim();
  return rules.rule(place.name, least > 0 ? `"[" ws ${list} "]"` : `"[" ws (${list})? "]"`);
}

/**
 * Items that must differ, where they are some listed values: in the order in which they are listed, so that none comes
 * twice. Undefined where they are not listed.
 */
function uniqueRule(
  rules: Rules,
  item: Json,
  { least, most }: { least: number; most: number | null },
  place: Place,
): string | null | undefined {
  const values = listedValues(item);
  if (values === null) return undefined;
  const top = Math.min(most ?? values.length, values.length);
  if (least > values.length) return null;
  if (values.length * (top + 1) > mostUniqueStates) return undefined;
  const anyOrder = rules.order === "any" && values.length <= 5 && most === null && least <= 1;
  const known = new Map<string, string>();
  const rest = (at: number, count: number): string => {
    const key = `${at} ${count}`;
    const name = known.get(key);
    if (name !== undefined) return name;
    const reserved = rules.reserve(`${place.name}-unique`);
    known.set(key, reserved);
    const comma = count === 0 ? "" : `"," ws `;
    const ways: string[] = [];
    for (const [index, value] of values.entries()) {
      if (anyOrder && (at & (1 << index)) !== 0) {
        ways.push(`${comma}${literal(value)} ws ${rest(at & ~(1 << index), 1)}`);
      } else if (!anyOrder && index === at && count < top) {
        ways.push(`${comma}${literal(value)} ws ${rest(at + 1, count + 1)}`);
        if (values.length - at - 1 + count >= least) ways.push(rest(at + 1, count));
      }
    }
    if (count >= least) ways.push(nothing);
    rules.define(reserved, ways.join(" | "));
    return reserved;
  };
  return rules.rule(place.name, `"[" ws ${rest(anyOrder ? 2 ** values.length - 1 : 0, 0)} "]"`);
}

function listedValues(item: Json): Json[] | null {
  if (!isObject(item)) return null;
  const keywords = Object.keys(item).filter((keyword) => !["enum", "type", "title", "description"].includes(keyword));
  if (item["type"] === "boolean" && keywords.length === 0 && item["enum"] === undefined) return [true, false];
  if (!Array.isArray(item["enum"]) || keywords.length > 0) return null;
  return item["enum"].filter((value, index, all) => all.findIndex((other) => same(value, other)) === index);
}
