import type { Call, Handler, Headers, Middleware, Reply } from "../core/call.ts";
import { ApiError } from "../core/errors.ts";
import { cameThroughFront } from "../core/fronts.ts";
import { isLoopback } from "../core/host-url.ts";

export interface GuardSettings {
  /** The address listened on. */
  readonly listenHost: string;
  /** Further names by which this server may be addressed. */
  readonly hosts: readonly string[];
  /** Origins of web pages that may call, beside those of this machine; `*` any. */
  readonly origins: readonly string[];
}

/**
 * Lets pages of allowed origins read the answers, errors too, and tells browsers that ask beforehand. Stands outside
 * of `errors`; what refuses is `guard`.
 */
export function cors(settings: GuardSettings): Middleware {
  return async (call, next: Handler) => {
    const { origin } = call.headers;
    if (origin === undefined) return next(call);
    const allowed = isAllowed(origin, call.headers.host ?? "", settings.origins);
    if (call.method === "OPTIONS" && call.headers["access-control-request-method"] !== undefined)
      return preflight(call, origin, allowed);
    const reply = await next(call);
    return allowed ? { ...reply, headers: { ...reply.headers, ...corsHeaders(origin) } } : reply;
  };
}

/**
 * What protects a server without a key from the web pages that its user visits: names that a page's owner could have
 * pointed here are refused (DNS rebinding), pages of other origins get no answer, and a POST must say that it is JSON,
 * which a page cannot do without asking first (CSRF).
 */
export function guard(settings: GuardSettings): Middleware {
  const refused = hostCheck(settings);
  // Callers hardly ever change the name by which they call.
  let accepted: string | undefined;
  return (call, next: Handler) => {
    const { origin, host = "" } = call.headers;
    if (host !== accepted) {
      const refusal = refused(host);
      if (refusal !== undefined) throw refusal;
      accepted = host;
    }
    if (origin !== undefined && !isAllowed(origin, host, settings.origins)) {
      throw new ApiError(
        "forbidden_origin",
        `pages of ${origin.slice(0, 200)} may not call this server; cors.origins in the configuration allows an origin`,
      );
    }
    checkContentType(call);
    return next(call);
  };
}

/** Why a server that listens on this machine only may not be called by the name in the Host header; undefined when it may. */
export function hostCheck({ listenHost, hosts }: GuardSettings): (host: string) => ApiError | undefined {
  if (!isLoopback(listenHost)) return () => undefined;
  const names = new Set(hosts.map((name) => name.toLowerCase()));
  return (host) => {
    const name = host.replace(/:\d+$/, "").toLowerCase();
    if (isLoopback(name) || names.has(name)) return undefined;
    return new ApiError(
      "forbidden_host",
      `this server listens on this machine only and is not known as ${name.slice(0, 200)}; hosts in the configuration adds a name`,
    );
  };
}

/**
 * For a server of this machine that asks nobody for a key: through a front everybody looks like this machine, so what
 * came through one is refused.
 */
export const withoutFront: Middleware = (call, next: Handler) => {
  if (!cameThroughFront(call.headers)) return next(call);
  throw new ApiError(
    "forbidden_host",
    "this server asks nobody for a key, and so is for its own machine only, but the call came through a proxy; set keys for callers: LLM_V1_PROXY_TOKEN",
  );
};

function checkContentType(call: Call): void {
  if (call.method !== "POST" || call.headers["content-type"] === "application/json") return;
  const type = (call.headers["content-type"] ?? "").split(";", 1)[0]?.trim().toLowerCase();
  const isEmpty = call.body === null || call.headers["content-length"] === "0";
  if (type === "application/json" || (isEmpty && type === "")) return;
  throw new ApiError(
    "unsupported_media_type",
    `the body must be sent as content-type application/json, not ${type === "" ? "without one" : type?.slice(0, 100)}`,
  );
}

function isAllowed(origin: string, host: string, origins: readonly string[]): boolean {
  if (origins.includes("*") || origins.includes(origin)) return true;
  const name = /^https?:\/\/([^/]+)$/.exec(origin)?.[1];
  return name !== undefined && (name === host || isLoopback(name.replace(/:\d+$/, "")));
}

function preflight(call: Call, origin: string, allowed: boolean): Reply {
  if (!allowed) return { status: 403, headers: { vary: "origin" }, body: null };
  const asked = call.headers["access-control-request-headers"];
  return {
    status: 204,
    headers: {
      ...corsHeaders(origin),
      "access-control-allow-methods": "GET, POST, DELETE, OPTIONS",
      ...(asked === undefined ? {} : { "access-control-allow-headers": asked }),
      "access-control-max-age": "600",
    },
    body: null,
  };
}

const limited = ["requests", "tokens"].flatMap((what) =>
  ["limit", "remaining", "reset"].map((word) => `x-ratelimit-${word}-${what}`),
);
/** What pages may read of an answer's head. */
const exposed = ["x-request-id", "retry-after", "x-lair-target", "x-lair-agent", ...limited].join(", ");

function corsHeaders(origin: string): Headers {
  return {
    "access-control-allow-origin": origin,
    "access-control-expose-headers": exposed,
    vary: "origin",
  };
}
