import type { Handler, Middleware } from "../core/call.ts";

/** The middlewares around the handler, the first outermost; folded once, not per call. */
export function compose(middlewares: readonly Middleware[], handler: Handler): Handler {
  return middlewares.reduceRight<Handler>((next, middleware) => (call) => middleware(call, next), handler);
}
