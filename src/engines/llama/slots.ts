import type { Generation } from "./generation.ts";

/** One sequence of the context with its KV cache, and the request that works on it. */
export class Slot {
  readonly sequence: number;
  /** What the cache holds, position by position. Stays after a request, for the next one with the same beginning. */
  tokens: number[] = [];
  generation: Generation | null = null;
  session: string | null = null;
  /** Order of arrival of the request, or of the end of the last one. */
  arrival = 0;

  constructor(sequence: number) {
    this.sequence = sequence;
  }

  /** Tokens of the request that are not computed yet. 1: it generates; more: its prompt is being read. */
  get pending(): number {
    return this.generation === null ? 0 : this.generation.tokens.length - this.tokens.length;
  }

  start(generation: Generation, kept: number, arrival: number): void {
    this.tokens = generation.tokens.slice(0, kept);
    this.generation = generation;
    this.session = generation.job.session;
    this.arrival = arrival;
  }

  computed(count: number): void {
    const tokens = this.generation?.tokens ?? [];
    for (let index = 0; index < count; index++) this.tokens.push(tokens[this.tokens.length] ?? 0);
  }

  /** The cache turned out to hold only this many tokens, or more than was known (after a decode was broken off). */
  rewind(length: number): void {
    this.tokens = (this.generation?.tokens ?? this.tokens).slice(0, length);
  }

  finish(arrival: number): void {
    this.generation = null;
    this.arrival = arrival;
  }
}

/**
 * Below this a common prefix is chance (a template's opening), not the same conversation: taking that slot would cost
 * its conversation the cache for nothing. The share of the prompt is llama-server's (`--slot-prompt-similarity`).
 */
const worthwhile = { tokens: 16, share: 0.1 };

/** Of the free slots the one with the longest common prefix, then the same session's, then the one unused for longest. */
export function chooseSlot(free: readonly Slot[], generation: Generation): Slot {
  const least = Math.max(worthwhile.tokens, generation.tokens.length * worthwhile.share);
  const scored = free.map((slot) => {
    const prefix = commonPrefix(slot.tokens, generation.tokens);
    const sameSession = generation.job.session !== null && slot.session === generation.job.session;
    return { slot, prefix: prefix < least ? 0 : prefix, sameSession };
  });
  scored.sort(
    (a, b) => b.prefix - a.prefix || Number(b.sameSession) - Number(a.sameSession) || a.slot.arrival - b.slot.arrival,
  );
  const [best] = scored;
  if (best === undefined) throw new Error("no slot is free");
  return best.slot;
}

export function commonPrefix(a: readonly number[], b: readonly number[]): number {
  const end = Math.min(a.length, b.length);
  let length = 0;
  while (length < end && a[length] === b[length]) length++;
  return length;
}
