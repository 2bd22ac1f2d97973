import { type Handler, type Middleware, whenReplyIsOver } from "../core/call.ts";
import { ApiError } from "../core/errors.ts";

/** At most `most` calls under way at a time, streams counted until they end; 0: no limit. */
export function limits(most: number): Middleware {
  if (most === 0) return (call, next: Handler) => next(call);
  let busy = 0;
  return async (call, next) => {
    if (call.method !== "POST") return next(call);
    if (busy >= most)
      throw new ApiError("concurrency_limit", `${most} calls are under way, and no more are allowed at a time`);
    busy++;
    const release = (): void => void busy--;
    try {
      return whenReplyIsOver(await next(call), release);
    } catch (error) {
      release();
      throw error;
    }
  };
}
