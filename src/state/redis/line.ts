/** What is used of a client of Redis. */
export interface RedisClient {
  call(name: string, args: (string | number)[]): Promise<unknown>;
  subscribe(...channels: string[]): Promise<unknown>;
  unsubscribe(...channels: string[]): Promise<unknown>;
  on(event: "ready" | "connect" | "close", listener: () => void): unknown;
  on(event: "error", listener: (error: Error) => void): unknown;
  on(event: "message", listener: (channel: string, text: string) => void): unknown;
  disconnect(): void;
  /** Absent before the first attempt. */
  readonly stream?: { destroy(): unknown; readonly bytesRead?: number; readonly writableLength?: number };
}

export interface LineListener {
  /** It is connected and has said its password. */
  ready(): void;
  /** The connection has ended, or could not be made; another attempt follows by itself. */
  lost(error: Error): void;
}

/** Milliseconds without a word, while something is asked, after which a connection is given up. */
const silence = 1000;

const lookEvery = 250;

/**
 * One connection that comes back by itself, and a watch over it: when the server says nothing for a while, though it was asked,
 * the connection is cut, and with it fails all that was under way. A frozen server and a network that swallows everything are
 * found only so. The client's own time limits do not serve: they know no server that is slow with a large answer.
 */
export class RedisLine {
  readonly #client: RedisClient;
  readonly #watch: NodeJS.Timeout;
  #pending = 0;
  #lastWord = 0;
  #progress = "";
  #patience = silence;
  #error: Error | undefined;
  #greeting = false;
  #closed = false;

  constructor(client: RedisClient, listener: LineListener) {
    this.#client = client;
    client.on("error", (error) => (this.#error = error));
    client.on("connect", () => {
      this.#lastWord = performance.now();
      this.#greeting = true;
    });
    client.on("ready", () => {
      this.#greeting = false;
      listener.ready();
    });
    client.on("close", () => {
      this.#greeting = false;
      const error = this.#error ?? new Error("Connection is closed");
      this.#error = undefined;
      if (!this.#closed) listener.lost(error);
    });
    this.#watch = setInterval(() => this.#look(), lookEvery);
    this.#watch.unref();
  }

  /** Asks something; `patience`: milliseconds for which the server may be at work on it without a word. Rejects with the client's or the server's error. */
  async ask<T>(send: (client: RedisClient) => Promise<T>, patience = silence): Promise<T> {
    if (this.#pending === 0) {
      this.#lastWord = performance.now();
      this.#patience = silence;
    }
    this.#pending += 1;
    this.#patience = Math.max(this.#patience, patience);
    try {
      return await send(this.#client);
    } finally {
      this.#pending -= 1;
      this.#lastWord = performance.now();
    }
  }

  /** Cuts the connection; the next attempt follows. */
  drop(error: Error): void {
    this.#error = error;
    this.#client.stream?.destroy();
  }

  close(): void {
    this.#closed = true;
    clearInterval(this.#watch);
    this.#client.disconnect();
    this.#client.stream?.destroy();
  }

  #look(): void {
    // A long text on its way is no silence.
    const { bytesRead = 0, writableLength = 0 } = this.#client.stream ?? {};
    const progress = `${bytesRead} ${writableLength}`;
    if (progress !== this.#progress) this.#lastWord = performance.now();
    this.#progress = progress;
    if (!this.#isSilent()) return;
    // Where this process was busy, the answer may have come and wait to be read.
    setImmediate(() => {
      if (this.#isSilent() && !this.#closed) this.drop(Object.assign(new Error("silent"), { code: "ETIMEDOUT" }));
    });
  }

  #isSilent(): boolean {
    const waits = this.#pending > 0 || this.#greeting;
    return waits && performance.now() - this.#lastWord > this.#patience;
  }
}
