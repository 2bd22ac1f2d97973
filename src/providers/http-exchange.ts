import { type ByteSink, type ByteStream, collect } from "../core/bytes.ts";
import type { Headers } from "../core/call.ts";
import type { Abortable } from "../core/departure.ts";

/** Why a request has no reply: `refused` nothing was sent, `broken` the connection ended, `timeout` ours ran out, `aborted` the caller left. */
export type Failure = "refused" | "broken" | "timeout" | "aborted";

export class HttpFailure extends Error {
  readonly failure: Failure;
  /** The server had closed a kept connection before it could see the request: nothing is risked by another try. */
  readonly stale: boolean;
  constructor(failure: Failure, message: string, options: { cause?: unknown; stale?: boolean } = {}) {
    super(message, { cause: options.cause });
    this.name = "HttpFailure";
    this.failure = failure;
    this.stale = options.stale ?? false;
  }
}

export interface HttpRequest {
  readonly method: "GET" | "POST" | "DELETE";
  /** Path with query. */
  readonly path: string;
  /** Names in lower case; neither names nor values may hold line breaks. */
  readonly headers: Headers;
  /**
   * A string is sent as UTF-8, unless `encoding` says that each of its characters is one byte. A stream is sent as it
   * comes, on a new connection, for it could not be sent again where a kept one proves stale.
   */
  readonly body: Buffer | string | ByteStream | null;
  /** Bytes of a stream; undefined: sent in chunks. */
  readonly length?: number | undefined;
  readonly encoding?: "latin1" | undefined;
  readonly signal: Abortable;
  /** Milliseconds until the reply's head; 0 waits without end. */
  readonly firstByteTimeout: number;
  /** Milliseconds between two pieces of the body; 0 waits without end. */
  readonly idleTimeout: number;
}

export interface HttpReply {
  readonly status: number;
  readonly headers: Headers;
  readonly body: ByteStream;
  /** The whole body; throws `HttpFailure` when it breaks off or is longer than `limit` bytes. */
  bytes(limit: number): Promise<Buffer>;
}

/** What an exchange runs on: a connection, or the attempt at one. */
export interface Carrier {
  pause(): void;
  resume(): void;
  destroy(): void;
}

/** One request and its reply: head, body and its reader in one object, for on the proxy path every object counts. */
export class Exchange implements HttpReply, ByteStream {
  status = 0;
  headers: Headers = {};
  over = false;
  carrier: Carrier | undefined;
  readonly #request: HttpRequest;
  readonly #resolve: (reply: HttpReply) => void;
  readonly #reject: (error: HttpFailure) => void;
  #sink: ByteSink | undefined;
  /** What came before `start`. */
  #early: Buffer[] = [];
  #failed: HttpFailure | undefined;
  #timer: NodeJS.Timeout | undefined;
  readonly #leave = (): void => this.leave();

  constructor(request: HttpRequest, resolve: (reply: HttpReply) => void, reject: (error: HttpFailure) => void) {
    this.#request = request;
    this.#resolve = resolve;
    this.#reject = reject;
    request.signal.addEventListener("abort", this.#leave);
    this.#arm(request.firstByteTimeout, "no answer");
  }

  get body(): ByteStream {
    return this;
  }

  begin(status: number, headers: Headers): void {
    this.status = status;
    this.headers = headers;
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#resolve(this);
  }

  take(piece: Buffer): void {
    this.#timer?.refresh();
    if (this.#sink === undefined) {
      // Whoever asked has the head and will start soon; more than a few reads are not kept for one who does not.
      if (this.#early.push(piece) >= 4) this.carrier?.pause();
    } else if (!this.#sink.write(piece)) this.carrier?.pause();
  }

  /** Some of the request's body has gone out: who still sends waits for no answer yet. */
  sent(): void {
    this.#timer?.refresh();
  }

  end(): void {
    if (this.over) return;
    this.#release();
    this.#sink?.end();
  }

  fail(failure: HttpFailure): void {
    if (this.over) return;
    this.#failed = failure;
    this.#release();
    if (this.status === 0) this.#reject(failure);
    else this.#sink?.fail(failure);
  }

  leave(): void {
    this.#abort(new HttpFailure("aborted", "the caller left"));
  }

  start(sink: ByteSink): void {
    this.#sink = sink;
    for (const piece of this.#early) sink.write(piece);
    this.#early = [];
    if (this.#failed !== undefined) sink.fail(this.#failed);
    else if (this.over) sink.end();
    else {
      this.#arm(this.#request.idleTimeout, "nothing more");
      this.carrier?.resume();
    }
  }

  resume(): void {
    if (!this.over) this.carrier?.resume();
  }

  cancel(): void {
    // The reader asked for it, so it is told nothing more.
    this.#sink = undefined;
    this.#abort(new HttpFailure("aborted", "the request was given up"));
  }

  bytes(limit: number): Promise<Buffer> {
    if (this.over && this.#failed === undefined && this.#early.length === 1)
      return Promise.resolve(this.#early[0] as Buffer);
    return collect(this, limit, () => new HttpFailure("broken", `the reply is longer than ${limit} bytes`));
  }

  #arm(milliseconds: number, what: string): void {
    if (milliseconds <= 0) return;
    this.#timer = setTimeout(
      () => this.#abort(new HttpFailure("timeout", `${what} within ${milliseconds / 1000} s`)),
      milliseconds,
    );
  }

  #abort(failure: HttpFailure): void {
    if (this.over) return;
    this.fail(failure);
    this.carrier?.destroy();
  }

  #release(): void {
    this.over = true;
    clearTimeout(this.#timer);
    this.#request.signal.removeEventListener("abort", this.#leave);
  }
}
