import { ApiError, toApiError } from "../core/errors.ts";
import type { WebSocket } from "../net/web-socket.ts";
import { type Create, decodeCreate } from "./websocket-create.ts";
import { encodeConnectionLimit, encodeProblem } from "./websocket-errors.ts";
import type { TurnMemory } from "./websocket-memory.ts";
import { Turn, type TurnEnd, type TurnParts } from "./websocket-turn.ts";

/** Bounds of one connection. */
export interface ConnectionLimits {
  /** Milliseconds after which it ends. */
  readonly lifetime: number;
  /** Messages that may wait for the answer under way. */
  readonly waiting: number;
  /** Milliseconds between two pings. */
  readonly pingInterval: number;
  /** Milliseconds that the client may read nothing, or say nothing, not even to a ping. */
  readonly silence: number;
}

export interface ConnectionParts extends Omit<TurnParts, "send"> {
  readonly memory: TurnMemory;
  readonly limits: ConnectionLimits;
  readonly onClose: () => void;
}

/** Bytes not yet in the kernel's hands from which an answer has to wait. */
const longestQueue = 64 * 1024;

/** Codes of RFC 6455, 7.4.1. */
const closeCodes = { normal: 1000, goingAway: 1001, unsupportedData: 1003, policyViolation: 1008 } as const;

/** One client's WebSocket: its messages are answered one after the other. */
export class ResponsesConnection {
  readonly #webSocket: WebSocket;
  readonly #parts: ConnectionParts;
  readonly #timers: NodeJS.Timeout[];
  #waiting: Buffer[] = [];
  #waitingBytes = 0;
  #isWorking = false;
  /** The answer under way; none while a message that asks for nothing is refused. */
  #turn: Turn | undefined;
  #wake: (() => void) | undefined;
  #heard = performance.now();
  /** Set once: no further message is answered. */
  #ending: "expired" | "drained" | undefined;

  constructor(webSocket: WebSocket, parts: ConnectionParts) {
    const { lifetime, pingInterval } = parts.limits;
    this.#webSocket = webSocket;
    this.#parts = parts;
    this.#timers = [setTimeout(() => this.#expire(), lifetime), setInterval(() => this.#look(), pingInterval)];
    webSocket.on("message", (message, isBinary) => this.#take(message as Buffer, isBinary));
    webSocket.on("pong", () => (this.#heard = performance.now()));
    // A broken frame, or one that is too large: the connection is closed by whoever has found that out.
    webSocket.on("error", () => undefined);
    webSocket.on("close", () => this.#close());
  }

  /** Lets the answer under way finish, and no other begin. */
  drain(): void {
    this.#ending ??= "drained";
    if (!this.#isWorking) this.#leave();
  }

  /** Ends at once. */
  cut(): void {
    this.#webSocket.terminate();
  }

  #take(message: Buffer, isBinary: boolean): void {
    this.#heard = performance.now();
    if (this.#webSocket.readyState !== this.#webSocket.OPEN) return;
    if (isBinary) return this.#webSocket.close(closeCodes.unsupportedData, "messages are text");
    if (this.#ending !== undefined) return;
    const { bodyLimit, limits } = this.#parts;
    const isFull = this.#waiting.length >= limits.waiting || this.#waitingBytes + message.length > bodyLimit;
    if (this.#isWorking && isFull) return this.#refuseFlood();
    this.#waiting.push(message);
    this.#waitingBytes += message.length;
    if (!this.#isWorking) void this.#work();
  }

  /** Whoever sends on without an end is not told so each time. */
  #refuseFlood(): void {
    const error = new ApiError(
      "concurrency_limit",
      `more than ${this.#parts.limits.waiting} messages wait on this connection, which answers one at a time; open another for more`,
    );
    this.#webSocket.send(encodeProblem(error));
    this.#webSocket.close(closeCodes.policyViolation, "too many messages wait");
    this.#turn?.abort();
  }

  async #work(): Promise<void> {
    this.#isWorking = true;
    for (;;) {
      const message = this.#ending === undefined ? this.#waiting.shift() : undefined;
      if (message === undefined) break;
      this.#waitingBytes -= message.length;
      await this.#answer(message);
      this.#turn = undefined;
      if (this.#webSocket.readyState !== this.#webSocket.OPEN) return;
    }
    this.#isWorking = false;
    if (this.#ending !== undefined) this.#leave();
  }

  async #answer(message: Buffer): Promise<void> {
    const { memory } = this.#parts;
    let create: Create;
    try {
      create = decodeCreate(message, (id) => {
        const last = memory.get(this);
        return last?.id === id ? last : undefined;
      });
    } catch (error) {
      return this.#send(encodeProblem(toApiError(error)));
    }
    this.#turn = new Turn({ ...this.#parts, send: (text) => this.#send(text) }, create);
    const end = await this.#turn.run();
    if (this.#webSocket.readyState === this.#webSocket.OPEN) this.#remember(create, end, message.length);
  }

  /** A response that was gone on from without success is given up: the client is to send its whole input anew. */
  #remember({ last, isPrivate, body, input }: Create, end: TurnEnd, sent: number): void {
    const { memory } = this.#parts;
    if (end === undefined) {
      if (last !== undefined) memory.forget(this);
      return;
    }
    // The others are kept where any connection finds them.
    if (!isPrivate) return memory.forget(this);
    const before = typeof body.previous_response_id === "string" ? body.previous_response_id : undefined;
    memory.keep(this, {
      id: end.id,
      before,
      items: [...(last?.items ?? []), ...input, ...end.output],
      bytes: (last?.bytes ?? 0) + sent + end.bytes,
    });
  }

  #send(message: string): Promise<void> {
    const webSocket = this.#webSocket;
    if (webSocket.readyState !== webSocket.OPEN) return Promise.resolve();
    webSocket.send(message, this.#sent);
    return webSocket.bufferedAmount < longestQueue ? Promise.resolve() : this.#untilRoom();
  }

  readonly #sent = (): void => {
    if (this.#webSocket.bufferedAmount > longestQueue / 2) return;
    this.#wake?.();
    this.#wake = undefined;
  };

  async #untilRoom(): Promise<void> {
    const stall = setTimeout(() => this.#webSocket.terminate(), this.#parts.limits.silence);
    await new Promise<void>((resolve) => (this.#wake = resolve));
    clearTimeout(stall);
  }

  /** Homes and fronts forget connections on which nothing goes; a client that is gone in silence is found out. */
  #look(): void {
    if (performance.now() - this.#heard > this.#parts.limits.silence) this.#webSocket.terminate();
    else if (this.#webSocket.readyState === this.#webSocket.OPEN) this.#webSocket.ping();
  }

  #expire(): void {
    this.#ending ??= "expired";
    if (!this.#isWorking) this.#leave();
  }

  #leave(): void {
    if (this.#ending === "drained") return this.#webSocket.close(closeCodes.goingAway, "the server stops");
    const minutes = Math.round(this.#parts.limits.lifetime / 60_000);
    const message = `a connection ends after ${minutes} minutes; open a new one, and send the whole input where nothing was stored`;
    if (this.#webSocket.readyState === this.#webSocket.OPEN) this.#webSocket.send(encodeConnectionLimit(message));
    this.#webSocket.close(closeCodes.normal, "the connection is too old");
  }

  #close(): void {
    for (const timer of this.#timers) clearTimeout(timer);
    this.#waiting = [];
    this.#turn?.abort();
    this.#wake?.();
    this.#parts.memory.forget(this);
    this.#parts.onClose();
  }
}
