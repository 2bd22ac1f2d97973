import { type Dispatcher, Pool, ProxyAgent } from "undici";
import { type ByteSink, type ByteStream, collect } from "../core/bytes.ts";
import type { Headers } from "../core/call.ts";

/** Why a request has no reply: `refused` nothing was sent, `broken` the connection ended, `timeout` ours ran out, `aborted` the caller left. */
export type Failure = "refused" | "broken" | "timeout" | "aborted";

export class HttpFailure extends Error {
  readonly failure: Failure;
  constructor(failure: Failure, message: string, cause?: unknown) {
    super(message, { cause });
    this.name = "HttpFailure";
    this.failure = failure;
  }
}

export interface HttpRequest {
  readonly method: "GET" | "POST" | "DELETE";
  /** Path with query. */
  readonly path: string;
  readonly headers: Headers;
  readonly body: Buffer | string | null;
  readonly signal: AbortSignal;
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

export interface HttpClientOptions {
  readonly origin: string;
  /** Milliseconds for TCP and TLS. */
  readonly connectTimeout: number;
  /** URL of an HTTP proxy, CONNECT is used. */
  readonly proxy?: string;
}

/**
 * Connections to one origin. The only door to undici.
 *
 * undici's own header and body timeouts (300 s each) are off: a slow model sends nothing while it reads a long prompt.
 * Idle connections are kept 4 s, for uvicorn closes its own after 5.
 */
export class HttpClient {
  readonly #dispatcher: Dispatcher;
  readonly #origin: string;

  constructor(options: HttpClientOptions) {
    const common = { headersTimeout: 0, bodyTimeout: 0, keepAliveTimeout: 4000, pipelining: 1, allowH2: false };
    const connect = { timeout: options.connectTimeout };
    this.#origin = options.origin;
    this.#dispatcher =
      options.proxy === undefined
        ? new Pool(options.origin, { ...common, connect })
        : new ProxyAgent({ ...common, uri: options.proxy, requestTls: connect, proxyTls: connect });
  }

  /** Resolves with the reply's head, whatever its status; throws `HttpFailure`. */
  send(request: HttpRequest): Promise<HttpReply> {
    return new Promise((resolve, reject) => {
      const exchange = new Exchange(request, resolve, reject);
      if (request.signal.aborted) return exchange.cancel();
      const { method, path, headers, body } = request;
      this.#dispatcher.dispatch({ origin: this.#origin, method, path, headers, body }, exchange);
    });
  }

  async close(): Promise<void> {
    await this.#dispatcher.destroy();
  }
}

/** One request and its reply: undici's handler and the reply's body in one object, for an object more costs more here. */
class Exchange implements HttpReply, ByteStream, Dispatcher.DispatchHandler {
  status = 0;
  headers: Headers = {};
  readonly #request: HttpRequest;
  readonly #resolve: (reply: HttpReply) => void;
  readonly #reject: (error: HttpFailure) => void;
  #controller: Dispatcher.DispatchController | undefined;
  #timer: NodeJS.Timeout | undefined;
  #sink: ByteSink | undefined;
  /** What came before `start`. */
  #early: Buffer[] = [];
  #ended = false;
  #failed: HttpFailure | undefined;
  #settled = false;
  readonly #leave = (): void => this.#break(new HttpFailure("aborted", "the caller left"));

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

  onRequestStart(controller: Dispatcher.DispatchController): void {
    this.#controller = controller;
    if (this.#failed !== undefined) controller.abort(this.#failed);
  }

  onResponseStart(_controller: Dispatcher.DispatchController, status: number, headers: Record<string, string | string[] | undefined>): void {
    if (status < 200) return;
    this.status = status;
    for (const name in headers) {
      const value = headers[name];
      if (value !== undefined) this.headers[name] = typeof value === "string" ? value : value.join(", ");
    }
    clearTimeout(this.#timer);
    this.#arm(this.#request.idleTimeout, "nothing more");
    this.#settled = true;
    this.#resolve(this);
  }

  onResponseData(controller: Dispatcher.DispatchController, chunk: Buffer): void {
    this.#timer?.refresh();
    if (this.#sink === undefined) {
      // A small reply is whole before anybody can have started it; pausing at once would cost it a turn of the loop.
      if (this.#early.push(chunk) >= 4) controller.pause();
    } else if (!this.#sink.write(chunk)) controller.pause();
  }

  onResponseEnd(): void {
    this.#ended = true;
    this.#release();
    this.#sink?.end();
  }

  onResponseError(_controller: Dispatcher.DispatchController | null, error: Error): void {
    this.#fail(this.#failed ?? toFailure(error));
  }

  start(sink: ByteSink): void {
    this.#sink = sink;
    for (const chunk of this.#early) sink.write(chunk);
    this.#early = [];
    if (this.#ended) sink.end();
    else if (this.#failed !== undefined) sink.fail(this.#failed);
    else this.#controller?.resume();
  }

  resume(): void {
    if (!this.#ended) this.#controller?.resume();
  }

  cancel(): void {
    // The sink asked for it, so it is told nothing more.
    this.#sink = undefined;
    this.#break(new HttpFailure("aborted", "the request was given up"));
  }

  bytes(limit: number): Promise<Buffer> {
    if (this.#ended && this.#early.length === 1) return Promise.resolve(this.#early[0] as Buffer);
    return collect(this, limit, () => new HttpFailure("broken", `the reply is longer than ${limit} bytes`));
  }

  #arm(milliseconds: number, what: string): void {
    if (milliseconds <= 0) {
      this.#timer = undefined;
      return;
    }
    this.#timer = setTimeout(() => {
      this.#break(new HttpFailure("timeout", `${what} within ${milliseconds / 1000} s`));
    }, milliseconds);
  }

  /** Ends the connection ourselves. */
  #break(failure: HttpFailure): void {
    if (this.#ended || this.#failed !== undefined) return;
    this.#fail(failure);
    this.#controller?.abort(failure);
  }

  #fail(failure: HttpFailure): void {
    if (this.#ended || this.#failed !== undefined) return;
    this.#failed = failure;
    this.#release();
    if (this.#settled) this.#sink?.fail(failure);
    else this.#reject(failure);
  }

  #release(): void {
    clearTimeout(this.#timer);
    this.#request.signal.removeEventListener("abort", this.#leave);
  }
}

/** Codes with which not a byte of the request can have been taken. */
const refusals = new Set([
  "ECONNREFUSED", "ENOTFOUND", "EAI_AGAIN", "EHOSTUNREACH", "ENETUNREACH", "UND_ERR_CONNECT_TIMEOUT", "ETIMEDOUT",
  "CERT_HAS_EXPIRED", "DEPTH_ZERO_SELF_SIGNED_CERT", "SELF_SIGNED_CERT_IN_CHAIN", "UNABLE_TO_VERIFY_LEAF_SIGNATURE", "ERR_TLS_CERT_ALTNAME_INVALID",
]);

function toFailure(error: Error): HttpFailure {
  const code = "code" in error && typeof error.code === "string" ? error.code : undefined;
  const failure = code !== undefined && refusals.has(code) ? "refused" : "broken";
  return new HttpFailure(failure, code === undefined ? error.message : `${code}`, error);
}
