import { createServer, type IncomingHttpHeaders, type ServerResponse } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import type { Json, JsonObject } from "../../src/core/json.ts";

export interface SpokenCall {
  name: string;
  arguments: JsonObject;
  id?: string;
  /** The arguments' text where it is not that JSON: a model's slip. */
  written?: string;
}

/** One step of what a fake server answers; each fake says it in its own wire format. */
export type Step =
  | { text: string }
  | { reasoning: string }
  | { call: SpokenCall }
  /** The reason in the server's own words; "" and null too. */
  | { finish: string | null; prompt?: number; completion?: number }
  /** Goes on when this settles. */
  | { wait: Promise<unknown> }
  /** A failure in the middle of the stream, in the server's own form. */
  | { error: string }
  /** Bytes as they are, one write. */
  | { raw: string | Uint8Array }
  /** A clean end here, without what the server says at its end. */
  | { end: true }
  /** The connection breaks. */
  | { die: true }
  /** A whole reply of this status; first step only. */
  | { status: number; body?: Json; headers?: Record<string, string> };

/** What to answer to a request; `turn` counts from 0. */
export type Script = Step[] | ((body: JsonObject, turn: number) => Step[]);

export interface FakeRequest {
  readonly method: string;
  readonly path: string;
  readonly headers: IncomingHttpHeaders;
  readonly body: JsonObject;
  /** Settles when the client goes before the answer's end. */
  readonly left: Promise<void>;
}

export interface FakeServer {
  readonly url: string;
  readonly requests: FakeRequest[];
  /** The requests to this path. */
  to(path: string): FakeRequest[];
  /** The next request to this path, or the first one that has come already and was not asked for yet. */
  next(path: string): Promise<FakeRequest>;
  close(): Promise<void>;
}

export type Route = (request: FakeRequest, reply: ServerResponse) => void | Promise<void>;

/** A real server on a port of its own that keeps what it was asked. A body that is no JSON is refused with 400. */
export async function startFakeServer(route: Route): Promise<FakeServer> {
  const requests: FakeRequest[] = [];
  const taken = new Set<FakeRequest>();
  const waiting: { path: string; resolve: (request: FakeRequest) => void }[] = [];
  const sockets = new Set<Socket>();
  const server = createServer((incoming, reply) => {
    const chunks: Buffer[] = [];
    incoming.on("data", (chunk: Buffer) => chunks.push(chunk));
    incoming.on("end", () => {
      const text = Buffer.concat(chunks).toString();
      const left = new Promise<void>((resolve) => reply.on("close", () => !reply.writableFinished && resolve()));
      const request: FakeRequest = {
        method: incoming.method ?? "",
        path: (incoming.url ?? "").replace(/\?.*$/, ""),
        headers: incoming.headers,
        body: text === "" ? {} : (JSON.parse(text) as JsonObject),
        left,
      };
      requests.push(request);
      const at = waiting.findIndex(({ path }) => path === request.path);
      if (at !== -1) {
        taken.add(request);
        waiting.splice(at, 1)[0]?.resolve(request);
      }
      void Promise.resolve(route(request, reply)).catch((error: unknown) => reply.destroy(error as Error));
    });
  });
  server.on("connection", (socket) => {
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    requests,
    to: (path) => requests.filter((request) => request.path === path),
    next(path) {
      const request = requests.find((one) => one.path === path && !taken.has(one));
      if (request === undefined) return new Promise((resolve) => waiting.push({ path, resolve }));
      taken.add(request);
      return Promise.resolve(request);
    },
    async close() {
      const closed = new Promise((resolve) => server.close(resolve));
      for (const socket of sockets) socket.destroy();
      await closed;
    },
  };
}

export function stepsOf(script: Script | undefined, body: JsonObject, turn: number): Step[] {
  return typeof script === "function"
    ? script(body, turn)
    : (script ?? [{ text: "Hel" }, { text: "lo" }, { finish: "stop" }]);
}

export function sendJson(
  reply: ServerResponse,
  status: number,
  body?: Json,
  headers: Record<string, string> = {},
): void {
  reply.writeHead(status, { ...(body === undefined ? {} : { "content-type": "application/json" }), ...headers });
  reply.end(body === undefined ? "" : typeof body === "string" ? body : JSON.stringify(body));
}

/** Plays the steps that need no wire format: a status, a wait, raw bytes, a broken connection. True: that was one of them. */
export async function playCommon(step: Step, reply: ServerResponse): Promise<boolean> {
  if ("status" in step) sendJson(reply, step.status, step.body, step.headers);
  else if ("wait" in step) {
    if (reply.headersSent) reply.flushHeaders();
    await step.wait;
  } else if ("raw" in step) {
    if (!reply.headersSent) reply.writeHead(200, { "content-type": "text/event-stream" });
    reply.write(step.raw);
  } else if ("end" in step) reply.end();
  else if ("die" in step) {
    // What was written so far must arrive: a reset may overtake it.
    if (reply.headersSent) reply.write("", () => reply.socket?.end());
    else reply.socket?.destroy();
    await new Promise((resolve) => reply.once("close", resolve));
  } else return false;
  return true;
}

/** A promise and its key: opens a step that waits. */
export function gate(): { opened: Promise<void>; open: () => void } {
  let open = (): void => {};
  const opened = new Promise<void>((resolve) => (open = resolve));
  return { opened, open };
}
