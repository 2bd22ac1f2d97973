import { rangeText } from "./digits.ts";
import { type Place, type Rules, under } from "./rules.ts";

const largestResidue = 1024n;
const mostResidueRules = 3000;
const mostListed = 300n;

interface Multiples {
  readonly from: bigint;
  readonly to: bigint;
  readonly unit: bigint;
  /** How many of the digits stand behind the point. */
  readonly scale: number;
}

export function multiples(rules: Rules, { from, to, unit, scale }: Multiples, place: Place): string | null {
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
      : new LongDivision(rules, { from: first / power, to: last / power, unit: rest, scale }, place).text();
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

/** Between which digits a number still runs; null: no bound any more. `lead`: its least first digit. */
interface Digits {
  readonly low: string | null;
  readonly high: string | null;
  readonly lead: number;
}

/** Multiples by long division: a rule for each number of digits to come and remainder that they must make up. */
class LongDivision {
  readonly #rules: Rules;
  readonly #multiples: Multiples;
  readonly #place: Place;
  readonly #known = new Map<string, string | null>();

  constructor(rules: Rules, multiples: Multiples, place: Place) {
    this.#rules = rules;
    this.#multiples = multiples;
    this.#place = place;
  }

  /** Null where it would take too many rules. */
  text(): string | null {
    const { from, to, scale } = this.#multiples;
    const ways: string[] = [];
    const shortest = Math.max(String(from).length, scale + 1);
    for (let length = shortest; length <= Math.max(String(to).length, scale + 1); length++) {
      // A number with decimals may begin with the zero before the point, any other only when it is one digit.
      const least = length === scale + 1 ? 0n : 10n ** BigInt(length - 1);
      const low = from > least ? String(from).padStart(length, "0") : null;
      const high = to < 10n ** BigInt(length) - 1n ? String(to).padStart(length, "0") : null;
      const way = this.#between({ low, high, lead: least === 0n ? 0 : 1 }, length, 0n);
      if (way !== null) ways.push(way);
    }
    return ways.length === 0 || this.#known.size > mostResidueRules ? null : ways.join(" | ");
  }

  /** Rows of `left` digits that leave the remainder `need`. */
  #any(left: number, need: bigint): string | null {
    if (left === 0) return need === 0n ? "" : null;
    const key = `${left},${need}`;
    const known = this.#known.get(key);
    if (known !== undefined) return known;
    if (this.#known.size > mostResidueRules) return null;
    this.#known.set(key, null);
    const body = this.#grouped(left, need, [0, 9], (_, after) => this.#any(left - 1, after));
    const name = body === null ? null : this.#rules.rule(`${this.#place.name}-${left}-${need}`, body);
    this.#known.set(key, name);
    return name;
  }

  #between({ low, high, lead }: Digits, left: number, need: bigint): string | null {
    if (left === 0) return need === 0n ? "" : null;
    if (low === null && high === null && lead === 0) return this.#any(left, need);
    const first = Math.max(lead, low === null ? 0 : Number(low[0]));
    const last = high === null ? 9 : Number(high[0]);
    return this.#grouped(left, need, [first, last], (digit, after) => {
      const below = low !== null && digit === Number(low[0]) ? low.slice(1) : null;
      const above = high !== null && digit === Number(high[0]) ? high.slice(1) : null;
      return this.#between({ low: below, high: above, lead: 0 }, left - 1, after);
    });
  }

  /** Digits with the same way on stand together. */
  #grouped(
    left: number,
    need: bigint,
    [first, last]: [number, number],
    rest: (digit: number, need: bigint) => string | null,
  ): string | null {
    const { unit, scale } = this.#multiples;
    const byRest = new Map<string, number[]>();
    for (let digit = first; digit <= last; digit++) {
      const after = rest(digit, remainder(need - BigInt(digit) * 10n ** BigInt(left - 1), unit));
      if (after !== null) byRest.set(after, [...(byRest.get(after) ?? []), digit]);
    }
    const point = scale > 0 && left === scale ? `"." ` : "";
    const ways = [...byRest].map(([after, digits]) => `${point}[${digits.join("")}] ${after}`.trim());
    return ways.length === 0 ? null : ways.length === 1 ? (ways[0] as string) : `(${ways.join(" | ")})`;
  }
}

function remainder(value: bigint, by: bigint): bigint {
  return ((value % by) + by) % by;
}
