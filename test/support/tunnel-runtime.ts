import { once } from "node:events";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import type { JsonObject } from "../../src/core/json.ts";

/** One request that has reached the runtime. */
export interface Asked {
  readonly request: IncomingMessage;
  readonly reply: ServerResponse;
  /** The target as it stood in the request line. */
  readonly target: string;
  /** Bytes of the body read so far. */
  readonly received: () => number;
  /** The whole body; reads it unless `unread` was asked for. */
  readonly body: () => Promise<Buffer>;
  /** Settles when the connection goes before the answer's end. */
  readonly left: Promise<void>;
}

/** What to do with a request; without one, it waits for the test to take it by `next`. */
export type Answering = (asked: Asked) => void | Promise<void>;

/** A model card as a runtime lists it. */
function modelCard(id: string, more: JsonObject = {}): JsonObject {
  return { id, object: "model", created: 1, owned_by: "lair", ...more };
}

/**
 * An OpenAI server whose every answer a test gives by hand: it counts, stalls, breaks off. `GET /v1/models` it answers
 * itself.
 */
export class SteeredRuntime {
  readonly asked: Asked[] = [];
  /** What `GET /v1/models` lists; an empty answer of status 500 when undefined. */
  models: JsonObject[] | undefined = [modelCard("demo")];
  answering: Answering | undefined;
  /** Requests other than for the list of models whose answer is not over. */
  open = 0;
  /** Requests whose connection went before the answer's end. */
  aborted = 0;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  readonly #taken = new Set<Asked>();
  readonly #waiting: ((asked: Asked) => void)[] = [];
  #idle: (() => void)[] = [];

  private constructor() {
    this.#server = createServer({ requestTimeout: 0, keepAliveTimeout: 60_000 }, (request, reply) =>
      this.#take(request, reply),
    );
    this.#server.on("connection", (socket) => {
      this.#sockets.add(socket);
      socket.on("close", () => this.#sockets.delete(socket)).on("error", () => undefined);
    });
  }

  static async start(answering?: Answering, port = 0, host = "127.0.0.1"): Promise<SteeredRuntime> {
    const runtime = new SteeredRuntime();
    runtime.answering = answering;
    await once(runtime.#server.listen(port, host), "listening");
    return runtime;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** The next request, or the first that has come already and was not taken yet. */
  next(): Promise<Asked> {
    const asked = this.asked.find((one) => !this.#taken.has(one));
    if (asked === undefined) return new Promise((resolve) => this.#waiting.push(resolve));
    this.#taken.add(asked);
    return Promise.resolve(asked);
  }

  /** As if nobody had asked yet: the next test begins. */
  forget(): void {
    this.answering = undefined;
    this.asked.length = 0;
    this.aborted = 0;
  }

  /** Settles when no answer is under way. */
  idle(): Promise<void> {
    return this.open === 0 ? Promise.resolve() : new Promise((resolve) => this.#idle.push(resolve));
  }

  async close(): Promise<void> {
    const closed = new Promise((resolve) => this.#server.close(resolve));
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }

  #take(request: IncomingMessage, reply: ServerResponse): void {
    if (request.url === "/v1/models") {
      reply.writeHead(this.models === undefined ? 500 : 200, { "content-type": "application/json" });
      reply.end(JSON.stringify({ object: "list", data: this.models ?? [] }));
      return;
    }
    const asked = toAsked(request, reply);
    this.open++;
    reply.on("close", () => {
      if (!reply.writableFinished) this.aborted++;
      if (--this.open > 0) return;
      for (const tell of this.#idle.splice(0)) tell();
    });
    reply.on("error", () => undefined);
    this.asked.push(asked);
    const waiting = this.#waiting.shift();
    if (waiting !== undefined) {
      this.#taken.add(asked);
      waiting(asked);
    }
    void Promise.resolve(this.answering?.(asked)).catch((error: unknown) => reply.destroy(error as Error));
  }
}

function toAsked(request: IncomingMessage, reply: ServerResponse): Asked {
  let received = 0;
  let whole: Promise<Buffer> | undefined;
  const left = new Promise<void>((resolve) => reply.on("close", () => !reply.writableFinished && resolve()));
  const read = async (): Promise<Buffer> => {
    const chunks: Buffer[] = [];
    for await (const chunk of request as AsyncIterable<Buffer>) {
      received += chunk.length;
      chunks.push(chunk);
    }
    return Buffer.concat(chunks);
  };
  return { request, reply, target: request.url ?? "", received: () => received, body: () => (whole ??= read()), left };
}

/** Answers with JSON. */
export function answerJson({ reply }: Asked, status: number, json: JsonObject): void {
  reply.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(json));
}

/** Begins an event stream. */
export function beginStream({ reply }: Asked): void {
  reply.writeHead(200, { "content-type": "text/event-stream" });
  reply.flushHeaders();
}

/** One event of a chat's stream, with this text. */
export function chatEvent(text: string): string {
  const choices = [{ index: 0, delta: { content: text }, finish_reason: null }];
  return `data: ${JSON.stringify({ id: "chatcmpl-1", object: "chat.completion.chunk", created: 1, model: "demo", choices })}\n\n`;
}

/**
 * The manner of a busy runtime: a chat with `"stream": true` says a word every few milliseconds until it has said
 * `max_tokens` of them (none: without end), any other keeps its caller waiting, unless it is given `max_tokens` 0, which
 * is answered at once.
 */
export function busyManner(pace = 20): Answering {
  return async (asked) => {
    const body = JSON.parse((await asked.body()).toString()) as JsonObject;
    const most = typeof body.max_tokens === "number" ? body.max_tokens : Number.POSITIVE_INFINITY;
    if (body.stream !== true) {
      if (most === 0) answerJson(asked, 200, wholeChat("done"));
      return;
    }
    beginStream(asked);
    let said = 0;
    const timer = setInterval(() => {
      if (said++ < most) asked.reply.write(chatEvent(`word${said} `));
      else asked.reply.end("data: [DONE]\n\n");
    }, pace);
    asked.reply.on("close", () => clearInterval(timer));
  };
}

/** A whole answer to a chat. */
export function wholeChat(text: string): JsonObject {
  return {
    id: "chatcmpl-1",
    object: "chat.completion",
    created: 1,
    model: "demo",
    choices: [{ index: 0, message: { role: "assistant", content: text }, finish_reason: "stop" }],
    usage: { prompt_tokens: 1, completion_tokens: 1, total_tokens: 2 },
  };
}
