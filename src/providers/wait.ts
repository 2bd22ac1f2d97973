import { ApiError } from "../core/errors.ts";

/** Waits for work that several callers share: one who leaves stops waiting, and the work goes on for the others. */
export function waitFor<T>(work: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return work;
  return new Promise((resolve, reject) => {
    const leave = (): void => reject(new ApiError("client_closed_request", "the client closed the connection"));
    if (signal.aborted) return leave();
    signal.addEventListener("abort", leave, { once: true });
    const over = (): void => signal.removeEventListener("abort", leave);
    void work.then(resolve, reject).finally(over);
  });
}
