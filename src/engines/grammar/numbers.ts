import type { JsonObject } from "../../core/json.ts";
import {
  type Bound,
  ceiling,
  compare,
  type Decimal,
  exactDigits,
  floorOf,
  largestSafe,
  type Range,
  toDecimal,
} from "./decimal-bounds.ts";
import { decimalText } from "./decimals.ts";
import { multiples } from "./multiples.ts";
import { type Place, type Rules, under } from "./rules.ts";

/** The rule of an `integer` or `number` schema; null when no number satisfies it. */
export function numberRule(rules: Rules, type: "integer" | "number", schema: JsonObject, place: Place): string | null {
  const range = readRange(schema);
  const step = readStep(schema);
  const { low, high } = range;
  if (low === null && high === null && step === null) return type;
  const whole = type === "integer" || (step !== null && step.scale === 0);
  const body = whole || step !== null ? steppedText(rules, { range, step, whole }, place) : decimalText(range);
  return body === null ? null : rules.rule(place.name, body);
}

function readRange(schema: JsonObject): Range {
  const bound = (value: unknown, exclusive: boolean): Bound | null =>
    typeof value === "number" && Number.isFinite(value) ? { at: toDecimal(value), exclusive } : null;
  // Draft 4 has a boolean that turns the bound beside it into an exclusive one.
  const lows = [
    bound(schema["minimum"], schema["exclusiveMinimum"] === true),
    bound(schema["exclusiveMinimum"], true),
  ].filter((low) => low !== null);
  const highs = [
    bound(schema["maximum"], schema["exclusiveMaximum"] === true),
    bound(schema["exclusiveMaximum"], true),
  ].filter((high) => high !== null);
  return {
    low: lows.sort((a, b) => compare(b.at, a.at) || Number(b.exclusive) - Number(a.exclusive))[0] ?? null,
    high: highs.sort((a, b) => compare(a.at, b.at) || Number(b.exclusive) - Number(a.exclusive))[0] ?? null,
  };
}

function readStep(schema: JsonObject): Decimal | null {
  const step = schema["multipleOf"];
  return typeof step === "number" && step > 0 && Number.isFinite(step) ? toDecimal(step) : null;
}

/** Integers, or numbers that are multiples of a step: written with as many decimals as the step has. */
function steppedText(
  rules: Rules,
  { range, step, whole }: { range: Range; step: Decimal | null; whole: boolean },
  place: Place,
): string | null {
  let scale = whole ? 0 : (step?.scale ?? 0);
  let unit = step?.digits ?? 1n;
  if (whole && step !== null && step.scale > 0) {
    // An integer that is a multiple of 0.5 or 2.5: of the smallest integer that is one.
    const power = 10n ** BigInt(step.scale);
    unit = step.digits / gcd(step.digits, power);
    scale = 0;
  }
  if (scale > exactDigits) {
    rules.loosen("multipleOf of so many decimals", under(place, "multipleOf"));
    return decimalText(range);
  }
  const most = largestSafe;
  const lowest = range.low === null ? null : ceiling(range.low, scale);
  const highest = range.high === null ? null : floorOf(range.high, scale);
  const low = lowest ?? (highest !== null && highest < -most ? highest * 10n : -most);
  const high = highest ?? (lowest !== null && lowest > most ? lowest * 10n : most);
  // Bounds beyond what a double counts are drawn in, unless nothing else is left.
  const tight = (value: bigint, other: bigint): bigint => {
    if (value > most && other <= most) return most;
    return value < -most && other >= -most ? -most : value;
  };
  return signed(tight(low, high), tight(high, low), (from, to) => multiples(rules, { from, to, unit, scale }, place));
}

/** GBNF of the numbers from `low` to `high`, given that of ranges of magnitudes ≥ 0; null for none. */
function signed(low: bigint, high: bigint, magnitudes: (from: bigint, to: bigint) => string | null): string | null {
  if (low > high) return null;
  const ways: string[] = [];
  if (low < 0n) {
    const below = magnitudes(high < 0n ? -high : 1n, -low);
    if (below !== null) ways.push(`"-" (${below})`);
  }
  if (high >= 0n) {
    const above = magnitudes(low > 0n ? low : 0n, high);
    if (above !== null) ways.push(above);
  }
  return ways.length === 0 ? null : ways.join(" | ");
}

function gcd(a: bigint, b: bigint): bigint {
  return b === 0n ? a : gcd(b, a % b);
}
