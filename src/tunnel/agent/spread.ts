import type { Clock } from "./clock.ts";
import type { Line } from "./line.ts";

const firstPause = 5000;
const longestPause = 600_000;

/**
 * Behind one address there may be several relays. While all connections lead to the same one, which happens when the
 * others are started anew, another is dialled for now and then: or that relay's own restart would leave the agent
 * without any. With only one relay this comes to nothing, and ever more rarely.
 */
export class Spread {
  readonly #lines: readonly Line[];
  readonly #clock: Clock;
  #pause = firstPause;
  #due: number | undefined;

  constructor(lines: readonly Line[], clock: Clock) {
    this.#lines = lines;
    this.#clock = clock;
  }

  /** Called every second or so. */
  look(): void {
    if (!this.#crowded()) {
      this.#pause = firstPause;
      this.#due = undefined;
      return;
    }
    const now = this.#clock.now();
    this.#due ??= now + this.#pause;
    if (now < this.#due) return;
    this.#pause = Math.min(2 * this.#pause, longestPause);
    this.#due = now + this.#pause;
    this.#lines.at(-1)?.seek();
  }

  #crowded(): boolean {
    const [first, ...others] = this.#lines.map(({ relay }) => relay);
    return first !== undefined && others.length > 0 && others.every((relay) => relay === first);
  }
}
