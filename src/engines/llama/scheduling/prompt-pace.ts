import { smallestChunk } from "./portions.ts";

/** Of a prompt at least so many tokens are taken in a step: fewer cost as much again for the weights alone. */
const fewest = 8;
/** Pieces below `smallestChunk` that are so much slower for each token are taken only where the stall would be far too long. */
const tooSlow = 3;

/**
 * How many tokens of prompts a step may compute while others generate, so that it takes no longer than asked. What a
 * token costs is measured, for it grows with the length of the context: at 4,000 tokens attention takes ten times as
 * long as all the rest (measured: 65 rows 150 ms at first, 710 at 4,000). Pieces below 64 rows take llama.cpp's path
 * for single rows, which is slower for each (there 1.8 times), but can be cut as short as need be.
 */
export class PromptPace {
  readonly #stallMs: number;
  /** Milliseconds for each token in large pieces, and in small ones. */
  #large = 2;
  #small: number | null = null;

  constructor(stallMs: number) {
    this.#stallMs = stallMs;
  }

  /** Tokens for the next step beside streams. */
  get rows(): number {
    const many = Math.floor(this.#stallMs / this.#large);
    if (many >= smallestChunk) return many;
    const small = this.#small ?? 2 * this.#large;
    if (small > tooSlow * this.#large && smallestChunk * this.#large <= tooSlow * this.#stallMs) return smallestChunk;
    return Math.min(smallestChunk - 1, Math.max(fewest, Math.floor(this.#stallMs / small)));
  }

  /** Takes note of a step that computed so many tokens of prompts. */
  observe(rows: number, milliseconds: number): void {
    if (rows < fewest) return;
    const each = milliseconds / rows;
    if (rows >= smallestChunk) this.#large = (this.#large + each) / 2;
    else {
      this.#small = this.#small === null ? each : (this.#small + each) / 2;
      // Large pieces are never slower: known from small ones, when no large one has been computed for long.
      this.#large = Math.min(this.#large, this.#small);
    }
  }
}
