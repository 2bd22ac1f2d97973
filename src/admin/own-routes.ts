import type { Handler } from "../core/call.ts";
import { ApiError } from "../core/errors.ts";

/** What one path answers: to GET, or by method. */
export type OwnRoute = Handler | Readonly<Record<string, Handler>>;

/** A server's own answers by path, e.g. `/health`; a path that ends in `/` stands for all that are below it. */
export type OwnRoutes = Readonly<Record<string, OwnRoute>>;

/** The server's own answers; every other call goes on. Throws `method_not_allowed`. */
export function ownRoutes(own: OwnRoutes, next: Handler): Handler {
  const exact = new Map(Object.entries(own).map(([path, route]) => [path, toMethods(route)]));
  const prefixes = [...exact].filter(([path]) => path.endsWith("/"));
  return (call) => {
    const { path } = call;
    const methods = exact.get(path) ?? prefixes.find(([prefix]) => path.startsWith(prefix))?.[1];
    if (methods === undefined) return next(call);
    const handler = methods.get(call.method === "HEAD" ? "GET" : call.method);
    if (handler !== undefined) return handler(call);
    const allow = [...methods.keys()].join(", ");
    throw new ApiError("method_not_allowed", `${path.slice(0, 200)} takes ${allow}, not ${call.method}`, {
      headers: { allow },
    });
  };
}

function toMethods(route: OwnRoute): ReadonlyMap<string, Handler> {
  return new Map(typeof route === "function" ? [["GET", route]] : Object.entries(route));
}
