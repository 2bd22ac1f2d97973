/** Time and chance as they are taken by who must be tested with both in hand. */
export interface Clock {
  /** Milliseconds since 1970: this goes on while the machine sleeps, which timers and `performance.now` may not. */
  now(): number;
  /** Runs the task once, so many milliseconds later; the result takes it back. */
  after(milliseconds: number, task: () => void): () => void;
  /** In [0, 1). */
  random(): number;
}

export const systemClock: Clock = {
  now: () => Date.now(),
  after(milliseconds, task) {
    const timer = setTimeout(task, milliseconds);
    return () => clearTimeout(timer);
  },
  random: () => Math.random(),
};
