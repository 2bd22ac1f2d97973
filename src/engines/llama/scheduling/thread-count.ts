/** Steps that are looked at together. */
const window = 6;
/** A step this many times slower than the fastest of its size has waited for a core that another program had. */
const stalledFactor = 4;
/** Milliseconds before all threads are tried again; doubled each time that they are no better. */
const patience = { first: 5_000, longest: 60_000 };

/**
 * How many threads compute the steps of running streams. llama.cpp's threads wait for one another, spinning, hundreds of
 * times a token: when another program takes the core of one, all stand still for its time slice (measured on two busy
 * cores: 1 to 5 s a token with two threads, 0.13 s with one). So when steps become many times slower than they have
 * been, half the threads are tried, and kept for as long as that is faster.
 */
export class ThreadCount {
  readonly #most: number;
  readonly #now: () => number;
  readonly #fastest = new Map<number, number>();
  #fewer = false;
  /** Milliseconds of the last steps with the present number, relative to the fastest of their size. */
  #recent: number[] = [];
  /** Mean of them with all threads, and with fewer, when that was last measured. */
  #withAll = Infinity;
  #withFewer = Infinity;
  #patience = patience.first;
  #nextTry = 0;

  constructor(most: number, now: () => number = () => performance.now()) {
    this.#most = most;
    this.#now = now;
  }

  get count(): number {
    return this.#fewer ? Math.max(1, this.#most >> 1) : this.#most;
  }

  /** Takes note of a step of `rows` streams that took `milliseconds` with `count` threads. */
  observe(rows: number, milliseconds: number): void {
    if (this.#most < 2) return;
    const fastest = Math.min(milliseconds, (this.#fastest.get(rows) ?? Infinity) * 1.001);
    this.#fastest.set(rows, fastest);
    this.#recent.push(milliseconds / fastest);
    if (this.#fewer) this.#whileFewer();
    else this.#whileAll();
  }

  #whileAll(): void {
    const last = this.#recent.at(-1) ?? 0;
    // All are on trial: one step slower than with fewer is enough.
    const failed = this.#withFewer < Infinity && last > 2 * this.#withFewer;
    if (!failed && this.#recent.length < window) return;
    const slow = this.#recent.filter((factor) => factor > stalledFactor).length;
    if (failed || (slow >= window / 2 && this.#now() >= this.#nextTry)) {
      this.#withAll = mean(this.#recent);
      if (failed) this.#patience = Math.min(patience.longest, this.#patience * 2);
      this.#turn(true);
      return;
    }
    this.#withFewer = Infinity;
    if (slow === 0) this.#patience = patience.first;
    this.#recent.shift();
  }

  #whileFewer(): void {
    if (this.#recent.length < window) return;
    this.#withFewer = mean(this.#recent);
    if (this.#withFewer > 0.7 * this.#withAll) {
      this.#withFewer = Infinity;
      this.#turn(false);
    } else if (this.#now() >= this.#nextTry) this.#turn(false);
    else this.#recent.shift();
  }

  #turn(fewer: boolean): void {
    this.#fewer = fewer;
    this.#recent = [];
    this.#nextTry = this.#now() + this.#patience;
  }
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
