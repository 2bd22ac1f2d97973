import type { Socket } from "node:net";
import type { Headers } from "./call.ts";

/** Where a relay takes tunnels: the one path whose requests to change the protocol are told to `onUpgrade`. */
export const tunnelPath = "/tunnel";

/** A request to change the protocol of its connection. From here on the socket is the taker's: to answer on, and to close. */
export interface Upgrade {
  readonly method: string;
  /** As sent, without query. */
  readonly path: string;
  /** Query with its `?`, or "". */
  readonly search: string;
  /** E.g. `1.1`. */
  readonly httpVersion: string;
  readonly headers: Headers;
  /** Names and values in turn, as sent. */
  readonly rawHeaders: readonly string[];
  /** Paused; nothing listens to it. */
  readonly socket: Socket;
  /** What came behind the request's head. */
  readonly head: Buffer;
}
