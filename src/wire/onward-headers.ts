import type { Headers } from "../core/call.ts";

/** How many gateways a call has passed: one that reaches itself again is noticed by it. */
export const hopsHeader = "x-lair-hops";

/**
 * Request headers that go on to who answers; all others stay where they are, credentials, cookies, addresses and origins
 * among them. Framing (`content-length`) is made anew at each end.
 */
const carried: ReadonlySet<string> = new Set([
  "content-type",
  "accept",
  // Runtimes log it, and some mend their answers for a client.
  "user-agent",
  // One id in the logs of all three programs, and tracing by W3C Trace Context.
  "x-request-id",
  "traceparent",
  "tracestate",
  // Switch features of the two APIs on.
  "openai-beta",
  "anthropic-version",
  "anthropic-beta",
  // By these, clients (opencode, Codex, Claude Code) tell one conversation from another: prefix caches are kept by them.
  "x-session-id",
  "x-session-affinity",
  "session_id",
  "session-id",
  "x-claude-code-session-id",
  // Where a client of an event stream takes it up again.
  "last-event-id",
  hopsHeader,
]);

/** Reply headers that say something of one connection, of its framing, or of an origin that we are not. */
const withheld: ReadonlySet<string> = new Set([
  // RFC 9110, 7.6.1, and framing
  "connection",
  "keep-alive",
  "transfer-encoding",
  "content-length",
  "upgrade",
  "trailer",
  "te",
  "http2-settings",
  // would speak for our whole origin to a browser
  "set-cookie",
  "set-cookie2",
  "strict-transport-security",
  "public-key-pins",
  "alt-svc",
  "alt-used",
  "clear-site-data",
  "service-worker-allowed",
  "nel",
  "report-to",
  "reporting-endpoints",
  "refresh",
  // tell strangers what runs at home, or ask callers for credentials of the runtime's
  "server",
  "via",
  "x-powered-by",
  "www-authenticate",
  "location",
]);

/**
 * `access-control-…` is ours to say; `proxy-…` is between two neighbours, and so is `x-ratelimit-…`: what a server allows
 * us is not what we allow the caller.
 */
const withheldFamily = /^(?:access-control-|proxy-|x-ratelimit-|:)/;
const headerName = /^[!#$%&'*+.^_`|~0-9a-z-]+$/;
/** RFC 9110, 5.5: no control characters, so that no value can end its line. */
const headerValue = /^[\t\x20-\x7e\x80-\xff]*$/;

/** The headers of a request that go on to who answers. Names in lower case; a malformed value is left out. */
export function requestHeaders(headers: Headers): Headers {
  const onward: Headers = {};
  for (const name in headers) {
    if (!carried.has(name)) continue;
    const value = headers[name];
    if (typeof value === "string" && headerValue.test(value)) onward[name] = value;
  }
  return onward;
}

/** The headers of a reply that go back to who asked. Names in lower case; a malformed name or value is left out. */
export function replyHeaders(headers: Headers): Headers {
  const onward: Headers = {};
  const named = nominated(headers["connection"]);
  for (const name in headers) {
    if (withheld.has(name) || withheldFamily.test(name) || named?.includes(name) === true) continue;
    const value = headers[name];
    if (typeof value === "string" && headerName.test(name) && headerValue.test(value)) onward[name] = value;
  }
  return onward;
}

/** The body's length by `content-length`: undefined where nothing is said, `NaN` where that is no plain number. */
export function contentLength(headers: Headers): number | undefined {
  const value = headers["content-length"];
  if (value === undefined) return undefined;
  return /^\d{1,15}$/.test(value) ? Number(value) : Number.NaN;
}

/** What `connection` names belongs to that connection, too. */
function nominated(connection: string | undefined): string[] | undefined {
  if (connection === undefined || connection === "close" || connection === "keep-alive") return undefined;
  return connection.split(",").map((name) => name.trim().toLowerCase());
}

/** How many gateways a call has passed, by its headers; infinite where that is no number. */
export function hopsOf(headers: Headers): number {
  const value = headers[hopsHeader] ?? "0";
  return /^\d{1,4}$/.test(value) ? Number(value) : Number.POSITIVE_INFINITY;
}
