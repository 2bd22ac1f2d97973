import type { Handler } from "../core/call.ts";

export interface ForwardUpstream {
  /** The one server that is ever asked, e.g. `http://127.0.0.1:18080`; a path is kept, a `/v1` at its end may stand or be missing. */
  readonly url: string;
  /** Sent as `Authorization: Bearer`. */
  readonly key?: string;
  /** URL of an HTTP proxy. */
  readonly proxy?: string;
}

/** In milliseconds; 0 waits without end. */
export interface ForwardLimits {
  readonly connectTimeout: number;
  /** Until the head of a reply. */
  readonly firstByteTimeout: number;
  /** Between two pieces of a reply. */
  readonly idleTimeout: number;
}

export interface Forwarder {
  /** Throws `upstream_unreachable`, `upstream_error`, `upstream_auth_failed` or `upstream_timeout`. */
  readonly handle: Handler;
  close(): Promise<void>;
}

/** Carries calls to one server as they are: path, query and bytes untouched both ways. Throws `TypeError` for a malformed URL. */
export function forwarder(upstream: ForwardUpstream, limits: ForwardLimits): Forwarder {
  return {
    handle: () => Promise.reject(new Error(`not built yet: ${upstream.url} ${limits.connectTimeout}`)),
    close: () => Promise.resolve(),
  };
}
