import { randomUUID } from "node:crypto";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import { afterPoll } from "../core/after-poll.ts";
import { type ByteSink, type ByteStream, isStream } from "../core/bytes.ts";
import { Call, type Handler, type Headers, type Reply, tooLarge } from "../core/call.ts";
import { Departure } from "../core/departure.ts";
import { ApiError, toApiError } from "../core/errors.ts";
import type { Log } from "../core/log.ts";
import type { Outcome } from "../core/outcome.ts";
import { type Enrolled, Roster } from "../core/roster.ts";

export interface ServerOptions {
  readonly host: string;
  readonly port: number;
  readonly handler: Handler;
  readonly log: Log;
  /** Told of every exchange when it is over. */
  readonly onOutcome?: (call: Call, outcome: Outcome) => void;
  /** Bytes. */
  readonly bodyLimit: number;
  readonly headerLimit: number;
  /** Milliseconds for a request's head, and for all of it. */
  readonly headersTimeout: number;
  readonly requestTimeout: number;
  /** Milliseconds that an idle connection is kept: longer than any front keeps its own, or the front meets a closed one. */
  readonly keepAliveTimeout: number;
  /** Milliseconds that a client may leave a reply unread before its connection is cut. */
  readonly stallTimeout: number;
}

export interface RunningServer {
  readonly host: string;
  readonly port: number;
  /** Stops accepting, lets calls under way finish for at most `grace` milliseconds, then cuts them. */
  close(grace: number): Promise<void>;
}

/** Starts to listen. Throws node's error (`EADDRINUSE`, `EACCES`, `EADDRNOTAVAIL` …) when it cannot. */
export function listen(options: ServerOptions): Promise<RunningServer> {
  const exchanges = new Roster<Exchange>();
  const server = createServer({
    maxHeaderSize: options.headerLimit,
    headersTimeout: options.headersTimeout,
    requestTimeout: options.requestTimeout,
    keepAliveTimeout: options.keepAliveTimeout,
  });
  const serve = (request: IncomingMessage, response: ServerResponse): void =>
    new Exchange(request, response, options, exchanges).run();
  server.on("request", serve);
  // Without this, an expectation that is not 100-continue would be answered by node with an empty 417.
  server.on("checkExpectation", serve);
  server.on("clientError", refuse);
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(options.port, options.host, () => {
      server.removeListener("error", reject);
      server.on("error", (error) => options.log.error({ error: String(error) }, "the server's socket failed"));
      const address = server.address() as AddressInfo;
      resolve({ host: address.address, port: address.port, close: (grace) => close(server, exchanges, grace) });
    });
  });
}

async function close(server: Server, exchanges: Roster<Exchange>, grace: number): Promise<void> {
  const closed = new Promise<void>((resolve) => server.close(() => resolve()));
  server.closeIdleConnections();
  const timer = setTimeout(() => {
    for (const exchange of exchanges.list()) exchange.abort();
    server.closeAllConnections();
  }, grace);
  // A client that keeps its connection open after its last answer must not hold us.
  const sweep = setInterval(() => server.closeIdleConnections(), 100);
  await closed;
  clearTimeout(timer);
  clearInterval(sweep);
}

/** Pieces of a body that may wait for the end of a turn; a producer of more has to. */
const mostPieces = 64;

/** One request and its reply on node's objects. Is the sink of the reply's body. */
class Exchange implements ByteSink, Enrolled {
  place = -1;
  readonly #request: IncomingMessage;
  readonly #response: ServerResponse;
  readonly #options: ServerOptions;
  readonly #exchanges: Roster<Exchange>;
  readonly #departure = new Departure();
  readonly #began = performance.now();
  readonly #call: Call;
  #body: ByteStream | undefined;
  #firstByte = 0;
  #bytes = 0;
  #pieces: (Uint8Array | string)[] = [];
  #problem: Error | undefined;
  #stall: NodeJS.Timeout | undefined;

  constructor(request: IncomingMessage, response: ServerResponse, options: ServerOptions, exchanges: Roster<Exchange>) {
    this.#request = request;
    this.#response = response;
    this.#options = options;
    this.#exchanges = exchanges;
    this.#call = toCall(request, this.#departure, options.bodyLimit);
  }

  run(): void {
    this.#exchanges.enter(this);
    this.#response.on("close", () => this.#closed());
    const problem = framingProblem(this.#request, this.#call, this.#options.bodyLimit);
    const reply = problem === undefined ? this.#options.handler(this.#call) : Promise.resolve(toReply(problem));
    reply.then(
      (ready) => afterPoll(() => this.#send(ready)),
      (error: unknown) => {
        this.#options.log.error({ id: this.#call.id, error: String(error) }, "a failure passed every handler");
        this.#send(toReply(toApiError(error)));
      },
    );
  }

  abort(): void {
    this.#departure.leave();
  }

  write(chunk: Uint8Array | string): boolean {
    if (this.#response.destroyed) return true;
    this.#bytes += typeof chunk === "string" ? Buffer.byteLength(chunk) : chunk.length;
    if (this.#pieces.push(chunk) === 1) afterPoll(() => this.#flush());
    // What waits for the end of this turn is not yet in the kernel's hands, whose word alone counts as room.
    return !this.#response.writableNeedDrain && this.#pieces.length < mostPieces;
  }

  end(problem?: Error): void {
    this.#problem = problem;
    this.#flush();
    this.#response.end();
  }

  /** Cut, not ended: the client must not take what it has for the whole. */
  fail(error: Error): void {
    this.#problem = error;
    this.#flush();
    this.#response.destroy();
  }

  /** What one turn of the event loop has brought, in one piece. */
  #flush(): void {
    const pieces = this.#pieces;
    if (pieces.length === 0 || this.#response.destroyed) return;
    this.#pieces = [];
    const [first] = pieces;
    const room = this.#response.write(pieces.length === 1 ? first : Buffer.concat(pieces.map(toBytes)));
    if (!room)
      this.#stall ??= setTimeout(() => this.fail(new Error("the client does not read")), this.#options.stallTimeout);
    else if (pieces.length >= mostPieces) this.#body?.resume();
  }

  #send(reply: Reply): void {
    const { body } = reply;
    if (this.#response.destroyed) {
      if (isStream(body)) body.cancel();
      return;
    }
    this.#firstByte = performance.now() - this.#began;
    const headers: Headers = { ...reply.headers, "x-request-id": this.#call.id };
    if (!isStream(body)) {
      const { encoding } = reply;
      this.#bytes = body === null ? 0 : encoding === undefined ? Buffer.byteLength(body) : body.length;
      // A 204 must not have one (RFC 9110, 8.6).
      if (reply.status !== 204) headers["content-length"] = String(this.#bytes);
      this.#response.writeHead(reply.status, headers);
      if (body === null || this.#request.method === "HEAD") this.#response.end();
      else this.#sendWhole(body, encoding);
      return;
    }
    this.#response.writeHead(reply.status, headers);
    if (this.#request.method === "HEAD") {
      body.cancel();
      this.#response.end();
      return;
    }
    this.#body = body;
    this.#response.on("drain", () => {
      clearTimeout(this.#stall);
      this.#stall = undefined;
      body.resume();
    });
    body.start(this);
    // Nothing pushed yet: the client learns at least that its request is being worked on.
    if (this.#bytes === 0) this.#response.flushHeaders();
  }

  /**
   * Head and body in one plain write. `end(body)` alone would make it a gathered one, for node adds an empty piece to
   * it, which costs 3 µs.
   */
  #sendWhole(body: Buffer | string, encoding: "latin1" | undefined): void {
    const { socket } = this.#response;
    socket?.cork();
    this.#response.write(body, encoding ?? "utf8");
    socket?.uncork();
    this.#response.end();
  }

  #closed(): void {
    clearTimeout(this.#stall);
    this.#exchanges.leave(this);
    const left = !this.#response.writableFinished;
    // What breaks from here on breaks because the client is gone.
    const problem = this.#problem;
    if (left) {
      this.#departure.leave();
      this.#body?.cancel();
    }
    this.#options.onOutcome?.(this.#call, {
      status: this.#firstByte === 0 && left ? 499 : this.#response.statusCode,
      end: problem !== undefined ? "failed" : left ? "left" : "complete",
      ...(problem === undefined ? {} : { problem: problem.message }),
      firstByte: this.#firstByte,
      duration: performance.now() - this.#began,
      bytes: this.#bytes,
    });
  }
}

function toBytes(piece: Uint8Array | string): Uint8Array {
  return typeof piece === "string" ? Buffer.from(piece) : piece;
}

function toReply(error: ApiError): Reply {
  return {
    status: error.status,
    headers: { "content-type": "application/json", connection: "close", ...error.headers },
    body: JSON.stringify(error.toJson()),
  };
}

function toCall(request: IncomingMessage, signal: Departure, bodyLimit: number): Call {
  const url = request.url ?? "/";
  const mark = url.indexOf("?");
  const hasBody = request.headers["content-length"] !== undefined || request.headers["transfer-encoding"] !== undefined;
  return new Call({
    id: requestId(request.headers["x-request-id"]),
    method: request.method ?? "GET",
    path: mark === -1 ? url : url.slice(0, mark),
    search: mark === -1 ? "" : url.slice(mark),
    // Repeated headers are joined by node, but for set-cookie, which no request has.
    headers: request.headers as Headers,
    signal,
    body: hasBody ? new RequestBody(request, signal) : null,
    bodyLimit,
  });
}

/** The caller's own id if it is a plain one: it goes into logs and replies. */
function requestId(given: string | string[] | undefined): string {
  return typeof given === "string" && /^[A-Za-z0-9._-]{1,64}$/.test(given) ? given : randomUUID();
}

/** What llhttp lets pass although two readers could take it for two different requests; and a body that is too large by its own word. */
function framingProblem(request: IncomingMessage, call: Call, bodyLimit: number): ApiError | undefined {
  let hosts = 0;
  const raw = request.rawHeaders;
  for (let index = 0; index < raw.length; index += 2) {
    const name = raw[index] as string;
    if (name.length === 4 && name.toLowerCase() === "host") hosts++;
  }
  if (hosts > 1) return new ApiError("invalid_request", "the request has more than one Host header");
  const coding = call.headers["transfer-encoding"];
  if (coding !== undefined && coding.toLowerCase() !== "chunked") {
    return new ApiError("invalid_request", "the request's transfer-encoding is not chunked");
  }
  if (!call.path.startsWith("/")) return new ApiError("invalid_request", "the request's target is not a path");
  if (Number(call.headers["content-length"] ?? 0) > bodyLimit) return tooLarge(bodyLimit);
  return undefined;
}

/** The bytes that a client sends. */
class RequestBody implements ByteStream {
  readonly #request: IncomingMessage;
  readonly #departure: Departure;
  #sink: ByteSink | undefined;

  constructor(request: IncomingMessage, departure: Departure) {
    this.#request = request;
    this.#departure = departure;
  }

  start(sink: ByteSink): void {
    this.#sink = sink;
    this.#request.on("data", (chunk: Buffer) => {
      if (this.#sink?.write(chunk) === false) this.#request.pause();
    });
    // The request's own "close" and "error" would tell the same, at a microsecond for each listener.
    const leave = (): void =>
      this.#sink?.fail(new ApiError("client_closed_request", "the client left before its request was complete"));
    this.#departure.addEventListener("abort", leave);
    this.#request.on("end", () => {
      this.#departure.removeEventListener("abort", leave);
      this.#sink?.end();
    });
  }

  resume(): void {
    this.#request.resume();
  }

  /** What still comes is read and dropped, or the client would never come to read our answer. */
  cancel(): void {
    this.#sink = undefined;
    this.#request.resume();
  }
}

/** A request that is no HTTP, or too slow, or too big in its head: node has no reply object for it. */
function refuse(error: NodeJS.ErrnoException, socket: Socket): void {
  if (error.code === "ECONNRESET" || !socket.writable) {
    socket.destroy();
    return;
  }
  const known = toClientError(error.code);
  const body = JSON.stringify(known.toJson());
  socket.end(
    `HTTP/1.1 ${known.status} ${known.code}\r\ncontent-type: application/json\r\ncontent-length: ${Buffer.byteLength(body)}\r\nconnection: close\r\n\r\n${body}`,
  );
}

function toClientError(code: string | undefined): ApiError {
  switch (code) {
    case "HPE_HEADER_OVERFLOW":
      return new ApiError("headers_too_large", "the request's headers are too large");
    case "ERR_HTTP_REQUEST_TIMEOUT":
      return new ApiError("request_timeout", "the request did not arrive in time");
    default:
      return new ApiError("invalid_request", "this is not a valid HTTP/1.1 request");
  }
}
