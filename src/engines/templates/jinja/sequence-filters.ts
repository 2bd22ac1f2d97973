import { charge, chargeText, TemplateError } from "./budget.ts";
import { itemOf } from "./attributes.ts";
import { calculate } from "./arithmetic.ts";
import { tests } from "./tests.ts";
import {
  type Arguments,
  bindArguments,
  compare,
  isEqual,
  isTrue,
  toInteger,
  toItems,
  toText,
  Tuple,
  typeName,
  type Value,
} from "./values.ts";

/** The items of a value in a list of their own. */
export function copyItems(value: Value): Value[] {
  const items = [...toItems(value)];
  charge(items.length);
  return items;
}

/** `map`, `select` and their like take everything that is not true for empty. */
export function itemsIfAny(value: Value): readonly Value[] {
  const items = isTrue(value) ? toItems(value) : [];
  charge(items.length);
  return items;
}

/** `items`: the entries of a dict as pairs. */
export function itemsOf(value: Value): Value {
  if (value === undefined) return [];
  if (!(value instanceof Map)) throw new TemplateError(`items needs a dict, not ${typeName(value)}`);
  charge(value.size);
  return Array.from(value, (entry) => Tuple.fromItems(entry));
}

/** `join`. */
export function join(value: Value, given: Arguments): Value {
  const [separator = "", attribute] = bindArguments("join", given, ["d", "attribute"]);
  const between = toText(separator);
  let length = 0;
  const texts = toItems(value).map((item) => {
    const text = toText(attribute === undefined ? item : follow(item, attribute));
    length += text.length + between.length;
    chargeText(text.length + between.length + 16);
    return text;
  });
  return length === 0 ? "" : texts.join(between);
}

/** `a.b.0` of a value, as `map(attribute=…)` and `selectattr` walk it. */
export function follow(value: Value, path: Value): Value {
  if (typeof path !== "string") return itemOf(value, path, () => "an item");
  let found = value;
  for (const part of path.split(".")) found = itemOf(found, /^\d+$/.test(part) ? Number(part) : part, () => "an item");
  return found;
}

function findTest(name: Value): (value: Value, given: readonly Value[]) => boolean {
  if (name === undefined) return isTrue;
  const test = tests.get(toText(name));
  if (test === undefined) throw new TemplateError(`there is no test ${toText(name)}`);
  return test;
}

/** `select` and `reject`: the items that pass a test, or do not. */
export function choose(value: Value, { positional: [name, ...rest] }: Arguments, wanted: boolean): Value {
  const test = findTest(name);
  const items = itemsIfAny(value);
  return items.filter((item) => test(item, rest) === wanted);
}

/** `selectattr` and `rejectattr`. */
export function chooseBy(value: Value, { positional: [attribute, name, ...rest] }: Arguments, wanted: boolean): Value {
  const test = findTest(name);
  const items = itemsIfAny(value);
  return items.filter((item) => test(follow(item, attribute), rest) === wanted);
}

function folded(value: Value, caseSensitive: Value): Value {
  return typeof value === "string" && !isTrue(caseSensitive) ? value.toLowerCase() : value;
}

function sortBy(items: readonly Value[], keyOf: (item: Value) => Value, reverse: Value): Value[] {
  charge(items.length * Math.ceil(Math.log2(items.length + 2)));
  const sign = isTrue(reverse) ? -1 : 1;
  const keyed = items.map((item) => ({ item, key: keyOf(item) }));
  return keyed.sort((left, right) => sign * compare(left.key, right.key)).map(({ item }) => item);
}

/** `sort`, which does not mind the case unless told to. */
export function sort(value: Value, given: Arguments): Value {
  const [reverse, caseSensitive, attribute] = bindArguments("sort", given, ["reverse", "case_sensitive", "attribute"]);
  const keyOf = (item: Value): Value => folded(attribute === undefined ? item : follow(item, attribute), caseSensitive);
  return sortBy(toItems(value), keyOf, reverse);
}

/** `dictsort`: the entries of a dict in the order of their keys, or values. */
export function dictSort(value: Value, given: Arguments): Value {
  const [caseSensitive, by = "key", reverse] = bindArguments("dictsort", given, ["case_sensitive", "by", "reverse"]);
  const at = by === "value" ? 1 : 0;
  const entries = itemsOf(value) as Tuple[];
  return sortBy(entries, (entry) => folded((entry as Tuple)[at], caseSensitive), reverse);
}

/** `groupby`: pairs of an attribute and the items that have it. */
export function groupBy(value: Value, given: Arguments): Value {
  const [attribute, fallback, caseSensitive] = bindArguments("groupby", given, [
    "attribute",
    "default",
    "case_sensitive",
  ]);
  const keyOf = (item: Value): Value => follow(item, attribute) ?? fallback;
  const groups: Tuple[] = [];
  for (const item of sortBy(toItems(value), (one) => folded(keyOf(one), caseSensitive), false)) {
    const key = keyOf(item);
    const last = groups.at(-1);
    const list = last?.[1];
    if (
      last !== undefined &&
      Array.isArray(list) &&
      isEqual(folded(last[0], caseSensitive), folded(key, caseSensitive))
    )
      list.push(item);
    else groups.push(Tuple.fromItems([key, [item]]));
  }
  return groups;
}

/** `unique`: the first of all items that are alike. */
export function unique(value: Value, given: Arguments): Value {
  const [caseSensitive, attribute] = bindArguments("unique", given, ["case_sensitive", "attribute"]);
  const seen: Value[] = [];
  return toItems(value).filter((item) => {
    const key = folded(attribute === undefined ? item : follow(item, attribute), caseSensitive);
    charge(seen.length + 1);
    if (seen.some((one) => isEqual(one, key))) return false;
    seen.push(key);
    return true;
  });
}

/** `max` and `min`. */
export function extreme(name: "max" | "min", value: Value, given: Arguments): Value {
  const [caseSensitive, attribute] = bindArguments(name, given, ["case_sensitive", "attribute"]);
  const keyOf = (item: Value): Value => folded(attribute === undefined ? item : follow(item, attribute), caseSensitive);
  const sign = name === "max" ? 1 : -1;
  const items = toItems(value);
  charge(items.length);
  let best: Value;
  for (const [index, item] of items.entries()) {
    if (index === 0 || sign * compare(keyOf(item), keyOf(best)) > 0) best = item;
  }
  return best;
}

/** `sum`. */
export function sum(value: Value, given: Arguments): Value {
  const [attribute, start = 0] = bindArguments("sum", given, ["attribute", "start"]);
  let total: Value = start;
  for (const item of toItems(value)) {
    charge(1);
    total = calculate("+", total, attribute === undefined ? item : follow(item, attribute));
  }
  return total;
}

/** `batch`: lists of so many items. */
export function batch(value: Value, { positional: [size, fill = null] }: Arguments): Value {
  const count = Math.max(1, toInteger(size, "a batch's size"));
  const items = toItems(value);
  charge(items.length);
  const batches: Value[][] = [];
  for (let at = 0; at < items.length; at += count) batches.push(items.slice(at, at + count));
  const last = batches.at(-1);
  if (last !== undefined && fill !== null) {
    charge(count);
    while (last.length < count) last.push(fill);
  }
  return batches;
}
