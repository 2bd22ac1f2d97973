/** Who uses a process now, and when it was used last (milliseconds since 1970). */
export class Leases {
  lastUsed = 0;
  readonly #onIdle: () => void;
  #held = 0;

  /** `onIdle` is called when the last one has been given back. */
  constructor(onIdle: () => void) {
    this.#onIdle = onIdle;
  }

  get held(): boolean {
    return this.#held > 0;
  }

  /** Counts until the returned function is called; further calls of it do nothing. */
  take(): () => void {
    this.#held += 1;
    this.lastUsed = Date.now();
    let held = true;
    return () => {
      if (!held) return;
      held = false;
      this.#held -= 1;
      this.lastUsed = Date.now();
      if (this.#held === 0) this.#onIdle();
    };
  }
}
