import type { Generation } from "../generation/generation.ts";

/** One sequence of the context with its KV cache, and the request that works on it. */
export class Slot {
  readonly sequence: number;
  /** The cache holds the first `length` of these. They stay after a request, for the next one with the same beginning. */
  tokens: readonly number[] = [];
  length = 0;
  generation: Generation | null = null;
  /** Its request has its beginning in the cache and is being computed; false: it waits for somebody else's tokens. */
  seated = false;
  session: string | null = null;
  /** Order of arrival of the request, or of the end of the last one. */
  arrival = 0;
  /** Tokens at the front of the cache that are on the disk too. */
  stored = 0;

  constructor(sequence: number) {
    this.sequence = sequence;
  }

  /** Tokens of the request that are not computed yet. 1: it generates; more: its prompt is being read. */
  get pending(): number {
    return this.generation === null || !this.seated ? 0 : this.generation.tokens.length - this.length;
  }

  /** Whether the prompt of its request is not computed to its end. */
  get reads(): boolean {
    return this.generation !== null && this.seated && this.length < this.generation.promptLength;
  }

  /** Takes a request, which is not seated yet: the cache stays what it was. */
  take(generation: Generation, arrival: number): void {
    this.generation = generation;
    this.seated = false;
    this.session = generation.job.session;
    this.arrival = arrival;
  }

  /** From here on the cache holds the first `kept` tokens of the request. */
  seat(kept: number): void {
    this.tokens = this.generation?.tokens ?? [];
    this.length = kept;
    this.stored = Math.min(this.stored, kept);
    this.seated = true;
  }

  finish(arrival: number): void {
    this.generation = null;
    this.seated = false;
    this.arrival = arrival;
  }

  /** The cache holds other tokens now, of no request. */
  hold(tokens: readonly number[], length: number, stored = 0): void {
    this.tokens = tokens;
    this.length = length;
    this.stored = stored;
  }

  /** Length of the common beginning of what the cache holds and `tokens`. */
  sharedWith(tokens: readonly number[]): number {
    return commonPrefix(this.tokens, tokens, this.length);
  }
}

/**
 * Below this a common beginning is chance (a template's opening), or cheaper read than copied: llama.cpp copies the
 * whole cache of a slot, however little of it is meant.
 */
export const worthwhile = 64;

/** What a copy costs, as the number of tokens that are computed in the same time: a guess on the high side. */
const copyCost = 128;

export interface Choice {
  /** Slots without a request. */
  readonly free: readonly Slot[];
  /** The longest beginning that any slot, free or not, could give. */
  readonly longest: number;
  /** Arrivals counted so far. */
  readonly now: number;
  /** How much of a common beginning of this length a slot can really keep. */
  readonly usable: (slot: Slot, shared: number) => number;
}

/**
 * The slot for a request: the one where least is lost. What counts is what other conversations would have to compute
 * again (less and less, the longer they are silent) and what this one has to compute or copy.
 */
export function chooseSlot(generation: Generation, { free, longest, now, usable }: Choice): Slot {
  let best: Slot | undefined;
  let lowest = Infinity;
  for (const slot of free) {
    const shared = slot.sharedWith(generation.tokens);
    const own = usable(slot, shared);
    const sameSession = generation.job.session !== null && slot.session === generation.job.session;
    const idle = (now - slot.arrival) / free.length;
    const lost = sameSession ? 0 : (slot.length - shared) / (1 + Math.max(0, idle));
    const missing = longest - own;
    const cost = lost + (missing >= worthwhile ? copyCost : missing);
    if (cost > lowest || (cost === lowest && best !== undefined && slot.arrival >= best.arrival)) continue;
    best = slot;
    lowest = cost;
  }
  if (best === undefined) throw new Error("no slot is free");
  return best;
}

/** Length of the common beginning of two lists, of which no more than `limit` is looked at. */
export function commonPrefix(a: readonly number[], b: readonly number[], limit = Infinity): number {
  const end = Math.min(a.length, b.length, limit);
  let length = 0;
  while (length < end && a[length] === b[length]) length++;
  return length;
}
