import type { Socket } from "node:net";
import type { Link, LinkHandler } from "./link.ts";

/** A TCP or TLS socket as a link; `head` is what was read from it already. */
export function socketLink(socket: Socket, head?: Buffer): Link {
  return new SocketLink(socket, head);
}

/** NAT tables of home routers forget idle connections after minutes; the kernel asks the peer before. */
const keepAliveDelay = 15_000;

class SocketLink implements Link {
  readonly remoteAddress: string;
  readonly #socket: Socket;
  #head: Buffer | undefined;
  #handler: LinkHandler | undefined;
  #error: Error | undefined;
  #closed = false;
  #paused = false;

  constructor(socket: Socket, head: Buffer | undefined) {
    this.#socket = socket;
    this.#head = head?.length === 0 ? undefined : head;
    this.remoteAddress = socket.remoteAddress ?? "";
    socket.setNoDelay(true);
    socket.setKeepAlive(true, keepAliveDelay);
    socket.setTimeout(0);
    socket.on("error", (error) => (this.#error ??= error));
    socket.on("close", () => this.#close());
    // Sockets of node's HTTP servers stay half open: to a tunnel, a peer that sends nothing more is gone.
    socket.on("end", () => socket.destroy());
  }

  start(handler: LinkHandler): void {
    if (this.#handler !== undefined) throw new Error("start was called before");
    this.#handler = handler;
    setImmediate(() => this.#begin());
  }

  write(bytes: Buffer): boolean {
    return !this.#socket.writable || this.#socket.write(bytes);
  }

  pause(): void {
    this.#paused = true;
    this.#socket.pause();
  }

  resume(): void {
    this.#paused = false;
    if (this.#head !== undefined) setImmediate(() => this.#begin());
    else this.#socket.resume();
  }

  end(): void {
    this.#socket.destroySoon();
  }

  destroy(): void {
    this.#socket.destroy();
  }

  #begin(): void {}

  #close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#handler?.onClose(this.#error);
  }
}
