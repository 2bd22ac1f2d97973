import type { TokenLogprob } from "../../../core/chat.ts";

/** Most alternatives for a token. */
const maxTop = 20;

/**
 * Log probabilities of the model itself: over the raw logits, before bias, penalties, filters, grammar and temperature.
 * One for each thread: its memory is used again for every token.
 */
export class LogprobReader {
  readonly #bytesOf: (token: number) => Buffer;
  /** Tokens with the highest logits, highest first, as far as `#count`. */
  readonly #best = new Int32Array(maxTop + 1);
  readonly #bestLogits = new Float64Array(maxTop + 1);
  #count = 0;

  /** `bytesOf` gives a token's bytes. */
  constructor(bytesOf: (token: number) => Buffer) {
    this.#bytesOf = bytesOf;
  }

  /** The log probability of a token and of the `top` (0 … 20) likeliest ones. */
  read(logits: Float32Array, token: number, top: number): TokenLogprob {
    this.#findBest(logits, Math.max(1, Math.min(top, maxTop)));
    const total = this.bestLogit + Math.log(sumOfExponentials(logits, this.bestLogit));
    const entry = (id: number): Omit<TokenLogprob, "top"> => {
      const bytes = this.#bytesOf(id);
      return { token: bytes.toString("utf8"), logprob: (logits[id] ?? -Infinity) - total, bytes: [...bytes] };
    };
    const likeliest = Array.from(this.#best.subarray(0, Math.min(top, this.#count)));
    return { ...entry(token), top: likeliest.map(entry) };
  }

  /** The likeliest token and its probability. */
  likeliest(logits: Float32Array): { readonly token: number; readonly probability: number } {
    this.#findBest(logits, 1);
    return { token: this.#best[0] as number, probability: 1 / sumOfExponentials(logits, this.bestLogit) };
  }

  get bestLogit(): number {
    return this.#bestLogits[0] as number;
  }

  /** Of equal logits the lower token comes first, as llama.cpp's greedy choice has it. */
  #findBest(logits: Float32Array, wanted: number): void {
    const best = this.#best;
    const bestLogits = this.#bestLogits;
    let count = 0;
    let threshold = -Infinity;
    for (let index = 0; index < logits.length; index++) {
      const logit = logits[index] as number;
      if (count === wanted ? !(logit > threshold) : Number.isNaN(logit)) continue;
      let at = count === wanted ? count - 1 : count++;
      for (; at > 0 && (bestLogits[at - 1] as number) < logit; at--) {
        best[at] = best[at - 1] as number;
        bestLogits[at] = bestLogits[at - 1] as number;
      }
      best[at] = index;
      bestLogits[at] = logit;
      if (count === wanted) threshold = bestLogits[count - 1] as number;
    }
    this.#count = count;
  }
}

// e^−x is read from a table of steps of 1/64, and the rest of x, below 1/64, from the series of e^−x to its second power
// (relative error below 7e−7). Math.exp takes three times as long.
const stepsPerUnit = 64;
/** What lies this far below the highest logit adds less than 152,000 · e^−28 ≈ 1e−7 together. */
const farBelow = 28;
const powers = Float64Array.from({ length: farBelow * stepsPerUnit + 1 }, (_, step) => Math.exp(-step / stepsPerUnit));
const linear = 1 / stepsPerUnit;
const square = linear * linear * 0.5;

/** Σ e^(logit − highest), of which no logit may be higher. */
function sumOfExponentials(logits: Float32Array, highest: number): number {
  let sum = 0;
  for (let index = 0; index < logits.length; index++) {
    const steps = (highest - (logits[index] as number)) * stepsPerUnit;
    // Also false for NaN and for banned tokens, whose logit is −∞.
    if (!(steps < farBelow * stepsPerUnit)) continue;
    const step = steps | 0;
    const rest = steps - step;
    sum += (powers[step] as number) * (1 - rest * (linear - rest * square));
  }
  return sum;
}
