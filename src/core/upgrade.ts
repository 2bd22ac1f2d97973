import type { Socket } from "node:net";
import type { Headers } from "./call.ts";

/** Where a relay takes tunnels. */
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

/** Who takes the requests for a path that ask for another protocol. */
export interface UpgradeTaker {
  /** `everything`: whatever they ask for, to be answered by the taker; `web-sockets`: others stay plain requests. */
  readonly takes: "everything" | "web-sockets";
  readonly take: (upgrade: Upgrade) => void;
}

/** Takers by path, as sent. */
export type UpgradeTakers = ReadonlyMap<string, UpgradeTaker>;

/** Whether a request that offers to change the protocol means a WebSocket. `upgrade`: of its headers. */
export function offersWebSocket(method: string, upgrade: string | undefined): boolean {
  return method === "GET" && upgrade !== undefined && /(?:^|,)\s*websocket\s*(?:,|$)/i.test(upgrade);
}
