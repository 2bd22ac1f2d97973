/** The largest magnitude of an integer that every reader of JSON keeps exactly. */
export const largestSafe = BigInt(Number.MAX_SAFE_INTEGER);
/** Decimal digits that a double keeps: a longer text could be rounded across a bound. */
export const exactDigits = 15;

/** A decimal number, `digits` × 10^−`scale`. */
export interface Decimal {
  readonly digits: bigint;
  readonly scale: number;
}

export interface Bound {
  readonly at: Decimal;
  readonly exclusive: boolean;
}

export interface Range {
  readonly low: Bound | null;
  readonly high: Bound | null;
}

/** The shortest decimal that reads as this double. */
export function toDecimal(value: number): Decimal {
  const [mantissa = "0", exponent = "0"] = String(value).split("e");
  const [integer = "0", fraction = ""] = mantissa.split(".");
  const digits = BigInt(integer + fraction);
  const scale = fraction.length - Number(exponent);
  return scale < 0 ? { digits: digits * 10n ** BigInt(-scale), scale: 0 } : { digits, scale };
}

export function compare(a: Decimal, b: Decimal): number {
  const scale = Math.max(a.scale, b.scale);
  const [x, y] = [scaled(a, scale), scaled(b, scale)];
  return x < y ? -1 : x > y ? 1 : 0;
}

/** Exact for a scale that is not smaller than the number's own. */
function scaled({ digits, scale }: Decimal, to: number): bigint {
  return digits * 10n ** BigInt(to - scale);
}

/** The smallest number of `unit` × 10^−scale that satisfies the lower bound. */
export function ceiling(bound: Bound, scale: number): bigint {
  const { at, exclusive } = bound;
  if (at.scale <= scale) return scaled(at, scale) + (exclusive ? 1n : 0n);
  const divisor = 10n ** BigInt(at.scale - scale);
  const quotient = floorDivide(at.digits, divisor);
  return quotient * divisor === at.digits && !exclusive ? quotient : quotient + 1n;
}

export function floorOf(bound: Bound, scale: number): bigint {
  const { at, exclusive } = bound;
  return -ceiling({ at: { digits: -at.digits, scale: at.scale }, exclusive }, scale);
}

function floorDivide(a: bigint, b: bigint): bigint {
  const quotient = a / b;
  return a % b !== 0n && a < 0n ? quotient - 1n : quotient;
}
