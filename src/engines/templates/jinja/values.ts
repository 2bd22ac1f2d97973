import { charge, chargeText, TemplateError } from "./budget.ts";

/**
 * A value of the template language, with Python's meaning: `undefined` is Jinja's undefined, `null` is None, a number
 * with a fraction is a float, one without is an int, a Map is a dict. Nothing here is a plain JavaScript object, so no
 * template reaches a prototype.
 */
export type Value =
  | undefined
  | null
  | boolean
  | number
  | string
  | WholeFloat
  | Value[]
  | Map<Value, Value>
  | Namespace
  | Attributes
  | Callable;

/** A float without a fraction, which prints as `2.0`. */
export class WholeFloat {
  readonly value: number;

  constructor(value: number) {
    this.value = value;
  }
}

/** Python's tuple: a list with other brackets. */
export class Tuple extends Array<Value> {
  /** `new Array(3)` would mean three holes. */
  static fromItems(items: readonly Value[]): Tuple {
    const tuple = new Tuple();
    for (const item of items) tuple.push(item);
    return tuple;
  }
}

/** Jinja's `namespace()`, the one thing whose attributes a template may set. */
export class Namespace {
  readonly entries: Map<Value, Value>;

  constructor(entries: Map<Value, Value>) {
    this.entries = entries;
  }
}

/** Something with attributes but nothing else, such as `loop`. */
export abstract class Attributes {
  abstract get(name: string): Value;
}

/** What a function, method, filter or test was given. */
export interface Arguments {
  readonly positional: readonly Value[];
  readonly named: ReadonlyMap<string, Value>;
}

export type Callable = (given: Arguments) => Value;

export const noNames: ReadonlyMap<string, Value> = new Map();

/** Arguments by name, in the order of `names`; `undefined` for those not given. Throws on too many or unknown ones. */
export function bindArguments(what: string, given: Arguments, names: readonly string[]): Value[] {
  if (given.positional.length > names.length) {
    throw new TemplateError(`${what} takes ${names.length} arguments, not ${given.positional.length}`);
  }
  const bound: Value[] = names.map((_, index) => given.positional[index]);
  for (const [name, value] of given.named) {
    const index = names.indexOf(name);
    if (index < 0) throw new TemplateError(`${what} has no argument ${name}`);
    bound[index] = value;
  }
  return bound;
}

/** The name of a value's type in Python, for messages. */
export function typeName(value: Value): string {
  if (value === undefined) return "undefined";
  if (value === null) return "None";
  if (typeof value === "boolean") return "bool";
  if (typeof value === "number") return Number.isInteger(value) ? "int" : "float";
  if (typeof value === "string") return "str";
  if (typeof value === "function") return "function";
  if (value instanceof WholeFloat) return "float";
  if (value instanceof Tuple) return "tuple";
  if (Array.isArray(value)) return "list";
  if (value instanceof Map) return "dict";
  return value instanceof Namespace ? "namespace" : "object";
}

export function isTrue(value: Value): boolean {
  if (Array.isArray(value)) return value.length > 0;
  if (value instanceof Map) return value.size > 0;
  if (value instanceof WholeFloat) return value.value !== 0;
  return Boolean(value) || Number.isNaN(value);
}

/** A number of either kind, or a bool as Python counts it; undefined for everything else. */
export function asNumber(value: Value): number | undefined {
  if (typeof value === "number") return value;
  if (typeof value === "boolean") return Number(value);
  return value instanceof WholeFloat ? value.value : undefined;
}

export function isFloat(value: Value): boolean {
  return value instanceof WholeFloat || (typeof value === "number" && !Number.isInteger(value));
}

export function toFloat(value: number): Value {
  return Number.isInteger(value) ? new WholeFloat(value) : value;
}

/** A whole number for a length, index or count. Throws on anything else. */
export function toInteger(value: Value, what: string): number {
  const number = asNumber(value);
  if (number === undefined || isFloat(value) || !Number.isSafeInteger(number)) {
    throw new TemplateError(`${what} must be an integer, not ${typeName(value)}`);
  }
  return number;
}

/** Python's `str()`, as output prints it: undefined is nothing. */
export function toText(value: Value): string {
  if (typeof value === "string") return value;
  return value === undefined ? "" : toRepresentation(value);
}

/** Python's `repr()`. */
export function toRepresentation(value: Value): string {
  charge(4);
  if (value === undefined) return "Undefined";
  if (value === null) return "None";
  if (value === true) return "True";
  if (value === false) return "False";
  if (typeof value === "string") return quote(value);
  if (typeof value === "number") return formatNumber(value);
  if (value instanceof WholeFloat) return formatNumber(value.value, true);
  if (value instanceof Tuple) {
    return value.length === 1 ? `(${toRepresentation(value[0])},)` : `(${value.map(toRepresentation).join(", ")})`;
  }
  if (Array.isArray(value)) return `[${value.map(toRepresentation).join(", ")}]`;
  if (value instanceof Map) {
    const entries = Array.from(value, ([key, item]) => `${toRepresentation(key)}: ${toRepresentation(item)}`);
    return `{${entries.join(", ")}}`;
  }
  return `<${typeName(value)}>`;
}

/** Python writes exponents from 1e16 on and below 1e-4, JavaScript later. */
export function formatNumber(value: number, float = !Number.isInteger(value)): string {
  if (!float) return Number.isSafeInteger(value) ? String(value) : String(BigInt(value));
  if (Number.isNaN(value)) return "nan";
  if (!Number.isFinite(value)) return value > 0 ? "inf" : "-inf";
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-4 || size >= 1e16)) {
    const [digits, exponent = "+0"] = value.toExponential().split("e");
    return `${digits}e${exponent[0]}${exponent.slice(1).padStart(2, "0")}`;
  }
  return Number.isInteger(value) ? `${value}.0` : String(value);
}

function quote(text: string): string {
  chargeText(text.length);
  const mark = text.includes("'") && !text.includes('"') ? '"' : "'";
  let quoted = "";
  for (const character of text) {
    const code = character.codePointAt(0) ?? 0;
    if (character === mark || character === "\\") quoted += `\\${character}`;
    else if (character === "\n") quoted += "\\n";
    else if (character === "\r") quoted += "\\r";
    else if (character === "\t") quoted += "\\t";
    else if (code < 0x20 || (code >= 0x7f && code <= 0xa0) || code === 0xad)
      quoted += `\\x${code.toString(16).padStart(2, "0")}`;
    else quoted += character;
  }
  return mark + quoted + mark;
}

/** Python's `==`. */
export function isEqual(left: Value, right: Value): boolean {
  if (typeof left === "string" && typeof right === "string") {
    if (left.length !== right.length) return false;
    chargeText(left.length);
    return left === right;
  }
  if (left === right) return true;
  const [leftNumber, rightNumber] = [asNumber(left), asNumber(right)];
  if (leftNumber !== undefined || rightNumber !== undefined) return leftNumber === rightNumber;
  if (Array.isArray(left) && Array.isArray(right)) {
    if (left.length !== right.length || left instanceof Tuple !== right instanceof Tuple) return false;
    charge(left.length);
    return left.every((item, index) => isEqual(item, right[index]));
  }
  if (left instanceof Map && right instanceof Map) {
    if (left.size !== right.size) return false;
    charge(left.size);
    for (const [key, item] of left) if (!right.has(key) || !isEqual(item, right.get(key))) return false;
    return true;
  }
  return false;
}

/** Python's order: below zero, zero or above. Throws where Python has none. */
export function compare(left: Value, right: Value): number {
  const [leftNumber, rightNumber] = [asNumber(left), asNumber(right)];
  if (leftNumber !== undefined && rightNumber !== undefined) return leftNumber - rightNumber;
  if (typeof left === "string" && typeof right === "string") {
    chargeText(Math.min(left.length, right.length));
    return left < right ? -1 : Number(left > right);
  }
  if (Array.isArray(left) && Array.isArray(right)) {
    charge(Math.min(left.length, right.length));
    for (const [index, item] of left.entries()) {
      if (index >= right.length) return 1;
      if (!isEqual(item, right[index])) return compare(item, right[index]);
    }
    return left.length - right.length;
  }
  throw new TemplateError(`${typeName(left)} and ${typeName(right)} cannot be ordered`);
}

/** The items of a list, keys of a dict, or characters of a text. Throws for what has none. */
export function toItems(value: Value): readonly Value[] {
  if (Array.isArray(value)) return value;
  if (value === undefined) return [];
  if (value instanceof Map) {
    charge(value.size);
    return [...value.keys()];
  }
  if (typeof value === "string") {
    charge(value.length);
    return Array.from(value);
  }
  throw new TemplateError(`${typeName(value)} cannot be iterated over`);
}

/** Number of items, keys or characters. */
export function lengthOf(value: Value): number {
  if (typeof value === "string") return countCharacters(value);
  if (Array.isArray(value)) return value.length;
  if (value instanceof Map) return value.size;
  if (value === undefined) return 0;
  throw new TemplateError(`${typeName(value)} has no length`);
}

export function contains(container: Value, item: Value): boolean {
  if (typeof container === "string") {
    if (typeof item !== "string") throw new TemplateError(`a text cannot hold ${typeName(item)}`);
    chargeText(container.length);
    return container.includes(item);
  }
  if (container instanceof Map) return container.has(toKey(item));
  if (!Array.isArray(container) && container !== undefined) {
    throw new TemplateError(`${typeName(container)} cannot hold anything`);
  }
  charge(container?.length ?? 0);
  return container?.some((entry) => isEqual(entry, item)) ?? false;
}

/** A value as a dict's key: `1.0` and `True` are the same key as 1. Throws for what cannot be one. */
export function toKey(value: Value): Value {
  if (typeof value === "string") return value;
  if (Array.isArray(value) || value instanceof Map) throw new TemplateError(`${typeName(value)} cannot be a key`);
  return asNumber(value) ?? value;
}

/** Characters outside the basic plane are two of JavaScript's, but one of Python's. */
export function hasWideCharacters(text: string): boolean {
  chargeText(text.length / 4);
  return /[\ud800-\udbff]/.test(text);
}

function countCharacters(text: string): number {
  if (!hasWideCharacters(text)) return text.length;
  charge(text.length / 16);
  let count = 0;
  for (const _ of text) count += 1;
  return count;
}
