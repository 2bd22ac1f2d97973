import type { Socket } from "node:net";
import type { Headers } from "../../core/call.ts";
import type { Upgrade } from "../../core/upgrade.ts";
import { askWebSocket, type WebSocket, webSocketAcceptor } from "../../net/web-socket.ts";
import { type Answer, longestAnswer } from "../handshake/answer.ts";
import type { Link, LinkHandler } from "./link.ts";
import { prepareSocket } from "./socket-link.ts";

/** What both ends call the protocol inside of the WebSocket. */
export const webSocketProtocol = "lair-tunnel.1";

/** Bytes of a message at most: the receiver holds a whole one before it tells of it. */
const longestMessage = 256 * 1024;
/** Bytes not yet in the kernel's hands from which a writer has to wait. */
const longestQueue = 64 * 1024;

/** Most that the peer may send in a message. */
const longestReceived = 4 * longestMessage;

/**
 * Answers a well formed request for a WebSocket with a link; `headers` go into the answer. What the request must have is
 * the caller's to check: whoever sends another is cut off.
 */
export function linkAcceptor(headers: Headers): (upgrade: Upgrade, onOpen: (link: Link) => void) => void {
  const accept = webSocketAcceptor({ longestMessage: longestReceived, headers, protocol: webSocketProtocol });
  return (upgrade, onOpen) => {
    const { socket } = upgrade;
    prepareSocket(socket);
    accept(upgrade, (webSocket) => onOpen(new WebSocketLink(webSocket, socket.remoteAddress ?? "")));
  };
}

/** Asks over an open socket for a WebSocket. Resolves with the answer when it is another; rejects when there is none, or a broken one. */
export function openWebSocket(
  socket: Socket,
  request: { readonly url: string; readonly headers: Headers },
  signal: AbortSignal,
): Promise<Link | Answer> {
  return new Promise((resolve, reject) => {
    const webSocket = askWebSocket(socket, {
      ...request,
      protocol: webSocketProtocol,
      longestMessage: longestReceived,
    });
    const over = (): void => signal.removeEventListener("abort", give);
    const give = (): void => {
      over();
      reject(signal.reason as Error);
      webSocket.terminate();
      socket.destroy();
    };
    signal.addEventListener("abort", give);
    if (signal.aborted) give();
    webSocket.on("error", (error) => {
      over();
      socket.destroy();
      reject(error);
    });
    webSocket.on("open", () => {
      over();
      prepareSocket(socket);
      resolve(new WebSocketLink(webSocket, socket.remoteAddress ?? ""));
    });
    webSocket.on("unexpected-response", (_request, response) => {
      let body = "";
      const answer = (): void => {
        over();
        resolve({ status: response.statusCode ?? 0, headers: response.headers as Headers, body });
        socket.destroy();
      };
      response.on("data", (bytes: Buffer) => {
        body += bytes.toString("latin1");
        if (body.length > longestAnswer) answer();
      });
      response.on("error", answer);
      response.on("end", answer);
    });
  });
}

/** A WebSocket whose binary messages are a link's bytes. `remoteAddress` is the peer's, of the socket below. */
class WebSocketLink implements Link {
  readonly remoteAddress: string;
  /** A piece may wait in the WebSocket as it is. */
  readonly idle = false;
  readonly #webSocket: WebSocket;
  #handler: LinkHandler | undefined;
  /** What has come while nobody wanted it: the rest of a read that held several messages. */
  #held: Buffer[] = [];
  #paused = false;
  #owesDrain = false;
  #error: Error | undefined;
  #ended = false;
  #closed = false;

  constructor(webSocket: WebSocket, remoteAddress: string) {
    this.#webSocket = webSocket;
    this.remoteAddress = remoteAddress;
    webSocket.pause();
    webSocket.on("message", (message, isBinary) => {
      if (isBinary) this.#take(message as Buffer);
      else this.#fail(new Error("the peer sent text over the tunnel's WebSocket"), 1003);
    });
    webSocket.on("error", (error) => (this.#error ??= error));
    webSocket.on("close", (code) => this.#close(code));
  }

  start(handler: LinkHandler): void {
    if (this.#handler !== undefined) throw new Error("a link is started once");
    this.#handler = handler;
    setImmediate(() => {
      if (this.#closed) handler.onClose(this.#error);
      else this.#flow();
    });
  }

  write(bytes: Buffer): boolean {
    if (this.#webSocket.readyState !== this.#webSocket.OPEN) return true;
    for (let at = 0; at < bytes.length; at += longestMessage)
      this.#webSocket.send(bytes.subarray(at, at + longestMessage), this.#sent);
    if (this.#webSocket.bufferedAmount < longestQueue) return true;
    this.#owesDrain = true;
    return false;
  }

  pause(): void {
    if (this.#ended) return;
    this.#paused = true;
    this.#webSocket.pause();
  }

  resume(): void {
    if (!this.#paused) return;
    this.#paused = false;
    if (this.#handler !== undefined) setImmediate(() => this.#flow());
  }

  end(): void {
    this.#ended = true;
    this.#webSocket.close(1000);
    // A peer's goodbye is not read from a connection that is held back.
    this.#webSocket.resume();
  }

  destroy(): void {
    this.#webSocket.terminate();
  }

  readonly #sent = (): void => {
    if (!this.#owesDrain || this.#closed || this.#webSocket.bufferedAmount > longestQueue / 2) return;
    this.#owesDrain = false;
    this.#handler?.onDrain();
  };

  #take(message: Buffer): void {
    if (this.#ended || this.#error !== undefined || message.length === 0) return;
    if (this.#paused || this.#handler === undefined || this.#held.length > 0) this.#held.push(message);
    else this.#tell(message);
  }

  #flow(): void {
    while (this.#held.length > 0 && !this.#paused && !this.#closed) this.#tell(this.#held.shift() as Buffer);
    if (!this.#paused) this.#webSocket.resume();
  }

  /** Whatever a handler throws ends its own connection, not the process with all others. */
  #tell(message: Buffer): void {
    try {
      this.#handler?.onBytes(message);
    } catch (error) {
      this.#fail(error as Error, 1011);
    }
  }

  #fail(error: Error, code: number): void {
    this.#error ??= error;
    this.#webSocket.close(code);
  }

  #close(code: number): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#held = [];
    // 1000 and 1001 are goodbyes; 1005 and 1006 are none at all, as with any connection that ends.
    if (![1000, 1001, 1005, 1006].includes(code))
      this.#error ??= new Error(`the peer closed the tunnel's WebSocket with code ${code}`);
    if (this.#handler !== undefined) this.#handler.onClose(this.#error);
  }
}
