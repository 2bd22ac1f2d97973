/** What the peer may send on one stream to begin with, and at most. */
export const firstWindow = 4 * 1024 * 1024;
const largestWindow = 16 * 1024 * 1024;
/** What the peer may send over all streams. */
export const sessionWindow = 32 * 1024 * 1024;

/** What a peer may send on one stream. It grows for a reader that takes a whole window within two round trips. */
export class ReceiveWindow {
  #size = firstWindow;
  #left = firstWindow;
  /** Consumed and not given back yet. */
  #owed = 0;
  /** Consumed since `#since`. */
  #measured = 0;
  #since = 0;

  /** The peer has sent. False: more than it was allowed to. */
  take(bytes: number): boolean {
    this.#left -= bytes;
    return this.#left >= 0;
  }

  /** The reader has consumed: what to give back to the peer now, in bytes, mostly 0. */
  consume(bytes: number, roundTrip: number): number {
    this.#owed += bytes;
    if (this.#owed < this.#size / 4) return 0;
    const credit = this.#owed + this.#grow(roundTrip);
    this.#left += credit;
    this.#owed = 0;
    return credit;
  }

  #grow(roundTrip: number): number {
    this.#measured += this.#owed;
    if (this.#since !== 0 && this.#measured < this.#size) return 0;
    const now = performance.now();
    const fast = this.#since !== 0 && now - this.#since < 2 * Math.max(roundTrip, 1);
    this.#since = now;
    this.#measured = 0;
    if (!fast || this.#size >= largestWindow) return 0;
    this.#size *= 2;
    return this.#size / 2;
  }
}
