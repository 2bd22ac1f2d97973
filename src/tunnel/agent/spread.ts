import type { Clock } from "../../core/clock.ts";
import type { Line } from "./line.ts";

/** Milliseconds between two attempts; each is twice the one before. */
const firstPause = 3000;
const longestPause = 600_000;
/** An agent that knows of several relays tries so often first, as it cannot choose where it is led. */
const eagerAttempts = 20;
const eagerPause = 1000;

/**
 * Behind one address there may be several relays. While all connections lead to the same one, which happens when the
 * others are started anew, another is dialled for now and then: or that relay's own restart would leave the agent
 * without any. With only one relay this comes to nothing, and ever more rarely.
 */
export class Spread {
  readonly #lines: readonly Line[];
  readonly #clock: Clock;
  /** Whether its connections have ever led to different relays at the same time. */
  #several = false;
  #attempts = 0;
  #due: number | undefined;

  constructor(lines: readonly Line[], clock: Clock) {
    this.#lines = lines;
    this.#clock = clock;
  }

  /** Called when a connection stands, and every second or so. */
  look(): void {
    const relays = this.#lines.map(({ relay }) => relay);
    const here = new Set(relays);
    if (relays.length < 2 || here.has(undefined)) return this.#rest();
    if (here.size > 1) {
      this.#several = true;
      return this.#rest();
    }
    const now = this.#clock.now();
    this.#due ??= now + this.#pause;
    if (now < this.#due) return;
    this.#attempts++;
    this.#due = now + this.#pause;
    this.#lines.at(-1)?.seek();
  }

  get #pause(): number {
    if (this.#several && this.#attempts < eagerAttempts) return eagerPause;
    const doublings = this.#attempts - (this.#several ? eagerAttempts : 0);
    return Math.min(firstPause * 2 ** doublings, longestPause);
  }

  #rest(): void {
    this.#attempts = 0;
    this.#due = undefined;
  }
}
