import type { ByteStream } from "../../core/bytes.ts";
import type { Headers } from "../../core/call.ts";
import { type Abortable, Departure } from "../../core/departure.ts";
import type { Log } from "../../core/log.ts";
import { signHop } from "./hop-signature.ts";

/** A request to another relay, as HTTP/1.1 carries it. Times in milliseconds; 0 waits without end. */
export interface NeighbourRequest {
  readonly method: "GET" | "POST" | "DELETE";
  readonly path: string;
  readonly headers: Headers;
  readonly body: Buffer | ByteStream | null;
  readonly length?: number | undefined;
  readonly signal: Abortable;
  readonly firstByteTimeout: number;
  readonly idleTimeout: number;
}

export interface NeighbourReply {
  readonly status: number;
  readonly headers: Headers;
  readonly body: ByteStream;
}

/** Keeps connections to one relay. What `send` throws has the fields of `NeighbourFailure`. */
export interface NeighbourClient {
  send(request: NeighbourRequest): Promise<NeighbourReply>;
  close(): Promise<void>;
}

/** `refused`: nothing was sent. `stale`: a kept connection was closed before the request could be seen. */
export interface NeighbourFailure extends Error {
  readonly failure: "refused" | "broken" | "timeout" | "aborted";
  readonly stale: boolean;
}

export interface NeighbourSettings {
  /** Its id, and where it takes calls. */
  readonly relay: string;
  readonly url: string;
  readonly secret: Buffer;
  readonly client: NeighbourClient;
  readonly log: Log;
  /** It can be reached again, or not any more; `gone`: nobody listens there. */
  readonly onTurn: (neighbour: Neighbour, gone: boolean) => void;
}

/** Where a relay answers that it is there. */
export const pingPath = "/.lair/ping";
/** Milliseconds between two pings while calls are under way there, or it cannot be reached; and for an answer. */
const pingInterval = 4000;
const pingDeadline = 5000;

/**
 * Another relay. While calls are under way there, it has to give signs of life: a connection whose other end has
 * vanished would keep them waiting for ever. While it cannot be reached, no call is tried, and it is asked now and then.
 */
export class Neighbour {
  readonly relay: string;
  readonly url: string;
  /** Whether calls may be sent to it. */
  up = true;
  readonly #settings: NeighbourSettings;
  readonly #calls = new Set<Departure>();
  #timer: NodeJS.Timeout | undefined;
  #retired = false;
  #closed = false;

  constructor(settings: NeighbourSettings) {
    this.#settings = settings;
    this.relay = settings.relay;
    this.url = settings.url;
  }

  /** The headers that let a request in there. */
  sign(method: string, path: string, session: string): Headers {
    return signHop(this.#settings.secret, { method, path, session, relay: this.relay });
  }

  /** As the client's; tried again where a kept connection proves stale. */
  async send(request: NeighbourRequest & { readonly session: string }): Promise<NeighbourReply> {
    for (;;) {
      const { method, path, session } = request;
      const headers = { ...request.headers, ...this.sign(method, path, session) };
      try {
        return await this.#settings.client.send({ ...request, headers });
      } catch (error) {
        const failure = error as NeighbourFailure;
        if (failure.stale) continue;
        if (failure.failure === "refused") this.#lose(failure.message, failure.message === "ECONNREFUSED");
        throw error;
      }
    }
  }

  /** What is told when the relay is lost; under way until `over`. */
  enter(call: Departure): void {
    this.#calls.add(call);
    this.#watch();
  }

  over(call: Departure): void {
    this.#calls.delete(call);
    if (this.#retired && this.#calls.size === 0) this.close();
  }

  /** It is there, but takes no calls from here. */
  distrust(problem: string): void {
    this.#lose(problem, false);
  }

  /** Nothing new is sent to it; calls that are under way there go on, as long as it gives signs of life. */
  retire(): void {
    this.#retired = true;
    if (this.#calls.size === 0) this.close();
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
    for (const call of this.#calls) call.leave();
    void this.#settings.client.close();
  }

  #watch(): void {
    if (this.#closed || (this.up && this.#calls.size === 0)) this.#timer = undefined;
    else this.#timer ??= setTimeout(() => void this.#ping(), pingInterval).unref();
  }

  async #ping(): Promise<void> {
    const signal = new Departure();
    try {
      const request = { method: "GET", path: pingPath, session: "", headers: {}, body: null, signal } as const;
      const { status, body } = await this.send({ ...request, firstByteTimeout: pingDeadline, idleTimeout: 0 });
      body.cancel();
      if (status === 200) this.#find();
      else this.#lose(`it answers ${status}`, status === 421);
    } catch (error) {
      this.#lose((error as Error).message, false);
    }
    this.#timer = undefined;
    this.#watch();
  }

  #find(): void {
    if (this.up || this.#closed) return;
    this.up = true;
    this.#settings.log.info({ relay: this.url }, "another relay is reached again");
    this.#settings.onTurn(this, false);
  }

  #lose(problem: string, gone: boolean): void {
    if (this.#closed) return;
    const before = this.up;
    this.up = false;
    for (const call of this.#calls) call.leave();
    this.#watch();
    if (!before) return;
    this.#settings.log.warn({ relay: this.url, problem }, "another relay cannot be reached");
    this.#settings.onTurn(this, gone);
  }
}
