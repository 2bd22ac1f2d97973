import type { JsonObject } from "../../core/json.ts";
import { type Place, type Rules, under } from "./rules.ts";

/** The largest magnitude of an integer that every reader of JSON keeps exactly. */
const largestSafe = BigInt(Number.MAX_SAFE_INTEGER);
/** Decimal digits that a double keeps: a longer text could be rounded across a bound. */
const exactDigits = 15;
/** Where nothing bounds a number, it has a fraction below this only. */
const largestWithFraction = 999_999_999n;
const largestResidue = 1024n;
const mostResidueRules = 3000;
const mostListed = 300n;

/** A decimal number, `digits` × 10^−`scale`. */
interface Decimal {
  readonly digits: bigint;
  readonly scale: number;
}
interface Bound {
  readonly at: Decimal;
  readonly exclusive: boolean;
}
interface Range {
  readonly low: Bound | null;
  readonly high: Bound | null;
}

/** The rule of an `integer` or `number` schema; null when no number satisfies it. */
export function numberRule(rules: Rules, type: "integer" | "number", schema: JsonObject, place: Place): string | null {
  const range = readRange(schema);
  const step = readStep(schema);
  const { low, high } = range;
  if (low === null && high === null && step === null) return type;
  const whole = type === "integer" || (step !== null && step.scale === 0);
  const body = whole || step !== null ? steppedText(rules, range, step, whole, place) : decimalText(range);
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

/** The shortest decimal that reads as this double. */
function toDecimal(value: number): Decimal {
  const [mantissa = "0", exponent = "0"] = String(value).split("e");
  const [integer = "0", fraction = ""] = mantissa.split(".");
  const digits = BigInt(integer + fraction);
  const scale = fraction.length - Number(exponent);
  return scale < 0 ? { digits: digits * 10n ** BigInt(-scale), scale: 0 } : { digits, scale };
}

function compare(a: Decimal, b: Decimal): number {
  const scale = Math.max(a.scale, b.scale);
  const [x, y] = [scaled(a, scale), scaled(b, scale)];
  return x < y ? -1 : x > y ? 1 : 0;
}

/** Exact for a scale that is not smaller than the number's own. */
function scaled({ digits, scale }: Decimal, to: number): bigint {
  return digits * 10n ** BigInt(to - scale);
}

/** The smallest number of `unit` × 10^−scale that satisfies the lower bound. */
function ceiling(bound: Bound, scale: number): bigint {
  const { at, exclusive } = bound;
  if (at.scale <= scale) return scaled(at, scale) + (exclusive ? 1n : 0n);
  const divisor = 10n ** BigInt(at.scale - scale);
  const quotient = floorDivide(at.digits, divisor);
  return quotient * divisor === at.digits && !exclusive ? quotient : quotient + 1n;
}

function floorOf(bound: Bound, scale: number): bigint {
  const { at, exclusive } = bound;
  return -ceiling({ at: { digits: -at.digits, scale: at.scale }, exclusive }, scale);
}

function floorDivide(a: bigint, b: bigint): bigint {
  const quotient = a / b;
  return a % b !== 0n && a < 0n ? quotient - 1n : quotient;
}

/** Integers, or numbers that are multiples of a step: written with as many decimals as the step has. */
function steppedText(rules: Rules, range: Range, step: Decimal | null, whole: boolean, place: Place): string | null {
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

interface Multiples {
  readonly from: bigint;
  readonly to: bigint;
  readonly unit: bigint;
  /** How many of the digits stand behind the point. */
  readonly scale: number;
}

function multiples(rules: Rules, { from, to, unit, scale }: Multiples, place: Place): string | null {
  const first = ((from + unit - 1n) / unit) * unit;
  const last = (to / unit) * unit;
  if (first > last) return null;
  if (unit === 1n && scale === 0) return rangeText(first, last);
  if ((last - first) / unit < mostListed) return listed(first, last, unit, scale);
  let zeros = 0;
  let rest = unit;
  while (scale === 0 && rest % 10n === 0n) {
    rest /= 10n;
    zeros++;
  }
  const power = 10n ** BigInt(zeros);
  if (zeros > 0 && rest === 1n) {
    const above = rangeText(first === 0n ? 1n : first / power, last / power);
    return `${first === 0n ? `"0" | ` : ""}(${above}) "${"0".repeat(zeros)}"`;
  }
  const text =
    rest > largestResidue
      ? null
      : residueText(rules, { from: first / power, to: last / power, unit: rest, scale }, place);
  if (text !== null) return zeros === 0 ? text : `${first === 0n ? `"0" | ` : ""}(${text}) "${"0".repeat(zeros)}"`;
  rules.loosen(`multipleOf ${unit}${scale === 0 ? "" : ` × 10^-${scale}`}`, under(place, "multipleOf"));
  return scale === 0 ? rangeText(first, last) : null;
}

function listed(first: bigint, last: bigint, unit: bigint, scale: number): string {
  const texts: string[] = [];
  for (let value = first; value <= last; value += unit) texts.push(`"${withPoint(value, scale)}"`);
  return texts.join(" | ");
}

function withPoint(value: bigint, scale: number): string {
  if (scale === 0) return String(value);
  const digits = String(value).padStart(scale + 1, "0");
  return `${digits.slice(0, -scale)}.${digits.slice(-scale)}`;
}

/** GBNF of the integers from `from` to `to`, both ≥ 0. */
export function rangeText(from: bigint, to: bigint): string {
  const ways: string[] = [];
  let start = from;
  // Rows of lengths that are wholly inside become one.
  for (let length = String(from).length; length <= String(to).length; length++) {
    const [least, most] = [length === 1 ? 0n : 10n ** BigInt(length - 1), 10n ** BigInt(length) - 1n];
    const low = start > least ? start : least;
    const high = to < most ? to : most;
    start = high + 1n;
    const before = /^\[1-9\] \[0-9\]\{(\d+),(\d+)\}$/.exec(ways.at(-1) ?? "");
    if (length > 1 && low === least && high === most) {
      if (before !== null) ways[ways.length - 1] = `[1-9] [0-9]{${before[1]},${length - 1}}`;
      else ways.push(`[1-9] [0-9]{${length - 1},${length - 1}}`);
    } else ways.push(digitsText(String(low), String(high)));
  }
  return ways.join(" | ");
}

/** GBNF of the rows of digits from `low` to `high`, which have one length. */
function digitsText(low: string, high: string): string {
  if (low === high) return low === "" ? "" : `"${low}"`;
  if (/^0+$/.test(low) && /^9+$/.test(high)) return `[0-9]{${low.length}}`;
  let shared = 0;
  while (low[shared] === high[shared]) shared++;
  const head = shared === 0 ? "" : `"${low.slice(0, shared)}" `;
  const [from, to] = [low.slice(shared), high.slice(shared)];
  const rest = from.length - 1;
  const [first, last] = [Number(from[0]), Number(to[0])];
  const ways: string[] = [];
  const lowTight = /[1-9]/.test(from.slice(1));
  const highTight = /[0-8]/.test(to.slice(1));
  if (lowTight) ways.push(`"${first}" ${digitsText(from.slice(1), "9".repeat(rest))}`);
  const [start, end] = [lowTight ? first + 1 : first, highTight ? last - 1 : last];
  if (start <= end) ways.push(`${digitClass(start, end)}${rest === 0 ? "" : ` [0-9]{${rest}}`}`);
  if (highTight) ways.push(`"${last}" ${digitsText("0".repeat(rest), to.slice(1))}`);
  const body = ways.join(" | ");
  return ways.length === 1 ? head + body : `${head}(${body})`;
}

function digitClass(from: number, to: number): string {
  return from === to ? `"${from}"` : `[${from}-${to}]`;
}

/** Multiples by long division: a rule for each number of digits to come and remainder that they must make up. */
function residueText(rules: Rules, { from, to, unit, scale }: Multiples, place: Place): string | null {
  const free = new Map<string, string | null>();
  let made = 0;
  const point = (left: number): string => (scale > 0 && left === scale ? `"." ` : "");
  const grouped = (
    left: number,
    need: bigint,
    [first, last]: [number, number],
    rest: (digit: number, need: bigint) => string | null,
  ): string | null => {
    const byRest = new Map<string, number[]>();
    for (let digit = first; digit <= last; digit++) {
      const after = rest(digit, mod(need - BigInt(digit) * 10n ** BigInt(left - 1), unit));
      if (after !== null) byRest.set(after, [...(byRest.get(after) ?? []), digit]);
    }
    const ways = [...byRest].map(([after, digits]) => `${point(left)}[${digits.join("")}] ${after}`.trim());
    return ways.length === 0 ? null : ways.length === 1 ? (ways[0] as string) : `(${ways.join(" | ")})`;
  };
  const any = (left: number, need: bigint): string | null => {
    if (left === 0) return need === 0n ? "" : null;
    const key = `${left},${need}`;
    const known = free.get(key);
    if (known !== undefined) return known;
    if (++made > mostResidueRules) throw new RangeError("too many remainders");
    const body = grouped(left, need, [0, 9], (_, after) => any(left - 1, after));
    const name = body === null ? null : rules.rule(`${place.name}-${left}-${need}`, body);
    free.set(key, name);
    return name;
  };
  const between = (
    low: string | null,
    high: string | null,
    left: number,
    need: bigint,
    lead: number,
  ): string | null => {
    if (left === 0) return need === 0n ? "" : null;
    if (low === null && high === null && lead === 0) return any(left, need);
    const first = Math.max(lead, low === null ? 0 : Number(low[0]));
    const last = high === null ? 9 : Number(high[0]);
    return grouped(left, need, [first, last], (digit, after) =>
      between(
        low !== null && digit === Number(low[0]) ? low.slice(1) : null,
        high !== null && digit === Number(high[0]) ? high.slice(1) : null,
        left - 1,
        after,
        0,
      ),
    );
  };
  const ways: string[] = [];
  const shortest = Math.max(String(from).length, scale + 1);
  try {
    for (let length = shortest; length <= Math.max(String(to).length, scale + 1); length++) {
      // A number with decimals may begin with the zero before the point, any other only when it is one digit.
      const least = length === scale + 1 ? 0n : 10n ** BigInt(length - 1);
      const most = 10n ** BigInt(length) - 1n;
      const low = from > least ? String(from).padStart(length, "0") : null;
      const high = to < most ? String(to).padStart(length, "0") : null;
      const way = between(low, high, length, 0n, least === 0n ? 0 : 1);
      if (way !== null) ways.push(way);
    }
  } catch (error) {
    if (error instanceof RangeError) return null;
    throw error;
  }
  return ways.length === 0 ? null : ways.join(" | ");
}

function mod(value: bigint, by: bigint): bigint {
  return ((value % by) + by) % by;
}

function gcd(a: bigint, b: bigint): bigint {
  return b === 0n ? a : gcd(b, a % b);
}

/** Numbers between bounds, with as many decimals as a double tells apart; no exponents. Null when there is none. */
function decimalText({ low, high }: Range): string | null {
  const ways: string[] = [];
  const negative = magnitudesText(
    high === null || high.at.digits > 0n ? { at: { digits: 0n, scale: 0 }, exclusive: true } : negated(high),
    low === null ? null : negated(low),
  );
  if ((low === null || low.at.digits < 0n) && negative !== null) ways.push(`"-" (${negative})`);
  const zero: Bound = { at: { digits: 0n, scale: 0 }, exclusive: false };
  if (high === null || high.at.digits >= 0n) {
    const positive = magnitudesText(low === null || low.at.digits < 0n ? zero : low, high);
    if (positive !== null) ways.push(positive);
  }
  return ways.length === 0 ? null : ways.join(" | ");
}

function negated({ at, exclusive }: Bound): Bound {
  return { at: { digits: -at.digits, scale: at.scale }, exclusive };
}

/** GBNF of the decimals from `low` (≥ 0) to `high`. */
function magnitudesText(low: Bound, high: Bound | null): string | null {
  const ways: string[] = [];
  const lowest = ceiling(low, 0);
  const top = high === null ? 10n ** BigInt(exactDigits) - 1n : floorOf(high, 0);
  // Large numbers: without a fraction.
  const from = lowest > largestWithFraction ? lowest : largestWithFraction + 1n;
  const to = top > largestSafe && from <= largestSafe ? largestSafe : top;
  if (from <= to) ways.push(rangeText(from, to));
  const small = smallText(low, high);
  if (small !== null) ways.push(small);
  return ways.length === 0 ? null : ways.join(" | ");
}

/** The decimals up to 999,999,999 and their fractions. */
function smallText(low: Bound, high: Bound | null): string | null {
  const cap: Bound = { at: { digits: largestWithFraction + 1n, scale: 0 }, exclusive: true };
  const end = high === null || compare(high.at, cap.at) >= 0 ? cap : high;
  const length = String(floorOf(end, 0)).replace("-", "").length;
  const decimals = Math.max(1, Math.min(exactDigits - length, end === cap ? 6 : exactDigits));
  const from = ceiling(low, decimals);
  const to = floorOf(end, decimals);
  if (from > to) return null;
  const unit = 10n ** BigInt(decimals);
  const [first, last] = [from / unit, to / unit];
  const fraction = (value: bigint): string => String(value % unit).padStart(decimals, "0");
  if (first === last) return withFraction(String(first), fraction(from), fraction(to));
  const ways: string[] = [];
  const [lowTight, highTight] = [from % unit !== 0n, to % unit !== unit - 1n];
  if (lowTight) ways.push(withFraction(String(first), fraction(from), null));
  const [start, stop] = [lowTight ? first + 1n : first, highTight ? last - 1n : last];
  if (start <= stop) ways.push(`(${rangeText(start, stop)}) ("." [0-9]{1,${decimals}})?`);
  if (highTight) ways.push(withFraction(String(last), "0".repeat(decimals), fraction(to)));
  return ways.join(" | ");
}

function withFraction(integer: string, low: string, high: string | null): string {
  const { bare, text } = fractionText(low, high);
  if (text === null) return `"${integer}"`;
  return bare ? `"${integer}" ("." ${text})?` : `"${integer}" "." ${text}`;
}

/**
 * GBNF of the digits behind a point from `low` to `high` (null: no bound), which are padded to one length; what is
 * written may be shorter. `bare`: nothing at all is within the bounds too.
 */
function fractionText(
  low: string | null,
  high: string | null,
  room = (low ?? high ?? "").length,
): { bare: boolean; text: string | null } {
  const bare = low === null || !/[1-9]/.test(low);
  if (room === 0) return { bare, text: null };
  if (bare && high === null) return { bare, text: room === 1 ? "[0-9]" : `[0-9]{1,${room}}` };
  const first = low === null ? 0 : Number(low[0]);
  const last = high === null ? 9 : Number(high[0]);
  const way = (from: number, to: number, nextLow: string | null, nextHigh: string | null): string => {
    const rest = fractionText(nextLow, nextHigh, room - 1);
    if (rest.text === null) return digitClass(from, to);
    return `${digitClass(from, to)} ${rest.bare ? `(${rest.text})?` : rest.text}`;
  };
  const ways: string[] = [];
  const [after, above] = [low?.slice(1) ?? null, high?.slice(1) ?? null];
  if (first === last) ways.push(way(first, first, after, above));
  else {
    const lowTight = after !== null && /[1-9]/.test(after);
    const highTight = above !== null && /[0-8]/.test(above);
    if (lowTight) ways.push(way(first, first, after, null));
    const [start, stop] = [lowTight ? first + 1 : first, highTight ? last - 1 : last];
    if (start <= stop) ways.push(way(start, stop, null, null));
    if (highTight) ways.push(way(last, last, null, above));
  }
  return { bare, text: ways.length === 1 ? (ways[0] as string) : `(${ways.join(" | ")})` };
}
