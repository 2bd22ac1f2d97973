import type { Link, LinkHandler } from "../../src/tunnel/links/link.ts";

/** Bytes that may be under way in one direction before `write` answers false, as in a socket. */
const room = 64 * 1024;

/** Two ends of one connection in memory: what one writes, the other is told in later turns of the loop, in order. */
export function linkPair(): [Link, Link] {
  const one = new MemoryLink();
  const other = new MemoryLink();
  one.peer = other;
  other.peer = one;
  return [one, other];
}

class MemoryLink implements Link {
  readonly remoteAddress = "127.0.0.1";
  /** Each piece is copied. */
  readonly idle = true;
  peer!: MemoryLink;
  #handler: LinkHandler | undefined;
  /** What the peer has written and this end was not told yet. */
  readonly #inbox: Buffer[] = [];
  #inboxSize = 0;
  #peerEnded = false;
  #paused = false;
  #closed = false;
  #ended = false;
  #owesDrain = false;
  #woken = false;

  start(handler: LinkHandler): void {
    if (this.#handler !== undefined) throw new Error("start was called before");
    this.#handler = handler;
    if (this.#closed) setImmediate(() => handler.onClose(undefined));
    else this.#wake();
  }

  write(bytes: Buffer): boolean {
    if (this.#closed || this.#ended || bytes.length === 0) return true;
    // Copied: a real link's bytes are in the kernel when the writer reuses its buffer.
    const room = this.peer.take(Buffer.from(bytes));
    if (!room) this.#owesDrain = true;
    return room;
  }

  pause(): void {
    this.#paused = true;
  }

  resume(): void {
    this.#paused = false;
    this.#wake();
  }

  end(): void {
    if (this.#ended || this.#closed) return;
    this.#ended = true;
    this.peer.leave();
  }

  destroy(): void {
    if (this.#closed) return;
    this.#ended = true;
    this.#close();
    this.peer.lose();
  }

  /** The peer has written. */
  take(bytes: Buffer): boolean {
    if (this.#closed) return true;
    this.#inbox.push(bytes);
    this.#inboxSize += bytes.length;
    this.#wake();
    return this.#inboxSize < room;
  }

  /** The peer has ended after all that it wrote. */
  leave(): void {
    this.#peerEnded = true;
    this.#wake();
  }

  /** The peer was destroyed: what it wrote before may still be read, as from a kernel's buffer, unless this end waits. */
  lose(): void {
    this.#peerEnded = true;
    if (this.#paused) this.#paused = false;
    this.#wake();
  }

  #wake(): void {
    if (this.#woken) return;
    this.#woken = true;
    setImmediate(() => {
      this.#woken = false;
      this.#deliver();
    });
  }

  #deliver(): void {
    if (this.#handler === undefined) return;
    while (!this.#paused && !this.#closed) {
      const bytes = this.#inbox.shift();
      if (bytes === undefined) break;
      this.#inboxSize -= bytes.length;
      this.#handler.onBytes(bytes);
    }
    if (this.#inboxSize < room) this.peer.drained();
    if (this.#peerEnded && this.#inbox.length === 0 && !this.#closed) {
      this.#close();
      this.peer.lose();
    }
  }

  drained(): void {
    if (!this.#owesDrain || this.#closed) return;
    this.#owesDrain = false;
    setImmediate(() => {
      if (!this.#closed) this.#handler?.onDrain();
    });
  }

  #close(): void {
    this.#closed = true;
    this.#inbox.length = 0;
    setImmediate(() => this.#handler?.onClose(undefined));
  }
}
