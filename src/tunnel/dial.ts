import type { Link } from "./link.ts";

export interface DialOptions {
  /** URL of the relay; a path is where a front has mounted it, e.g. `https://host/lair`. */
  readonly relay: string;
  /** The agent's key; without one, `name` is told instead. */
  readonly key?: string;
  readonly name?: string;
  /** Random, one per process. */
  readonly instance: string;
  readonly version: string;
  readonly transport: "auto" | "upgrade" | "ws";
  /** Milliseconds for everything until the relay has agreed. */
  readonly connectTimeout: number;
  /** URL of an HTTP proxy. */
  readonly proxy?: string;
  /** PEM texts: who is trusted beside the system's authorities, and the agent's own certificate. */
  readonly tls?: { readonly ca?: string; readonly cert?: string; readonly key?: string };
}

export interface Dialled {
  readonly link: Link;
  readonly transport: "upgrade" | "ws";
}

/** The relay itself has answered, with an HTTP status and a reason. */
export class DialRefused extends Error {
  readonly status: number;
  /** Of `ApiError`, e.g. `invalid_api_key`. */
  readonly code: string;
  /** Seconds. */
  readonly retryAfter?: number;

  constructor(status: number, message: string, more: { code?: string; retryAfter?: number } = {}) {
    super(message);
    this.name = "DialRefused";
    this.status = status;
    this.code = more.code ?? "";
    if (more.retryAfter !== undefined) this.retryAfter = more.retryAfter;
  }
}

/** Opens one tunnel connection to a relay. Throws `DialRefused`, else `Error` that says what failed where. */
export function dial(options: DialOptions, signal: AbortSignal): Promise<Dialled> {
  return Promise.reject(new Error(`not built yet: ${options.relay} ${signal.aborted}`));
}
