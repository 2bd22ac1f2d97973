/** A stream whose next tokens are to be guessed. */
export interface DraftStream {
  /** The prompt and all tokens since: the list of one request, which only grows. */
  readonly tokens: readonly number[];
  readonly sequence: number;
  /** Most tokens to guess, at least 1. */
  readonly most: number;
}

/** Guesses the next tokens of streams. Whether a guess is right shows when the model has computed it. */
export interface Drafter {
  /** A guess for each stream, in their order; empty where there is none. */
  draft(streams: readonly DraftStream[]): number[][];
  free(): void;
}

/** A stream, and how many tokens of it may be guessed at most. */
export interface Speculative {
  readonly tokens: readonly number[];
  readonly sequence: number;
  readonly room: number;
}

interface Pace {
  /** Tokens of the next guess. */
  length: number;
  /** Steps without a guess. */
  pause: number;
  misses: number;
}

/**
 * Tokens of a stream's first guess, which right ones double, and of one after a wrong one. On a CPU the second row of a
 * step is the dear one (a model of 0.5B: 29, 48, 55, 69 and 92 ms for 1, 2, 5, 9 and 17): short guesses do not pay.
 */
const firstGuess = 8;
const shortestGuess = 4;
/** Longest pause, in steps, of a stream whose guesses are all wrong. */
const longestPause = 32;

/**
 * Speculative decoding: tokens guessed ahead are computed together with the next one, which costs little more than one
 * alone. The model's own choice at each place decides, so that answers stay what they were; a wrong guess only costs its
 * computing. So guesses grow while they are right, and pause longer and longer while they are wrong.
 */
export class Speculation {
  /** Most tokens guessed for all streams of a step together. */
  readonly most: number;
  readonly #least: number;
  readonly #drafter: Drafter;
  readonly #paces = new WeakMap<readonly number[], Pace>();

  /** `most` ≥ 1. Guesses shorter than `least` are not worth their computing. */
  constructor(drafter: Drafter, { most, least }: { most: number; least: number }) {
    this.#drafter = drafter;
    this.most = most;
    this.#least = least;
  }

  /** Guesses for the streams, in their order. */
  draft(streams: readonly Speculative[]): number[][] {
    const share = Math.max(1, Math.floor(this.most / Math.max(1, streams.length)));
    const guesses = streams.map((): number[] => []);
    const asked: { readonly index: number; readonly stream: DraftStream }[] = [];
    let left = this.most;
    for (const [index, { tokens, sequence, room }] of streams.entries()) {
      const pace = this.#paceOf(tokens);
      const most = Math.min(pace.length, share, room, left);
      if (pace.pause > 0) pace.pause -= 1;
      else if (most >= Math.max(1, this.#least)) {
        asked.push({ index, stream: { tokens, sequence, most } });
        left -= most;
      }
    }
    if (asked.length === 0) return guesses;
    const drafts = this.#drafter.draft(asked.map(({ stream }) => stream));
    for (const [place, { index }] of asked.entries()) {
      const guess = drafts[place] ?? [];
      if (guess.length >= this.#least) guesses[index] = guess;
    }
    return guesses;
  }

  /** Of a guess of `drafted` tokens so many were right. */
  learn(tokens: readonly number[], drafted: number, accepted: number): void {
    if (drafted === 0) return;
    const pace = this.#paceOf(tokens);
    const next = accepted === drafted ? Math.max(pace.length, drafted * 2) : Math.max(shortestGuess, accepted + 2);
    pace.length = Math.min(this.most, Math.max(this.#least, next));
    pace.misses = accepted > 0 ? 0 : pace.misses + 1;
    pace.pause = Math.min(longestPause, 2 ** pace.misses - 1);
  }

  free(): void {
    this.#drafter.free();
  }

  #paceOf(tokens: readonly number[]): Pace {
    let pace = this.#paces.get(tokens);
    if (pace === undefined) {
      pace = { length: Math.min(this.most, Math.max(firstGuess, this.#least)), pause: 0, misses: 0 };
      this.#paces.set(tokens, pace);
    }
    return pace;
  }
}
