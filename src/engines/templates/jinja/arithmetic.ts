import { charge, chargeJoin, chargeText, TemplateError } from "./budget.ts";
import { formatPercent } from "./format.ts";
import type { BinaryOperator } from "./syntax.ts";
import { asNumber, isFloat, toFloat, toInteger, Tuple, typeName, type Value } from "./values.ts";

export function negate(value: Value, sign: 1 | -1): Value {
  const number = asNumber(value);
  if (number === undefined) throw new TemplateError(`${typeName(value)} has no sign`);
  // `0 -` instead of `-1 *`: there is no −0 among Python's integers.
  const signed = sign === 1 ? number : 0 - number;
  return isFloat(value) ? toFloat(signed) : signed;
}

export function calculate(operator: BinaryOperator, left: Value, right: Value): Value {
  if (operator === "+") {
    if (typeof left === "string" && typeof right === "string") {
      chargeJoin(left.length + right.length);
      return left + right;
    }
    if (Array.isArray(left) && Array.isArray(right) && left instanceof Tuple === right instanceof Tuple) {
      charge(left.length + right.length);
      return left.concat(right);
    }
  }
  if (operator === "*") {
    if (typeof left === "string" || Array.isArray(left)) return repeat(left, right);
    if (typeof right === "string" || Array.isArray(right)) return repeat(right, left);
  }
  if (operator === "%" && typeof left === "string") return formatPercent(left, right);
  const [leftNumber, rightNumber] = [asNumber(left), asNumber(right)];
  if (leftNumber === undefined || rightNumber === undefined) {
    throw new TemplateError(`${operator} has no meaning between ${typeName(left)} and ${typeName(right)}`);
  }
  const result = compute(operator, leftNumber, rightNumber);
  const float = operator === "/" || isFloat(left) || isFloat(right) || (operator === "**" && rightNumber < 0);
  if (float) return toFloat(result);
  if (!Number.isFinite(result)) throw new TemplateError("an integer grew too large");
  return result;
}

function compute(operator: BinaryOperator, left: number, right: number): number {
  switch (operator) {
    case "+":
      return left + right;
    case "-":
      return left - right;
    case "*":
      return left * right;
    case "**":
      return left ** right;
    default:
  }
  if (right === 0) throw new TemplateError("division by zero");
  if (operator === "/") return left / right;
  if (operator === "//") return Math.floor(left / right);
  // Python's remainder has the divisor's sign.
  const rest = left % right;
  return rest !== 0 && rest < 0 !== right < 0 ? rest + right : rest;
}

function repeat(value: string | Value[], times: Value): Value {
  const count = Math.max(0, toInteger(times, "the number of repetitions"));
  if (typeof value === "string") {
    chargeText(value.length * count);
    return value.repeat(count);
  }
  charge(value.length * count);
  return Array.from({ length: count }, () => value).flat();
}
