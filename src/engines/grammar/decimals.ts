import { type Bound, ceiling, compare, exactDigits, floorOf, largestSafe, type Range } from "./decimal-bounds.ts";
import { digitClass, rangeText } from "./digits.ts";

/** Where nothing bounds a number, it has a fraction below this only. */
const largestWithFraction = 999_999_999n;

/** Numbers between bounds, with as many decimals as a double tells apart; no exponents. Null when there is none. */
export function decimalText({ low, high }: Range): string | null {
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
