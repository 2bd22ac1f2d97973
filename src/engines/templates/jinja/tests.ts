import { TemplateError } from "./budget.ts";
import {
  asNumber,
  compare,
  contains,
  isEqual,
  isFloat,
  toInteger,
  Tuple,
  typeName,
  type Value,
  WholeFloat,
} from "./values.ts";

export type Test = (value: Value, given: readonly Value[]) => boolean;

function isNumber(value: Value): boolean {
  return asNumber(value) !== undefined;
}

function isEqualTo(value: Value, [other]: readonly Value[]): boolean {
  return isEqual(value, other);
}

function order(holds: (sign: number) => boolean): Test {
  return (value, [other]) => holds(compare(value, other));
}

const isGreater = order((sign) => sign > 0);
const isLess = order((sign) => sign < 0);
const isAtLeast = order((sign) => sign >= 0);
const isAtMost = order((sign) => sign <= 0);
const isUnequal: Test = (value, [other]) => !isEqual(value, other);

/** Jinja's tests. */
export const tests = new Map<string, Test>([
  ["boolean", (value) => typeof value === "boolean"],
  ["callable", (value) => typeof value === "function"],
  ["defined", (value) => value !== undefined],
  ["undefined", (value) => value === undefined],
  ["none", (value) => value === null],
  ["true", (value) => value === true],
  ["false", (value) => value === false],
  ["integer", (value) => typeof value === "number" && !isFloat(value)],
  ["float", isFloat],
  ["number", isNumber],
  ["string", (value) => typeof value === "string"],
  ["mapping", (value) => value instanceof Map],
  ["iterable", (value) => value === undefined || isSequence(value)],
  ["sequence", (value) => value === undefined || isSequence(value)],
  ["even", (value) => remainder(value, 2) === 0],
  ["odd", (value) => Math.abs(remainder(value, 2)) === 1],
  ["divisibleby", (value, [divisor]) => remainder(value, toInteger(divisor, "a divisor")) === 0],
  ["in", (value, [container]) => contains(container, value)],
  ["sameas", isSame],
  ["lower", (value) => typeof value === "string" && value === value.toLowerCase() && value !== value.toUpperCase()],
  ["upper", (value) => typeof value === "string" && value === value.toUpperCase() && value !== value.toLowerCase()],
  ["escaped", () => false],
  ["eq", isEqualTo],
  ["equalto", isEqualTo],
  ["ne", isUnequal],
  ["gt", isGreater],
  ["greaterthan", isGreater],
  ["lt", isLess],
  ["lessthan", isLess],
  ["ge", isAtLeast],
  ["le", isAtMost],
]);

function isSequence(value: Value): boolean {
  return typeof value === "string" || Array.isArray(value) || value instanceof Map || value instanceof Tuple;
}

function remainder(value: Value, divisor: number): number {
  const number = asNumber(value);
  if (number === undefined) throw new TemplateError(`${typeName(value)} is no number`);
  return number % divisor;
}

function isSame(value: Value, [other]: readonly Value[]): boolean {
  if (value instanceof WholeFloat || other instanceof WholeFloat) return false;
  return value === other;
}
