import { DialRefused } from "../handshake/dial.ts";
import type { Clock } from "../../core/clock.ts";

const shortest = 250;
const longest = 30_000;
/** A key that is refused does not become good by asking; a person may mend it meanwhile. */
const keyPause = 60_000;
/** The relay's word on when to come back is taken, within reason. */
const longestAsked = 300_000;

/** Milliseconds until the next attempt after so many failures in a row (≥ 1): full jitter, within 250 ms and 30 s. */
export function backoff(failures: number, clock: Pick<Clock, "random">): number {
  const cap = Math.min(longest, shortest * 2 ** Math.min(failures, 20));
  return Math.max(shortest, Math.round(clock.random() * cap));
}

/** The same after the relay itself has said no. */
export function pauseAfter(error: unknown, failures: number, clock: Pick<Clock, "random">): number {
  const pause = backoff(failures, clock);
  if (!(error instanceof DialRefused)) return pause;
  if (isRefusedKey(error)) return keyPause;
  return Math.max(pause, Math.min(longestAsked, (error.retryAfter ?? 0) * 1000));
}

/** Whether the relay refused the agent's key, or its name. */
export function isRefusedKey(error: unknown): boolean {
  return error instanceof DialRefused && (error.status === 401 || error.status === 403);
}
