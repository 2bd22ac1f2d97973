import { smallestChunk } from "./portions.ts";

/** Of a prompt at least so many tokens are taken in a step: fewer cost as much again for the weights alone. */
const fewest = 8;
/** Pieces below `smallestChunk` that are so much slower for each token are taken only where the stall would be far too long. */
const tooSlow = 3;
/** Small pieces are believed to be at most so many times as slow. */
const mostTimes = 20;

/**
 * How many tokens of prompts a step may compute while others generate, so that it takes no longer than asked. What a
 * token costs is measured, for it grows with the length of the context: at 4,000 tokens attention takes ten times as
 * long as all the rest (measured: 65 rows 150 ms at first, 710 at 4,000). Pieces below 64 rows take llama.cpp's path
 * for single rows, which is slower for each (there 1.8 times), but can be cut as short as need be.
 */
export class PromptPace {
  readonly #stallMs: number;
  /** Milliseconds for each token in large pieces. */
  #large = 2;
  /** How many times as long one takes in small pieces, and whether that was measured. */
  #ratio = 2;
  #small = false;

  constructor(stallMs: number) {
    this.#stallMs = stallMs;
  }

  /** Tokens for the next step beside streams. */
  get rows(): number {
    const many = Math.floor(this.#stallMs / this.#large);
    if (many >= smallestChunk) return many;
    if (this.#ratio > tooSlow && smallestChunk * this.#large <= tooSlow * this.#stallMs) return smallestChunk;
    const few = Math.floor(this.#stallMs / (this.#large * this.#ratio));
    return Math.min(smallestChunk - 1, Math.max(fewest, few));
  }

  /** Takes note of a step that computed so many tokens of prompts. */
  observe(rows: number, milliseconds: number): void {
    if (rows < fewest) return;
    const each = milliseconds / rows;
    const small = rows < smallestChunk;
    if (!small) this.#large = (this.#large + each) / 2;
    // The first small piece after large ones tells how much slower they are; from then on both grow alike.
    else if (!this.#small) this.#ratio = Math.min(mostTimes, Math.max(1, each / this.#large));
    else this.#large = (this.#large + each / this.#ratio) / 2;
    this.#small = small;
  }
}
