import { afterPoll } from "../core/after-poll.ts";
import { isStream } from "../core/bytes.ts";
import type { Headers } from "../core/call.ts";
import { type Enrolled, Roster } from "../core/roster.ts";
import { HttpResponse, type ResponseHandler } from "../wire/http-response.ts";
import { connect, type Connected, type Origin, toOrigin } from "../net/connect.ts";
import { type Carrier, Exchange, HttpFailure, type HttpReply, type HttpRequest } from "./http-exchange.ts";
import { Upload, type UploadSource } from "./http-upload.ts";

export interface HttpClientOptions {
  /** Scheme, host and port. */
  readonly origin: string;
  /** Milliseconds for TCP, a proxy's CONNECT and TLS together. */
  readonly connectTimeout: number;
  /** URL of an HTTP proxy; user and password in it are sent to it. */
  readonly proxy?: string;
  /** Milliseconds that an idle connection is kept; 4000: uvicorn (vLLM, LMDeploy) closes its own after 5 s. */
  readonly longestIdle?: number;
  /** Sent with every request; names in lower case. Throws `TypeError` for a line break in one. */
  readonly headers?: Headers;
}

/** Idle connections to one origin. */
const mostIdle = 256;

/** Connections to one origin, HTTP/1.1, one request at a time on each. */
export class HttpClient {
  readonly #origin: Origin;
  /** Header lines of every request. */
  readonly #lines: string;
  readonly #options: HttpClientOptions;
  readonly #idle: Connection[] = [];
  readonly #busy = new Roster<Connection>();
  readonly #longestIdle: number;
  #sweeper: NodeJS.Timeout | undefined;

  constructor(options: HttpClientOptions) {
    this.#options = options;
    this.#origin = toOrigin(options.origin);
    this.#longestIdle = options.longestIdle ?? 4000;
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
      const kept = isStream(request.body) ? undefined : this.#takeIdle();
      if (kept !== undefined) kept.run(exchange, this.#encode(request));
      else this.#open(exchange, request);
    });
  }

  /** Cuts every connection. */
  close(): Promise<void> {
    clearInterval(this.#sweeper);
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
      if (!this.#isOld(kept)) {
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
    this.#sweeper ??= setInterval(() => this.#sweep(), Math.min(1000, this.#longestIdle)).unref();
  }

  /** Closes what nobody has used for too long; the oldest stand first. */
  #sweep(): void {
    while (this.#idle[0] !== undefined && this.#isOld(this.#idle[0])) this.#idle.shift()?.destroy();
    if (this.#idle.length > 0) return;
    clearInterval(this.#sweeper);
    this.#sweeper = undefined;
  }

  #isOld(connection: Connection): boolean {
    return performance.now() - connection.idleSince >= this.#longestIdle;
  }

  #drop(connection: Connection): void {
    this.#busy.leave(connection);
    const at = this.#idle.indexOf(connection);
    if (at !== -1) this.#idle.splice(at, 1);
  }

  /** Head and body. Where it can be, one string, which node writes without another buffer. */
  #encode({ method, path, headers, body, encoding, length }: HttpRequest): Encoded {
    let head = `${method} ${path} HTTP/1.1\r\n${this.#lines}${encodeHeaders(headers)}`;
    if (body === null)
      return { head: method === "POST" ? `${head}content-length: 0\r\n\r\n` : `${head}\r\n`, body: null };
    if (isStream(body)) {
      head += length === undefined ? "transfer-encoding: chunked\r\n\r\n" : `content-length: ${length}\r\n\r\n`;
      return { head, body: { body, length } };
    }
    const bytes = typeof body === "string" && encoding === undefined ? Buffer.from(body) : body;
    head += `content-length: ${bytes.length}\r\n\r\n`;
    if (typeof bytes === "string") return { head: head + bytes, body: null };
    return bytes.length > shortBody ? { head, body: bytes } : { head: head + bytes.toString("latin1"), body: null };
  }
}

const shortBody = 8192;

/** A request as it goes out: what `head` does not hold of it is in `body`. */
interface Encoded {
  readonly head: string;
  readonly body: Buffer | UploadSource | null;
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
  #upload: Upload | undefined;
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

  run(exchange: Exchange, { head, body }: Encoded): void {
    const { socket } = this.#connected;
    this.#exchange = exchange;
    this.#response = new HttpResponse(this);
    exchange.carrier = this;
    if (body !== null && !Buffer.isBuffer(body)) this.#upload = this.#toUpload(exchange, body);
    afterPoll(() => {
      if (!Buffer.isBuffer(body)) {
        socket.write(head, "latin1");
        this.#upload?.start();
      } else {
        socket.cork();
        socket.write(head, "latin1");
        socket.write(body);
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
    this.#upload?.stop();
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
    const sent = this.#upload?.over ?? true;
    if (reusable && sent && !socket.destroyed && exchange !== undefined && socket.writableLength === 0) {
      this.#upload = undefined;
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

  #toUpload(exchange: Exchange, source: UploadSource): Upload {
    return new Upload(this.#connected.socket, source, {
      bytes: () => exchange.sent(),
      fail: (error) => {
        this.destroy();
        exchange.fail(new HttpFailure("aborted", error.message, { cause: error }));
      },
    });
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
