import type { Clock } from "../core/clock.ts";

/** How a call failed: no connection came about, or there was one and nothing good came back. */
export type Trouble = "unreachable" | "failing";

/** One call that was let through. Exactly one of its methods is called, once; what is said later has no effect. */
export interface Passage {
  /** It alone is let through, to see whether the upstream works again. */
  readonly trial: boolean;
  succeed(): void;
  fail(trouble: Trouble): void;
  /** It ended without saying anything of the upstream: its caller left. */
  leave(): void;
}

/** Failures in a row that open the circuit. */
const mostInRow = 5;
/** Of at least so many calls within `span`, this share of failures opens it, too. */
const leastCalls = 20;
const mostShare = 0.5;
/** Seconds. */
const span = 30;
/** Milliseconds. */
const shortestPause = 1000;
const longestPause = 30_000;

/**
 * Keeps calls from an upstream that fails again and again. Open, it lets none through; after a pause, which doubles with
 * each vain trial, one at a time. What began before it opened or closed says nothing of the time after.
 */
export class Breaker {
  readonly #clock: Pick<Clock, "now">;
  readonly #onChange: () => void;
  readonly #recent = new Recent();
  readonly #passages: Passages;
  #open = false;
  #since: number;
  /** Counts openings and closings. */
  #era = 0;
  #inRow = 0;
  #trouble: Trouble = "failing";
  #pause = 0;
  #retryAt = 0;
  #trialSince: number | undefined;

  /** `onChange` is told of each opening and closing. */
  constructor(clock: Pick<Clock, "now">, onChange: () => void = () => undefined) {
    this.#clock = clock;
    this.#onChange = onChange;
    this.#since = clock.now();
    this.#passages = {
      era: () => this.#era,
      succeed: () => this.#succeeded(),
      fail: (trouble) => this.#failed(trouble),
      leave: () => (this.#trialSince = undefined),
    };
  }

  get circuit(): "closed" | "half-open" | "open" {
    if (!this.#open) return "closed";
    return this.#onTrial || this.#isDue() ? "half-open" : "open";
  }

  /** When it last opened or closed, in milliseconds since 1970. */
  get since(): number {
    return this.#since;
  }

  /** When the next trial may be, in milliseconds since 1970; undefined while it is closed. */
  get retryAt(): number | undefined {
    return this.#open ? this.#retryAt : undefined;
  }

  /** Milliseconds until the next trial may be. */
  get wait(): number {
    return Math.max(0, (this.retryAt ?? 0) - this.#clock.now());
  }

  /** Whether `enter` would let a call through. */
  get passable(): boolean {
    return !this.#open || (!this.#onTrial && this.#isDue());
  }

  /** Lets a call through; undefined: not now. */
  enter(): Passage | undefined {
    if (!this.passable) return undefined;
    if (this.#open) this.#trialSince = this.#clock.now();
    return new Through(this.#passages, this.#era, this.#open);
  }

  /** It answers a question for its health: closes a circuit that opened because nothing could be reached. */
  answered(): void {
    if (this.#open && this.#trouble === "unreachable") this.#change(false);
  }

  #succeeded(): void {
    if (this.#open) return this.#change(false);
    this.#inRow = 0;
    this.#recent.add(this.#clock.now(), false);
  }

  #failed(trouble: Trouble): void {
    const now = this.#clock.now();
    this.#trouble = trouble;
    if (this.#open) {
      this.#trialSince = undefined;
      this.#pause = Math.min(longestPause, this.#pause * 2);
      this.#retryAt = now + this.#pause;
      return;
    }
    this.#recent.add(now, true);
    if (++this.#inRow >= mostInRow || this.#recent.areMostlyFailures(now)) this.#change(true);
  }

  #change(open: boolean): void {
    this.#open = open;
    this.#era++;
    this.#since = this.#clock.now();
    this.#inRow = 0;
    this.#trialSince = undefined;
    this.#pause = shortestPause;
    this.#retryAt = this.#since + shortestPause;
    this.#recent.clear();
    this.#onChange();
  }

  /** A trial may be a long prompt: it does not keep all others waiting for its end. */
  get #onTrial(): boolean {
    if (this.#trialSince === undefined) return false;
    const age = this.#clock.now() - this.#trialSince;
    return age >= 0 && age < longestPause;
  }

  /** A clock that was set back must not hold an upstream for longer than any pause. */
  #isDue(): boolean {
    const left = this.#retryAt - this.#clock.now();
    return left <= 0 || left > longestPause;
  }
}

/** Whom passages tell how they ended. */
interface Passages {
  readonly era: () => number;
  readonly succeed: () => void;
  readonly fail: (trouble: Trouble) => void;
  readonly leave: () => void;
}

class Through implements Passage {
  readonly trial: boolean;
  readonly #passages: Passages;
  readonly #era: number;
  #told = false;

  constructor(passages: Passages, era: number, trial: boolean) {
    this.#passages = passages;
    this.#era = era;
    this.trial = trial;
  }

  succeed(): void {
    if (this.#tell()) this.#passages.succeed();
  }

  fail(trouble: Trouble): void {
    if (this.#tell()) this.#passages.fail(trouble);
  }

  leave(): void {
    if (this.#tell()) this.#passages.leave();
  }

  #tell(): boolean {
    const heard = !this.#told && this.#era === this.#passages.era();
    this.#told = true;
    return heard;
  }
}

/** Calls of the last seconds, by the second. */
class Recent {
  readonly #seconds = new Float64Array(span);
  readonly #calls = new Uint32Array(span);
  readonly #failures = new Uint32Array(span);

  add(now: number, failed: boolean): void {
    const second = Math.floor(now / 1000);
    const place = second % span;
    if (this.#seconds[place] !== second) {
      this.#seconds[place] = second;
      this.#calls[place] = 0;
      this.#failures[place] = 0;
    }
    this.#calls[place] = (this.#calls[place] ?? 0) + 1;
    if (failed) this.#failures[place] = (this.#failures[place] ?? 0) + 1;
  }

  areMostlyFailures(now: number): boolean {
    const second = Math.floor(now / 1000);
    let calls = 0;
    let failures = 0;
    for (let place = 0; place < span; place++) {
      const age = second - (this.#seconds[place] ?? 0);
      if (age < 0 || age >= span) continue;
      calls += this.#calls[place] ?? 0;
      failures += this.#failures[place] ?? 0;
    }
    return calls >= leastCalls && failures >= calls * mostShare;
  }

  clear(): void {
    this.#seconds.fill(0);
    this.#calls.fill(0);
    this.#failures.fill(0);
  }
}
