import type { Drafter, DraftStream } from "./speculation.ts";

/** Tokens that must agree before a repetition is guessed. Two agree by chance too often. */
const gram = 3;

/**
 * Guesses that what follows the last tokens is what followed them before, in the prompt or in the answer itself: right
 * where an answer repeats code or a document that it was given. Costs no memory to speak of and no computing.
 */
export class PromptLookup implements Drafter {
  readonly #indexes = new WeakMap<readonly number[], GramIndex>();

  draft(streams: readonly DraftStream[]): number[][] {
    return streams.map(({ tokens, most }) => {
      let index = this.#indexes.get(tokens);
      if (index === undefined) this.#indexes.set(tokens, (index = new GramIndex()));
      const from = index.followerOf(tokens);
      return from < 0 ? [] : repeat(tokens, from, most);
    });
  }

  free(): void {
    // Nothing but memory of JavaScript's.
  }
}

/** `count` tokens from `from` on; at the end of the list they go on with themselves, as a loop would. */
function repeat(tokens: readonly number[], from: number, count: number): number[] {
  const guess = tokens.slice(from, from + count);
  for (let index = 0; guess.length < count; index++) guess.push(guess[index] ?? -1);
  return guess;
}

/** Where each run of `gram` tokens was last seen, in a list that only grows. */
class GramIndex {
  /** Hash of a run → index after it. */
  readonly #ends = new Map<number, number>();
  #indexed = gram;

  /** Index of what followed the latest earlier occurrence of the last tokens; −1 if there is none. */
  followerOf(tokens: readonly number[]): number {
    // The last run itself is not indexed: it would be found.
    for (; this.#indexed < tokens.length; this.#indexed++) this.#ends.set(hash(tokens, this.#indexed), this.#indexed);
    const end = this.#ends.get(hash(tokens, tokens.length));
    if (end === undefined || tokens.length < gram) return -1;
    for (let back = 1; back <= gram; back++) if (tokens[end - back] !== tokens[tokens.length - back]) return -1;
    return end;
  }
}

/** Of the run that ends before `end`. */
function hash(tokens: readonly number[], end: number): number {
  let value = 0;
  for (let back = 1; back <= gram; back++) value = Math.imul(value ^ (tokens[end - back] ?? 0), 0x9e3779b1);
  return value;
}
