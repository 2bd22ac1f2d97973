import { afterPoll } from "../core/after-poll.ts";
import type { ByteSink, ByteStream } from "../core/bytes.ts";
import { collect } from "../core/bytes.ts";
import type { Headers } from "../core/call.ts";
import type { Abortable } from "../core/departure.ts";
import { type Enrolled, Roster } from "../core/roster.ts";
import { HttpResponse, type ResponseHandler } from "../wire/http-response.ts";
import { connect, type Connected, type Origin, toOrigin } from "./http-connect.ts";

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
  /** A string is sent as UTF-8, unless `encoding` says that each of its characters is one byte. */
  readonly body: Buffer | string | null;
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

export interface HttpClientOptions {
  /** Scheme, host and port. */
  readonly origin: string;
  /** Milliseconds for TCP, a proxy's CONNECT and TLS together. */
  readonly connectTimeout: number;
  /** URL of an HTTP proxy; user and password in it are sent to it. */
  readonly proxy?: string;
  /** Sent with every request; names in lower case. Throws `TypeError` for a line break in one. */
  readonly headers?: Headers;
}

/** Idle connections are kept this long at most: uvicorn (vLLM, LMDeploy) closes its own after 5 s. */
const longestIdle = 4000;
const mostIdle = 256;

/** Connections to one origin, HTTP/1.1, one request at a time on each. */
export class HttpClient {
  readonly #origin: Origin;
  /** Header lines of every request. */
  readonly #lines: string;
  readonly #options: HttpClientOptions;
  readonly #idle: Connection[] = [];
  readonly #busy = new Roster<Connection>();

  constructor(options: HttpClientOptions) {
    this.#options = options;
    this.#origin = toOrigin(options.origin);
    this.#lines = encodeHeaders({ host: this.#origin.host, ...options.headers });
    for (const value of Object.values(options.headers ?? {})) {
      if (/[\r\n\0]/.test(value)) throw new TypeError("a header's value must not hold a line break");
    }
  }

  /** Resolves with the reply's head, whatever its status; throws `HttpFailure`. */
  send(request: HttpRequest): Promise<HttpReply> {
    return new Promise((resolve, reject) => {
      const exchange = new Exchange(request, resolve, reject);
      if (request.signal.aborted) return exchange.leave();
      const kept = this.#takeIdle();
      if (kept !== undefined) kept.run(exchange, this.#encode(request));
      else this.#open(exchange, request);
    });
  }

  /** Cuts every connection. */
  close(): Promise<void> {
    for (const connection of [...this.#idle, ...this.#busy.list()]) connection.destroy();
    return Promise.resolve();
  }

  #open(exchange: Exchange, request: HttpRequest): void {
    const connecting = connect(this.#origin, this.#options);
    exchange.carrier = connecting;
    connecting.ready.then(
      (connected) => {
        if (exchange.over) return connected.socket.destroy();
        const connection = new Connection(
          connected,
          (ended) => this.#put(ended),
          (gone) => this.#drop(gone),
        );
        this.#busy.enter(connection);
        connection.run(exchange, this.#encode(request));
      },
      (error: NodeJS.ErrnoException) =>
        exchange.fail(new HttpFailure("refused", error.code ?? error.message, { cause: error })),
    );
  }

  #takeIdle(): Connection | undefined {
    for (let kept = this.#idle.pop(); kept !== undefined; kept = this.#idle.pop()) {
      if (performance.now() - kept.idleSince < longestIdle) {
        this.#busy.enter(kept);
        return kept;
      }
      kept.destroy();
    }
    return undefined;
  }

  #put(connection: Connection): void {
    this.#busy.leave(connection);
    this.#idle.push(connection);
    if (this.#idle.length > mostIdle) this.#idle.shift()?.destroy();
  }

  #drop(connection: Connection): void {
    this.#busy.leave(connection);
    const at = this.#idle.indexOf(connection);
    if (at !== -1) this.#idle.splice(at, 1);
  }

  /** Head and body. Where it can be, one string, which node writes without another buffer. */
  #encode({ method, path, headers, body, encoding }: HttpRequest): { head: string; body: Buffer | null } {
    let head = `${method} ${path} HTTP/1.1\r\n${this.#lines}${encodeHeaders(headers)}`;
    if (body === null)
      return { head: method === "POST" ? `${head}content-length: 0\r\n\r\n` : `${head}\r\n`, body: null };
    const bytes = typeof body === "string" && encoding === undefined ? Buffer.from(body) : body;
    head += `content-length: ${bytes.length}\r\n\r\n`;
    if (typeof bytes === "string") return { head: head + bytes, body: null };
    return bytes.length > shortBody ? { head, body: bytes } : { head: head + bytes.toString("latin1"), body: null };
  }
}

const shortBody = 8192;

/** What an exchange runs on: a connection, or the attempt at one. */
interface Carrier {
  pause(): void;
  resume(): void;
  destroy(): void;
}

function encodeHeaders(headers: Headers): string {
  let lines = "";
  for (const name in headers) lines += `${name}: ${headers[name]}\r\n`;
  return lines;
}

/** One connection, for one exchange after another. */
class Connection implements ResponseHandler, Enrolled, Carrier {
  place = -1;
  idleSince = 0;
  readonly #connected: Connected;
  readonly #onIdle: (connection: Connection) => void;
  readonly #onGone: (connection: Connection) => void;
  #exchange: Exchange | undefined;
  #response: HttpResponse | undefined;
  #used = false;

  constructor(
    connected: Connected,
    onIdle: (connection: Connection) => void,
    onGone: (connection: Connection) => void,
  ) {
    this.#connected = connected;
    this.#onIdle = onIdle;
    this.#onGone = onGone;
    connected.onBytes = (bytes) => this.#take(bytes);
    connected.socket.on("error", (error) => this.#ended(error));
    connected.socket.on("end", () => this.#ended(undefined));
    connected.socket.on("close", () => this.#ended(undefined));
  }

  run(exchange: Exchange, request: { head: string; body: Buffer | null }): void {
    const { socket } = this.#connected;
    this.#exchange = exchange;
    this.#response = new HttpResponse(this);
    exchange.carrier = this;
    afterPoll(() => {
      if (request.body === null) socket.write(request.head, "latin1");
      else {
        socket.cork();
        socket.write(request.head, "latin1");
        socket.write(request.body);
        socket.uncork();
      }
    });
  }

  pause(): void {
    this.#connected.socket.pause();
  }

  resume(): void {
    this.#connected.socket.resume();
  }

  destroy(): void {
    this.#exchange = undefined;
    this.#connected.socket.destroy();
    this.#onGone(this);
  }

  onHead(status: number, headers: Headers): void {
    this.#exchange?.begin(status, headers);
  }

  onBody(piece: Buffer): void {
    this.#exchange?.take(piece);
  }

  onEnd(reusable: boolean): void {
    const exchange = this.#exchange;
    this.#exchange = undefined;
    this.#response = undefined;
    const { socket } = this.#connected;
    if (reusable && !socket.destroyed && exchange !== undefined && socket.writableLength === 0) {
      this.#used = true;
      this.idleSince = performance.now();
      // A paused socket would hang the next request.
      socket.resume();
      this.#onIdle(this);
    } else this.destroy();
    exchange?.end();
  }

  onBroken(message: string): void {
    const exchange = this.#exchange;
    this.destroy();
    exchange?.fail(new HttpFailure("broken", `this is no valid HTTP response: ${message}`));
  }

  #take(bytes: Buffer): void {
    if (this.#response === undefined) this.destroy();
    else this.#response.push(bytes);
  }

  #ended(error: NodeJS.ErrnoException | undefined): void {
    const exchange = this.#exchange;
    const response = this.#response;
    if (exchange === undefined || response === undefined) return this.destroy();
    if (error === undefined && !response.untouched) return response.close();
    const stale = this.#used && response.untouched;
    this.destroy();
    exchange.fail(new HttpFailure("broken", error?.code ?? "closed without an answer", { cause: error, stale }));
  }
}

/** One request and its reply: head, body and its reader in one object, for on the proxy path every object counts. */
class Exchange implements HttpReply, ByteStream {
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
