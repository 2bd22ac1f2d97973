import type { Principal } from "../core/access.ts";
import type { Headers } from "../core/call.ts";
import type { Demand } from "../core/demand.ts";

/** What a call has in hand while it is under way. */
export interface Reservation {
  /** `x-ratelimit-*`, for its reply. */
  readonly headers: Headers;
  /** Says what it has really used (spend in millionths), once, however it ended: the rest goes back. */
  settle(used: { readonly tokens: number; readonly spend: number }): void;
}

/** Holds callers to their limits. */
export interface Limiter {
  /**
   * Takes what the call may use. At once where that is known here; a promise only where the shared state must be asked.
   * `spend`: most that it may cost, in millionths. Throws (or rejects with) `rate_limit_exceeded`, `concurrency_limit` or `insufficient_quota`
   * with `Retry-After` and `x-ratelimit-*`, `service_unavailable` when the state has been away for longer than allowed.
   */
  reserve(principal: Principal, demand: Demand, spend: number): Reservation | Promise<Reservation>;
  close(): Promise<void>;
}
