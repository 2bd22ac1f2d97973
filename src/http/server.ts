import { createServer, IncomingMessage, type Server, type ServerResponse } from "node:http";
import { createServer as createTlsServer, type Server as TlsServer } from "node:https";
import type { AddressInfo, Socket } from "node:net";
import { afterPoll } from "../core/after-poll.ts";
import { type ByteSink, type ByteStream, isStream } from "../core/bytes.ts";
import { Call, errorReply, type Handler, type Headers, type Reply, toCallId } from "../core/call.ts";
import { Departure } from "../core/departure.ts";
import { type ApiError, toApiError } from "../core/errors.ts";
import type { Log } from "../core/log.ts";
import type { Outcome } from "../core/outcome.ts";
import { type Enrolled, Roster } from "../core/roster.ts";
import { offersWebSocket, type Upgrade, type UpgradeTakers } from "../core/upgrade.ts";
import { refuse } from "./client-error.ts";
import { closeServer } from "./close-server.ts";
import { framingProblem } from "./framing.ts";
import { RequestBody } from "./request-body.ts";
import { type ServerTls, toTlsSettings } from "./server-tls.ts";

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
  /** Take requests that ask for another protocol. All others get their answer as the plain requests that they are too. */
  readonly upgrades?: UpgradeTakers;
  /** Speaks TLS instead of plain text. */
  readonly tls?: ServerTls;
}

export interface RunningServer {
  readonly host: string;
  readonly port: number;
  /** Takes another certificate for the connections from now on. Throws `Error` when it is none, and keeps the old one. */
  renewTls(cert: string, key: string): void;
  /**
   * Stops accepting, lets calls under way finish for at most `grace` milliseconds, then cuts them. Connections that
   * were given to `upgrades` are not waited for, nor cut.
   */
  close(grace: number): Promise<void>;
}

/** Starts to listen. Throws node's error (`EADDRINUSE`, `EACCES`, `EADDRNOTAVAIL` …) when it cannot, `Error` for a bad certificate. */
export async function listen(options: ServerOptions): Promise<RunningServer> {
  const exchanges: Exchanges = { roster: new Roster<Exchange>(), closing: false };
  const upgraded = new Set<Socket>();
  const server = create(options);
  const serve = (request: IncomingMessage, response: ServerResponse): void =>
    new Exchange(request, response, options, exchanges).run();
  server.on("request", serve);
  // Without this, an expectation that is not 100-continue would be answered by node with an empty 417.
  server.on("checkExpectation", serve);
  server.on("clientError", refuse);
  const connected = new Set<Socket>();
  server.on("connection", (socket: Socket) => {
    connected.add(socket);
    socket.on("close", () => connected.delete(socket));
  });
  const { upgrades } = options;
  if (upgrades !== undefined)
    server.on("upgrade", (request: IncomingMessage, socket: Socket, head: Buffer) => {
      const take = upgrades.get(pathOf(request.url ?? ""))?.take;
      // An answer under way and the taker's would share the connection.
      const shared = exchanges.roster.list().some((exchange) => exchange.answersOn(socket));
      if (take === undefined || shared) return socket.destroy();
      upgraded.add(socket);
      socket.on("close", () => upgraded.delete(socket));
      return take(toUpgrade(request, socket, head));
    });
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(options.port, options.host, () => {
      server.removeListener("error", reject);
      server.on("error", (error) => options.log.error({ error: String(error) }, "the server's socket failed"));
      const { address: host, port } = server.address() as AddressInfo;
      resolve({
        host,
        port,
        renewTls: (cert, key) => {
          if (options.tls !== undefined)
            (server as TlsServer).setSecureContext(toTlsSettings({ ...options.tls, cert, key }));
        },
        close: (grace) => closeServer({ server, exchanges, connected, upgraded }, grace),
      });
    });
  });
}

function create(options: ServerOptions): Server | TlsServer {
  const settings = {
    maxHeaderSize: options.headerLimit,
    headersTimeout: options.headersTimeout,
    requestTimeout: options.requestTimeout,
    keepAliveTimeout: options.keepAliveTimeout,
    // Node looks every 30 s by itself, which would make of any shorter limit one of 30 s.
    connectionsCheckingInterval: Math.min(2000, options.headersTimeout || 2000),
    ...(options.upgrades === undefined ? {} : { IncomingMessage: upgradableBy(options.upgrades) }),
  };
  if (options.tls === undefined) return createServer(settings);
  return createTlsServer({ ...settings, ...toTlsSettings(options.tls), handshakeTimeout: options.headersTimeout });
}

/**
 * Requests that only ask for another protocol where one can be had. To a server that listens for "upgrade", node 20 and
 * 22 hand every request that offers any (`curl --http2` offers h2c with each), and nothing can undo it
 * (`shouldUpgradeCallback` came with 24.9); but they read here whether it does.
 */
function upgradableBy(takers: UpgradeTakers): typeof IncomingMessage {
  return class extends IncomingMessage {
    // No initial value: node's constructor sets it by the accessor below, before fields of this class would exist.
    declare private offers: boolean | null;

    get upgrade(): boolean {
      return this.offers === true && (this.method === "CONNECT" || isTaken(this, takers));
    }

    set upgrade(offers: boolean | null) {
      this.offers = offers;
    }
  };
}

function isTaken({ method, url = "", headers }: IncomingMessage, takers: UpgradeTakers): boolean {
  const taker = takers.get(pathOf(url));
  if (taker === undefined) return false;
  return taker.takes === "everything" || offersWebSocket(method ?? "", headers.upgrade);
}

function toUpgrade(request: IncomingMessage, socket: Socket, head: Buffer): Upgrade {
  const url = request.url ?? "/";
  const path = pathOf(url);
  const { method = "GET", httpVersion, rawHeaders } = request;
  const headers = request.headers as Headers;
  return { method, path, search: url.slice(path.length), httpVersion, headers, rawHeaders, socket, head };
}

function pathOf(url: string): string {
  const mark = url.indexOf("?");
  return mark === -1 ? url : url.slice(0, mark);
}

/** What is under way. */
interface Exchanges {
  readonly roster: Roster<Exchange>;
  /** Whether each answer is its connection's last, or clients that always have another request would hold us. */
  closing: boolean;
}

/** Pieces of a body that may wait for the end of a turn; a producer of more has to. */
const mostPieces = 64;

/** One request and its reply on node's objects. Is the sink of the reply's body. */
class Exchange implements ByteSink, Enrolled {
  place = -1;
  readonly #request: IncomingMessage;
  readonly #response: ServerResponse;
  readonly #options: ServerOptions;
  readonly #exchanges: Exchanges;
  readonly #departure = new Departure();
  readonly #began = performance.now();
  readonly #call: Call;
  #body: ByteStream | undefined;
  #firstByte = 0;
  #bytes = 0;
  #pieces: (Uint8Array | string)[] = [];
  #problem: Error | undefined;
  #stall: NodeJS.Timeout | undefined;

  constructor(request: IncomingMessage, response: ServerResponse, options: ServerOptions, exchanges: Exchanges) {
    this.#request = request;
    this.#response = response;
    this.#options = options;
    this.#exchanges = exchanges;
    this.#call = toCall(request, this.#departure, options.bodyLimit);
  }

  run(): void {
    this.#exchanges.roster.enter(this);
    this.#response.on("close", () => this.#closed());
    const problem = framingProblem(this.#request.rawHeaders, this.#call, this.#options.bodyLimit);
    const reply = problem === undefined ? this.#options.handler(this.#call) : Promise.resolve(lastReply(problem));
    reply.then(
      (ready) => afterPoll(() => this.#send(ready)),
      (error: unknown) => {
        this.#options.log.error({ id: this.#call.id, error: String(error) }, "a failure passed every handler");
        this.#send(lastReply(toApiError(error)));
      },
    );
  }

  abort(): void {
    this.#departure.leave();
  }

  answersOn(socket: Socket): boolean {
    return this.#request.socket === socket && !this.#response.writableEnded;
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

  /** Cut, not ended: the client must not take what it has for the whole. What was pushed before still reaches it. */
  fail(error: Error): void {
    this.#problem = error;
    this.#flush();
    const response = this.#response;
    if (this.#bytes === 0 || response.destroyed || response.writableNeedDrain) return this.#cut();
    this.#stall ??= setTimeout(() => this.#cut(), this.#options.stallTimeout);
    // Node holds a turn's writes back until its end.
    response.write("", () => this.#cut());
  }

  #cut(): void {
    const { socket } = this.#response;
    // In HTTP/1.0 a body may end with its connection: only a reset tells that this one did not.
    const reset = this.#request.httpVersionMinor === 0 && socket !== null && !("encrypted" in socket);
    if (reset) socket.resetAndDestroy();
    else this.#response.destroy();
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
    const headers: Headers = { ...reply.headers, ...ownHeaders, "x-request-id": this.#call.id };
    // What a front may keep (POST's answers it may not), it would show to callers with another key, or none.
    if (this.#request.method !== "POST") headers["cache-control"] ??= "no-store";
    if (this.#exchanges.closing) headers["connection"] = "close";
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
    this.#exchanges.roster.leave(this);
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

/** Of every reply: no browser shall guess that it is a page. */
const ownHeaders: Headers = { "x-content-type-options": "nosniff" };

function toBytes(piece: Uint8Array | string): Uint8Array {
  return typeof piece === "string" ? Buffer.from(piece) : piece;
}

/** A failure after which the connection cannot be trusted with another request. */
function lastReply(error: ApiError): Reply {
  return errorReply(error, { connection: "close" });
}

function toCall(request: IncomingMessage, signal: Departure, bodyLimit: number): Call {
  const url = request.url ?? "/";
  const path = pathOf(url);
  const hasBody = request.headers["content-length"] !== undefined || request.headers["transfer-encoding"] !== undefined;
  return new Call({
    id: toCallId(request.headers["x-request-id"]),
    method: request.method ?? "GET",
    path,
    search: url.slice(path.length),
    // Repeated headers are joined by node, but for set-cookie, which no request has.
    headers: request.headers as Headers,
    signal,
    body: hasBody ? new RequestBody(request, signal) : null,
    bodyLimit,
    address: request.socket.remoteAddress,
  });
}
