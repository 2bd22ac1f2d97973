import type { TokenLogprob } from "../../core/chat.ts";

/**
 * Log probabilities of the model itself: over the raw logits, before bias, penalties, filters and temperature.
 * `bytesOf` gives a token's bytes. Costs about 2 ms for a vocabulary of 152,000.
 */
export function toLogprob(
  logits: Float32Array,
  token: number,
  options: { top: number; bytesOf: (token: number) => Buffer },
): TokenLogprob {
  const total = logSumExp(logits);
  const entry = (id: number): Omit<TokenLogprob, "top"> => {
    const bytes = options.bytesOf(id);
    return { token: bytes.toString("utf8"), logprob: (logits[id] ?? -Infinity) - total, bytes: [...bytes] };
  };
  return { ...entry(token), top: highest(logits, options.top).map(entry) };
}

function logSumExp(logits: Float32Array): number {
  let highestLogit = -Infinity;
  for (let index = 0; index < logits.length; index++) {
    const logit = logits[index] as number;
    if (logit > highestLogit) highestLogit = logit;
  }
  let sum = 0;
  for (let index = 0; index < logits.length; index++) sum += Math.exp((logits[index] as number) - highestLogit);
  return highestLogit + Math.log(sum);
}

/** Indexes of the `count` highest logits, highest first. */
function highest(logits: Float32Array, count: number): number[] {
  const best: number[] = [];
  if (count <= 0) return best;
  let threshold = -Infinity;
  for (let index = 0; index < logits.length; index++) {
    const logit = logits[index] as number;
    if (best.length === count && logit <= threshold) continue;
    let at = best.length;
    while (at > 0 && (logits[best[at - 1] as number] as number) < logit) at--;
    best.splice(at, 0, index);
    if (best.length > count) best.pop();
    threshold = logits[best.at(-1) as number] as number;
  }
  return best;
}
