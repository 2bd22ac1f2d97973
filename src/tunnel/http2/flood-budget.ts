import { errorCodes, SessionError } from "./errors.ts";

/** So that thousands of calls may be given up at once. */
const mostAtOnce = 20_000;
const perMillisecond = 10;

/** Bounds the frames that cost work and bring nothing: SETTINGS, PING, RST_STREAM, empty DATA, late frames. */
export class FloodBudget {
  #left = mostAtOnce;
  #since = performance.now();

  /** Throws `SessionError` when it is used up. */
  spend(cost = 1): void {
    this.#left -= cost;
    if (this.#left > 0) return;
    const now = performance.now();
    this.#left = Math.min(mostAtOnce, Math.floor((now - this.#since) * perMillisecond));
    this.#since = now;
    if (this.#left <= 0)
      throw new SessionError(errorCodes.enhanceYourCalm, "the peer floods the session with empty frames");
  }
}
