import { ApiError } from "../../../core/errors.ts";

const longestMs = 30_000;

/** How long a process that keeps failing is left alone: not at all after the first time, then ever longer. */
export class Backoff {
  #failures = 0;
  #notBefore = 0;
  #last: ApiError | null = null;

  /** Throws the last failure, with the time to wait, while it is too early for another start. */
  check(): void {
    const wait = this.#notBefore - Date.now();
    if (wait <= 0 || this.#last === null) return;
    const { code, message } = this.#last;
    throw new ApiError(code, message, { retryAfter: Math.ceil(wait / 1000) });
  }

  failed(failure: ApiError): void {
    this.#failures += 1;
    this.#last = failure;
    const pause = this.#failures < 2 ? 0 : Math.min(longestMs, 500 * 2 ** (this.#failures - 2));
    this.#notBefore = Date.now() + pause;
  }

  succeeded(): void {
    this.#failures = 0;
  }
}
