import type { Principal } from "../core/access.ts";
import { Call, errorReply, type Handler, type Headers, type Reply, toCallId } from "../core/call.ts";
import { Departure } from "../core/departure.ts";
import { ApiError } from "../core/errors.ts";
import type { Log } from "../core/log.ts";
import type { Outcome } from "../core/outcome.ts";
import type { Upgrade } from "../core/upgrade.ts";
import { type Accept, webSocketAcceptor } from "../net/web-socket.ts";
import { encodeWholeReply } from "../wire/whole-reply.ts";
import { type ConnectionLimits, ResponsesConnection } from "./websocket-connection.ts";
import { TurnMemory } from "./websocket-memory.ts";

/** Where the Responses API takes WebSockets. */
export const responsesPath = "/v1/responses";

export interface ResponsesSocketSettings {
  /** The whole way of a call from outside: each message takes it. */
  readonly handler: Handler;
  /** The same way up to the first that would answer: what it replies with `admitted`, may come in. */
  readonly entrance: Handler;
  readonly onOutcome: (call: Call, outcome: Outcome) => void;
  /** Bytes of a message. */
  readonly bodyLimit: number;
  /** Bytes of responses that connections remember, over all of them. */
  readonly memory: number;
  /** Milliseconds that a client may read nothing. */
  readonly stallTimeout: number;
  readonly log: Log;
  readonly limits?: Partial<ResponsesSocketLimits>;
}

export interface ResponsesSocketLimits extends Omit<ConnectionLimits, "silence"> {
  /** Connections at a time, of all callers and of one. */
  readonly connections: number;
  readonly connectionsOfOne: number;
}

/**
 * 60 minutes are the specification's own. A coding agent opens one for each conversation, and more for those that work
 * for it: 64 are many.
 */
const defaultLimits: ResponsesSocketLimits = {
  lifetime: 60 * 60_000,
  waiting: 16,
  pingInterval: 30_000,
  connections: 1024,
  connectionsOfOne: 64,
};

/** The answer of `entrance` to whoever may come in. */
export const admitted: Reply = { status: 101, headers: {}, body: null };

/** The WebSocket transport of the Responses API (Open Responses 2026-04-24). */
export class ResponsesSockets {
  readonly #settings: ResponsesSocketSettings;
  readonly #limits: ResponsesSocketLimits;
  readonly #memory: TurnMemory;
  readonly #accept: Accept;
  readonly #connections = new Map<ResponsesConnection, string>();
  #closing: (() => void) | undefined;

  constructor(settings: ResponsesSocketSettings) {
    this.#settings = settings;
    this.#limits = { ...defaultLimits, ...settings.limits };
    this.#memory = new TurnMemory(settings.memory);
    this.#accept = webSocketAcceptor({ longestMessage: settings.bodyLimit });
  }

  /** How many connections are open. */
  get size(): number {
    return this.#connections.size;
  }

  /** Answers a request for a WebSocket: with one, or as any refused call. */
  take(upgrade: Upgrade): void {
    this.#take(upgrade).catch((error: unknown) => {
      this.#settings.log.error({ error: String(error) }, "a request for a WebSocket failed");
      upgrade.socket.destroy();
    });
  }

  /** Takes no further connections, lets answers under way finish for at most `grace` milliseconds, then cuts them. */
  async close(grace: number): Promise<void> {
    const gone = new Promise<void>((resolve) => (this.#closing = resolve));
    if (this.size === 0) return;
    for (const connection of this.#connections.keys()) connection.drain();
    const timer = setTimeout(() => {
      for (const connection of this.#connections.keys()) connection.cut();
    }, grace);
    await gone;
    clearTimeout(timer);
  }

  async #take(upgrade: Upgrade): Promise<void> {
    const { socket } = upgrade;
    const began = performance.now();
    const departure = new Departure();
    const leave = (): void => departure.leave();
    socket.on("error", () => undefined);
    socket.on("close", leave);
    const call = toKnock(upgrade, departure);
    let reply = await this.#settings.entrance(call);
    socket.removeListener("close", leave);
    if (reply.status === admitted.status) {
      const problem = this.#problem(call.principal);
      if (problem === undefined) return this.#open(upgrade, call.principal);
      reply = errorReply(problem);
    }
    refuse(upgrade, reply, call.id);
    const duration = performance.now() - began;
    const bytes = typeof reply.body === "string" ? Buffer.byteLength(reply.body) : 0;
    this.#settings.onOutcome(call, { status: reply.status, end: "complete", firstByte: duration, duration, bytes });
  }

  #problem(principal: Principal | undefined): ApiError | undefined {
    const { connections, connectionsOfOne } = this.#limits;
    if (this.#closing !== undefined) return new ApiError("service_unavailable", "this server stops");
    if (this.size >= connections)
      return new ApiError("service_unavailable", "too many WebSockets are open here", { retryAfter: 30 });
    const id = principal?.id ?? "";
    const own = [...this.#connections.values()].filter((one) => one === id).length;
    // Without keys nobody is told apart, and all are this machine's.
    if (id === "" || own < connectionsOfOne) return undefined;
    const message = `this key has ${own} WebSockets open already; close one first`;
    return new ApiError("concurrency_limit", message, { retryAfter: 30 });
  }

  #open(upgrade: Upgrade, principal: Principal | undefined): void {
    const { handler, onOutcome, bodyLimit, stallTimeout } = this.#settings;
    const { socket, search, headers } = upgrade;
    const origin = { search, headers: toCallHeaders(headers), address: socket.remoteAddress };
    const onRefused = ({ message }: Error): void =>
      refuse(
        upgrade,
        errorReply(new ApiError("invalid_request", `this is no request for a WebSocket: ${message}`), version),
      );
    this.#accept(
      upgrade,
      (webSocket) => {
        const connection: ResponsesConnection = new ResponsesConnection(webSocket, {
          handler,
          onOutcome,
          bodyLimit,
          origin,
          memory: this.#memory,
          limits: { ...this.#limits, silence: stallTimeout },
          onClose: () => this.#forget(connection),
        });
        this.#connections.set(connection, principal?.id ?? "");
        if (this.#closing !== undefined) connection.drain();
      },
      onRefused,
    );
  }

  #forget(connection: ResponsesConnection): void {
    this.#connections.delete(connection);
    if (this.size === 0) this.#closing?.();
  }
}

/** RFC 6455, 4.2.2: what a server says to whom it does not understand. */
const version: Headers = { "sec-websocket-version": "13" };

function toKnock({ path, search, headers, socket }: Upgrade, signal: Departure): Call {
  const id = toCallId(headers["x-request-id"]);
  return new Call({ id, method: "GET", path, search, headers, signal, address: socket.remoteAddress });
}

/** Of the upgrade itself; one id would be that of all calls. */
const ofUpgrade: ReadonlySet<string> = new Set(["connection", "upgrade", "content-length", "expect", "x-request-id"]);

/** Each call is one for a body of JSON that the same client might have sent by itself. */
function toCallHeaders(headers: Headers): Headers {
  const kept: Headers = { "content-type": "application/json" };
  for (const name in headers)
    if (!ofUpgrade.has(name) && !name.startsWith("sec-websocket-") && name !== "content-type")
      kept[name] = headers[name] as string;
  return kept;
}

function refuse({ socket }: Upgrade, reply: Reply, id?: string): void {
  const headers = { ...reply.headers, ...(id === undefined ? {} : { "x-request-id": id }) };
  socket.end(encodeWholeReply({ ...reply, headers }, "Refused"), "latin1");
  // What still comes is read: closed with bytes unread, the kernel would take the answer back.
  socket.resume();
}
