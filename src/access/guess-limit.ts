/** Wrong keys that an address may show within a minute: typing errors, and a client or two with an old key. */
const mostGuesses = 10;
const minute = 60_000;
/** Milliseconds that the first guess too many costs; each further one costs twice the last, up to a minute. */
const firstPause = 1000;
/** Addresses that are remembered; beyond, the one that has guessed least lately is forgotten. */
const mostAddresses = 10_000;

interface Guesses {
  /** They are forgotten one by one, `mostGuesses` in a minute; none while the address waits. */
  readonly count: number;
  readonly last: number;
  /** Until then nothing is looked at that could be guessed. */
  readonly until: number;
}

/** Who shows wrong keys, by address (`toLimitKey`), and for how long nobody listens to them. */
export class GuessLimit {
  readonly #guesses = new Map<string, Guesses>();
  readonly #clock: () => number;

  /** `clock`: milliseconds, never backwards. */
  constructor(clock: () => number = () => performance.now()) {
    this.#clock = clock;
  }

  /** Whole seconds that the address has to wait; 0: it need not. */
  wait(address: string): number {
    const known = this.#guesses.get(address);
    if (known === undefined) return 0;
    return Math.max(0, Math.ceil((known.until - this.#clock()) / 1000));
  }

  /** One more wrong key. True: with this one the address begins to wait. */
  add(address: string): boolean {
    const now = this.#clock();
    const known = this.#guesses.get(address);
    this.#guesses.delete(address);
    const idle = known === undefined ? 0 : Math.max(0, now - Math.max(known.last, known.until));
    const count = Math.max(0, (known?.count ?? 0) - (idle / minute) * mostGuesses) + 1;
    const beyond = Math.ceil(count) - mostGuesses;
    const pause = beyond < 0 ? 0 : Math.min(minute, firstPause * 2 ** Math.min(beyond, 10));
    if (this.#guesses.size >= mostAddresses) this.#guesses.delete(this.#guesses.keys().next().value as string);
    this.#guesses.set(address, { count, last: now, until: pause === 0 ? 0 : now + pause });
    return pause > 0 && (known?.until ?? 0) === 0;
  }

  /** Addresses that are remembered. */
  get size(): number {
    return this.#guesses.size;
  }
}
