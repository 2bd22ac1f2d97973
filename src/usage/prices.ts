import { type Demand, type TokenCount, usualOutput } from "../core/demand.ts";
import { patternTest } from "../core/name-pattern.ts";

/** What a million tokens cost, in the operator's currency. */
export interface Price {
  readonly prompt: number;
  /** Of those that were not computed anew; absent: as the others. */
  readonly cached?: number | undefined;
  readonly completion: number;
}

/** Prices by model, of which all amounts are in millionths of the currency. */
export interface Prices {
  /** Undefined: the model costs nothing. */
  of(model: string): Price | undefined;
  /** What the call has cost. */
  spend(model: string, used: Omit<TokenCount, "counted">): number;
  /** Most that the call may cost, by its own bound of the answer. */
  most(demand: Demand): number;
}

/** Callers may make up names. */
const mostRemembered = 1000;

/** Prices from patterns of names, in which `*` is any text; the first that fits counts. */
export function toPrices(config: Readonly<Record<string, Price>>): Prices {
  const entries = Object.entries(config).map(([pattern, price]) => ({ fits: patternTest([pattern]), price }));
  const known = new Map<string, Price | undefined>();
  const of = (model: string): Price | undefined => {
    if (entries.length === 0) return undefined;
    if (known.has(model)) return known.get(model);
    const price = entries.find(({ fits }) => fits(model))?.price;
    if (known.size < mostRemembered) known.set(model, price);
    return price;
  };
  // Millionths of what a million tokens cost: the two cancel out.
  const spend = (model: string, used: Omit<TokenCount, "counted">): number => {
    const price = of(model);
    if (price === undefined) return 0;
    const cached = Math.min(used.cachedTokens, used.promptTokens);
    const prompt = (used.promptTokens - cached) * price.prompt + cached * (price.cached ?? price.prompt);
    return Math.round(prompt + used.completionTokens * price.completion);
  };
  return {
    of,
    spend,
    most: ({ model, promptTokens, outputTokens = usualOutput }) =>
      spend(model, { promptTokens, cachedTokens: 0, completionTokens: outputTokens }),
  };
}
