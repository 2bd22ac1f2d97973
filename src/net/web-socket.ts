import type { Socket } from "node:net";
import { WebSocket, WebSocketServer } from "ws";
import type { Headers } from "../core/call.ts";
import type { Upgrade } from "../core/upgrade.ts";

export type { WebSocket } from "ws";

const settings = {
  perMessageDeflate: false,
  // Milliseconds that a peer gets to answer a goodbye.
  closeTimeout: 10_000,
};

export interface AcceptorSettings {
  /** Bytes of a message at most: a whole one is held before it is told. A longer one ends its connection with code 1009. */
  readonly longestMessage: number;
  /** Go into the answer. */
  readonly headers?: Headers;
  /** What both ends call the protocol inside; absent: none of those that are offered is chosen. */
  readonly protocol?: string;
}

/** Answers a request for a WebSocket, over a socket that is read no more by anybody else; `onRefused` where it is malformed. */
export type Accept = (
  upgrade: Upgrade,
  onOpen: (webSocket: WebSocket) => void,
  onRefused?: (problem: Error) => void,
) => void;

/**
 * Takes requests for a WebSocket, without compression: streams of small messages would pay for it in memory and time
 * for each connection.
 */
export function webSocketAcceptor({ longestMessage, headers = {}, protocol }: AcceptorSettings): Accept {
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}`);
  const handleProtocols = (): string | false => protocol ?? false;
  const server = new WebSocketServer({
    ...settings,
    maxPayload: longestMessage,
    noServer: true,
    clientTracking: false,
    handleProtocols,
  });
  const refusals = new WeakMap<object, (problem: Error) => void>();
  server.on("headers", (written) => written.push(...lines));
  server.on("wsClientError", (problem: Error, socket) => {
    const tell = refusals.get(socket);
    if (tell === undefined) socket.destroy();
    else tell(problem);
  });
  return ({ method, path, headers: asked, socket, head }, onOpen, onRefused) => {
    if (onRefused !== undefined) refusals.set(socket, onRefused);
    const request = { method, url: path, headers: asked };
    server.handleUpgrade(request as Parameters<typeof server.handleUpgrade>[0], socket, head, onOpen);
  };
}

export interface AskSettings {
  readonly url: string;
  readonly headers: Headers;
  readonly protocol: string;
  /** As of the acceptor. */
  readonly longestMessage: number;
}

/** Asks over an open socket for a WebSocket; what comes of it, its events tell. */
export function askWebSocket(socket: Socket, { url, headers, protocol, longestMessage }: AskSettings): WebSocket {
  return new WebSocket(url, [protocol], {
    ...settings,
    maxPayload: longestMessage,
    headers,
    createConnection: () => socket,
    finishRequest: (asking) => {
      // Paused until somebody reads it, or what a server says first would be lost.
      asking.on("socket", () => socket.resume());
      asking.end();
    },
  });
}
