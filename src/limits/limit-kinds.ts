import type { CallerLimits } from "../core/access.ts";

/** One of a caller's limits, as a meter. */
export interface LimitKind {
  readonly field: Exclude<keyof CallerLimits, "concurrent">;
  /** What the meter's id names it; its day, its month or its size follows. */
  readonly name: string;
  readonly unit: "requests" | "tokens" | "spend";
  readonly span: "minute" | "day" | "month";
  /** Units of the meter in one of the limit: money is counted in millionths. */
  readonly scale: number;
  /** So many units of the meter, in words. */
  readonly say: (units: number) => string;
}

const million = 1_000_000;
const inRequests = (count: number): string => (count === 1 ? "1 request" : `${count} requests`);
const inTokens = (count: number): string => (count === 1 ? "1 token" : `${count} tokens`);
// In the currency of the configured prices, which has no name.
const inMoney = (units: number): string => `${Number((units / million).toFixed(6))} of spend`;

/** Every limit that is a meter, those that take longest to come back first: of several that refuse, the first is told. */
export const limitKinds: readonly LimitKind[] = [
  { field: "spendPerMonth", name: "spend", unit: "spend", span: "month", scale: million, say: inMoney },
  { field: "tokensPerMonth", name: "tokens", unit: "tokens", span: "month", scale: 1, say: inTokens },
  { field: "spendPerDay", name: "spend", unit: "spend", span: "day", scale: million, say: inMoney },
  { field: "tokensPerDay", name: "tokens", unit: "tokens", span: "day", scale: 1, say: inTokens },
  { field: "tokensPerMinute", name: "tokens-per-minute", unit: "tokens", span: "minute", scale: 1, say: inTokens },
  {
    field: "requestsPerMinute",
    name: "requests-per-minute",
    unit: "requests",
    span: "minute",
    scale: 1,
    say: inRequests,
  },
];

/** Whether nothing bounds the caller. */
export function isUnlimited(limits: CallerLimits): boolean {
  return (
    limits.concurrent === undefined &&
    limits.requestsPerMinute === undefined &&
    limits.tokensPerMinute === undefined &&
    limits.tokensPerDay === undefined &&
    limits.tokensPerMonth === undefined &&
    limits.spendPerDay === undefined &&
    limits.spendPerMonth === undefined
  );
}
