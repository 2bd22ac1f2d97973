import type { Socket } from "node:net";
import type { Link, LinkHandler } from "./link.ts";

/** A TCP or TLS socket as a link; `head` is what was read from it already. */
export function socketLink(socket: Socket, head?: Buffer): Link {
  return new SocketLink(socket, head ?? Buffer.alloc(0));
}

/** Makes a socket one that small messages pass at once, and that is found out when its peer has gone in silence. */
export function prepareSocket(socket: Socket): void {
  socket.setTimeout(0);
  socket.setNoDelay(true);
  socket.setKeepAlive(true, keepAliveDelay);
}

/** Milliseconds after which the kernel asks a silent peer: home routers forget idle connections after minutes. */
const keepAliveDelay = 15_000;
/** Bytes not yet in the kernel's hands from which a writer has to wait. Node's own mark, 16 KB, would be met by every other write. */
const longestQueue = 64 * 1024;
/** Milliseconds that a peer gets to read all and to close. */
const longestGoodbye = 10_000;

class SocketLink implements Link {
  readonly remoteAddress: string;
  readonly #socket: Socket;
  #head: Buffer;
  #handler: LinkHandler | undefined;
  #paused = false;
  #owesDrain = false;
  #error: Error | undefined;
  #ended = false;
  #goodbye: NodeJS.Timeout | undefined;
  #closed = false;

  constructor(socket: Socket, head: Buffer) {
    this.#socket = socket;
    this.#head = head;
    this.remoteAddress = socket.remoteAddress ?? "";
    socket.pause();
    prepareSocket(socket);
    socket.on("data", (bytes: Buffer) => this.#take(bytes));
    socket.on("error", (error) => (this.#error ??= error));
    socket.on("close", () => this.#close());
    // Sockets of node's HTTP server stay half open. A peer that sends nothing more is gone, else only a ping would tell.
    socket.on("end", () => socket.destroy());
    socket.on("drain", () => this.#drain());
    // Closed before we came: no event follows.
    if (socket.closed) this.#close();
  }

  /** What TLS keeps of a piece is its own affair, and not asked for. */
  get idle(): boolean {
    return this.#socket.writableLength === 0 && !("encrypted" in this.#socket);
  }

  start(handler: LinkHandler): void {
    if (this.#handler !== undefined) throw new Error("a link is started once");
    this.#handler = handler;
    setImmediate(() => this.#begin());
  }

  write(bytes: Buffer): boolean {
    if (!this.#socket.writable) return true;
    this.#socket.write(bytes);
    if (this.#socket.writableLength < longestQueue) return true;
    this.#owesDrain = true;
    return false;
  }

  pause(): void {
    if (this.#ended) return;
    this.#paused = true;
    this.#socket.pause();
  }

  resume(): void {
    if (!this.#paused) return;
    this.#paused = false;
    if (this.#handler !== undefined) setImmediate(() => this.#flow());
  }

  /**
   * Not by `destroySoon`: node 20 to 24 tell "finish" of a TLS socket while most of what was written is still to be
   * encrypted, and the rest would be lost. The peer closes when it has everything.
   */
  end(): void {
    if (this.#ended || this.#closed) return;
    this.#ended = true;
    this.#socket.end();
    // To see the peer go, what it still sends is read, and dropped.
    this.#socket.resume();
    this.#goodbye = setTimeout(() => this.#socket.destroy(), longestGoodbye).unref();
  }

  destroy(): void {
    this.#socket.destroy();
  }

  #begin(): void {
    if (this.#closed) return this.#handler?.onClose(this.#error);
    this.#flow();
  }

  #flow(): void {
    const head = this.#head;
    if (this.#paused || this.#closed) return;
    this.#head = Buffer.alloc(0);
    if (head.length > 0) this.#take(head);
    // Who has read the head may want no more.
    if (!this.#paused) this.#socket.resume();
  }

  /** Whatever a handler throws ends its own connection, not the process with all others. */
  #take(bytes: Buffer): void {
    if (this.#ended) return;
    try {
      this.#handler?.onBytes(bytes);
    } catch (error) {
      this.#error ??= error as Error;
      this.#socket.destroy();
    }
  }

  #drain(): void {
    if (!this.#owesDrain || this.#closed) return;
    this.#owesDrain = false;
    this.#handler?.onDrain();
  }

  #close(): void {
    if (this.#closed) return;
    this.#closed = true;
    clearTimeout(this.#goodbye);
    this.#handler?.onClose(this.#error);
  }
}
