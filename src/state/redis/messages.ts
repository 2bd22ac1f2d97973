import { type RedisClient, RedisLine } from "./line.ts";

const pingEvery = 2000;

/**
 * What is published, on a connection of its own that is made when the first channel is asked for: Redis allows one that
 * listens nothing else. It is asked for a sign of life every 2 seconds, as a dead one would be silent for ever.
 */
export class RedisMessages {
  readonly #connect: () => RedisClient;
  readonly #onHeard: () => void;
  readonly #listeners = new Map<string, Set<(text: string) => void>>();
  #line: RedisLine | undefined;
  #ready = false;
  #ping: NodeJS.Timeout | undefined;

  /** `onHeard`: told whenever it begins to hear anew. */
  constructor(connect: () => RedisClient, onHeard: () => void) {
    this.#connect = connect;
    this.#onHeard = onHeard;
  }

  subscribe(channel: string, listener: (text: string) => void): () => void {
    const listeners = this.#listeners.get(channel) ?? new Set();
    if (listeners.size === 0) {
      this.#listeners.set(channel, listeners);
      if (this.#line === undefined) this.#start();
      else void this.#hear([channel]);
    }
    listeners.add(listener);
    return () => {
      if (!listeners.delete(listener) || listeners.size > 0 || this.#listeners.get(channel) !== listeners) return;
      this.#listeners.delete(channel);
      if (this.#ready) this.#line?.ask((client) => client.unsubscribe(channel)).catch(() => undefined);
    };
  }

  close(): void {
    clearInterval(this.#ping);
    this.#listeners.clear();
    this.#line?.close();
  }

  #start(): void {
    const client = this.#connect();
    client.on("message", (channel, text) => {
      for (const listener of this.#listeners.get(channel) ?? []) listener(text);
    });
    this.#line = new RedisLine(client, {
      ready: () => {
        this.#ready = true;
        void this.#hear([...this.#listeners.keys()]);
      },
      lost: () => (this.#ready = false),
    });
    this.#ping = setInterval(() => {
      if (this.#ready) this.#line?.ask((connected) => connected.call("PING", [])).catch(() => undefined);
    }, pingEvery).unref();
  }

  async #hear(channels: readonly string[]): Promise<void> {
    if (!this.#ready || channels.length === 0) return;
    try {
      await this.#line?.ask((client) => client.subscribe(...channels));
      this.#onHeard();
    } catch (error) {
      this.#line?.drop(error as Error);
    }
  }
}
