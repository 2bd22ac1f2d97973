import { charge, chargeText, TemplateError } from "./budget.ts";
import { dictMethods, listMethods } from "./collection-methods.ts";
import { stringMethods } from "./string-methods.ts";
import {
  type Arguments,
  asNumber,
  Attributes,
  hasWideCharacters,
  isFloat,
  Namespace,
  toInteger,
  toKey,
  Tuple,
  typeName,
  type Value,
} from "./values.ts";

export type Method<Self = Value> = (self: Self, given: Arguments) => Value;

/** A method of a text, list or dict; undefined when the value has none of that name. */
export function methodOf(value: Value, name: string): Method | undefined {
  if (typeof value === "string") return stringMethods.get(name) as Method | undefined;
  if (value instanceof Map) return dictMethods.get(name) as Method | undefined;
  if (Array.isArray(value)) return listMethods.get(name) as Method | undefined;
  return undefined;
}

/** `value.name`: a method goes before a key, as in Python. `describe` names the value, for the message of its absence. */
export function attributeOf(value: Value, name: string, describe: () => string): Value {
  if (value instanceof Map) {
    const method = dictMethods.get(name);
    if (method !== undefined) return (given) => method(value, given);
    return value.get(name);
  }
  if (value instanceof Attributes) return value.get(name);
  if (value instanceof Namespace) return value.entries.get(name);
  if (value === undefined) throw new TemplateError(`${describe()} is undefined, so it has no ${name}`);
  const method = methodOf(value, name);
  return method === undefined ? undefined : (given) => method(value, given);
}

/** `value[key]`: a key goes before a method. */
export function itemOf(value: Value, key: Value, describe: () => string): Value {
  if (value instanceof Map) {
    if (Array.isArray(key) || key instanceof Map) return undefined;
    const plain = toKey(key);
    const found = value.get(plain);
    if (found !== undefined || value.has(plain) || typeof key !== "string") return found;
    return attributeOf(value, key, describe);
  }
  const index = isFloat(key) ? undefined : asNumber(key);
  if (index !== undefined && Array.isArray(value)) return value[index < 0 ? index + value.length : index];
  if (index !== undefined && typeof value === "string") return characterAt(value, index);
  if (typeof key === "string") return attributeOf(value, key, describe);
  if (value === undefined) throw new TemplateError(`${describe()} is undefined, so it has no items`);
  return undefined;
}

function characterAt(text: string, index: number): Value {
  if (!hasWideCharacters(text)) return text[index < 0 ? index + text.length : index];
  charge(text.length / 16);
  return Array.from(text).at(index);
}

/** `value[start:stop:step]`, bounds that are left out as None. */
export function sliceOf(value: Value, bounds: readonly [Value, Value, Value]): Value {
  if (typeof value === "string") {
    chargeText(value.length);
    if (!hasWideCharacters(value)) {
      const [start, stop, step] = resolve(bounds, value.length);
      return step === 1 ? value.slice(start, Math.max(start, stop)) : pick(value, start, stop, step).join("");
    }
    const characters = Array.from(value);
    return pick(characters, ...resolve(bounds, characters.length)).join("");
  }
  if (!Array.isArray(value)) {
    if (value === undefined) throw new TemplateError("what is undefined cannot be sliced");
    throw new TemplateError(`${typeName(value)} cannot be sliced`);
  }
  const [start, stop, step] = resolve(bounds, value.length);
  charge(Math.max(0, (stop - start) / step));
  const items = step === 1 ? Array.from(value).slice(start, Math.max(start, stop)) : pick(value, start, stop, step);
  return value instanceof Tuple ? Tuple.fromItems(items) : items;
}

function resolve(bounds: readonly [Value, Value, Value], length: number): [number, number, number] {
  const [start, stop, step] = bounds.map((bound) =>
    bound === null || bound === undefined ? null : toInteger(bound, "a slice's bound"),
  ) as [number | null, number | null, number | null];
  const by = step ?? 1;
  if (by === 0) throw new TemplateError("a slice's step cannot be zero");
  const [lowest, highest] = by > 0 ? [0, length] : [-1, length - 1];
  const clamp = (bound: number): number => Math.min(highest, Math.max(lowest, bound < 0 ? bound + length : bound));
  return [
    start === null ? (by > 0 ? lowest : highest) : clamp(start),
    stop === null ? (by > 0 ? highest : lowest) : clamp(stop),
    by,
  ];
}

function pick<Item>(from: ArrayLike<Item>, start: number, stop: number, step: number): Item[] {
  const picked: Item[] = [];
  for (let index = start; step > 0 ? index < stop : index > stop; index += step) picked.push(from[index] as Item);
  return picked;
}
