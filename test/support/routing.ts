import type { ServerResponse } from "node:http";
import { afterEach } from "vitest";
import type { Clock } from "../../src/core/clock.ts";
import type { JsonObject } from "../../src/core/json.ts";
import { silent } from "../../src/core/log.ts";
import type { UpstreamState } from "../../src/core/upstream-state.ts";
import { listen } from "../../src/http/server.ts";
import { compose } from "../../src/pipeline/compose.ts";
import { errors } from "../../src/pipeline/errors.ts";
import { createProvider } from "../../src/providers/index.ts";
import type { ProviderSettings } from "../../src/providers/settings.ts";
import { createRouter, type Router } from "../../src/routing/router.ts";
import { type FakeRequest, type FakeServer, sendJson, startFakeServer } from "./fake-server.ts";
import { type Answer, ask, type Asking, type Exchange, open } from "./tunnel-caller.ts";

/** How a fake upstream answers a call. */
export type Answering = (request: FakeRequest, reply: ServerResponse) => void | Promise<void>;

/** A runtime, relay or gateway of our own kind, as far as a gateway sees it. */
export interface FakeUpstream extends FakeServer {
  answering: Answering;
  cards: JsonObject[];
  /** Status of `/health`. */
  health: number;
  /** Calls that were sent to it, without lists and health checks. */
  readonly calls: FakeRequest[];
}

/** A card of `GET /v1/models`. */
export function card(id: string, more: JsonObject = {}): JsonObject {
  const capabilities = { chat: true, tools: true, vision: false, reasoning: false, embeddings: false, rerank: false };
  return { id, object: "model", created: 1, owned_by: "fake", state: "loaded", capabilities, ...more };
}

/** Says who answered, and the model by the name that it was asked for. */
export function saying(name: string): Answering {
  return ({ body }, reply) =>
    sendJson(reply, 200, {
      by: name,
      model: body.model ?? null,
      choices: [{ index: 0, message: { role: "assistant", content: "Hello" }, finish_reason: "stop" }],
      usage: { prompt_tokens: 7, completion_tokens: 2, total_tokens: 9 },
    });
}

/** A failure in our envelope. */
export function failing(
  status: number,
  code: string,
  more: JsonObject = {},
  headers: Record<string, string> = {},
): Answering {
  return (_request, reply) =>
    sendJson(reply, status, { error: { message: `this is ${code}`, type: "x", param: null, code }, ...more }, headers);
}

/** The connection breaks before any answer. */
export const breaking: Answering = (_request, reply) => void reply.socket?.destroy();

const closing: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).toReversed()) await close();
});

export async function startUpstream(
  name: string,
  models: readonly (string | JsonObject)[] = ["demo"],
): Promise<FakeUpstream> {
  const server = await startFakeServer((request, reply) => {
    if (request.path === "/health") return sendJson(reply, upstream.health, { status: "ok" });
    if (request.path === "/v1/models") return sendJson(reply, 200, { object: "list", data: upstream.cards });
    upstream.calls.push(request);
    return upstream.answering(request, reply);
  });
  const cards = models.map((model) => (typeof model === "string" ? card(model) : model));
  const upstream: FakeUpstream = { ...server, answering: saying(name), cards, health: 200, calls: [] };
  closing.push(() => server.close());
  return upstream;
}

/** Time that goes on only when it is told to. */
export class TestClock implements Clock {
  #now = 1_800_000_000_000;
  readonly #tasks = new Set<{ readonly at: number; readonly run: () => void }>();

  now(): number {
    return this.#now;
  }

  after(milliseconds: number, task: () => void): () => void {
    const waiting = { at: this.#now + milliseconds, run: task };
    this.#tasks.add(waiting);
    return () => void this.#tasks.delete(waiting);
  }

  /** Tasks that wait for their time. */
  get waiting(): number {
    return this.#tasks.size;
  }

  random(): number {
    return 0.5;
  }

  advance(milliseconds: number): void {
    this.#now += milliseconds;
    const due = [...this.#tasks].filter(({ at }) => at <= this.#now);
    for (const task of due) {
      this.#tasks.delete(task);
      task.run();
    }
  }
}

export interface UpstreamEntry extends Partial<ProviderSettings> {
  readonly urls: readonly string[];
  readonly weight?: number;
}

export interface AskingModel extends Asking {
  /** Further fields of the body. */
  readonly json?: JsonObject;
}

export interface TestGateway {
  readonly url: string;
  readonly router: Router;
  readonly clock: TestClock;
  /** A chat with that model. */
  chat(model: string, more?: AskingModel): Promise<Answer & { readonly json: JsonObject }>;
  open(model: string, more?: AskingModel): Promise<Exchange>;
  get(path: string): Promise<Answer & { readonly json: JsonObject }>;
  state(name: string): UpstreamState;
}

export interface GatewayOptions {
  readonly models?: Readonly<Record<string, readonly string[]>>;
  readonly probeTimeout?: number;
}

/** A router over real upstreams, behind a real server. */
export async function startGateway(
  upstreams: Readonly<Record<string, FakeUpstream | UpstreamEntry>>,
  options: GatewayOptions = {},
): Promise<TestGateway> {
  const clock = new TestClock();
  const routed = Object.entries(upstreams).map(([name, entry]) => {
    const { weight = 1, ...settings }: UpstreamEntry = "urls" in entry ? entry : { urls: [entry.url] };
    const times = { connectTimeout: 5000, firstByteTimeout: 0, idleTimeout: 0 };
    return { provider: createProvider(name, { kind: "lair", ...times, ...settings }, { log: silent }), weight };
  });
  const { models = {}, probeTimeout = 5000 } = options;
  const router = createRouter({ upstreams: routed, models, probeTimeout, log: silent, clock });
  const server = await listen({
    host: "127.0.0.1",
    port: 0,
    log: silent,
    handler: compose([errors(silent)], router.handler),
    bodyLimit: 64 * 1024 * 1024,
    headerLimit: 64 * 1024,
    headersTimeout: 10_000,
    requestTimeout: 60_000,
    keepAliveTimeout: 5000,
    stallTimeout: 60_000,
  });
  closing.push(async () => {
    router.close();
    await server.close(0);
    await Promise.all(routed.map(({ provider }) => provider.close()));
  });
  const url = `http://127.0.0.1:${server.port}`;
  const asking = (model: string, { json = {}, ...more }: AskingModel): Asking => ({
    body: { model, messages: [{ role: "user", content: "Hi" }], ...json },
    ...more,
  });
  const chat = `${url}/v1/chat/completions`;
  await router.models();
  return {
    url,
    router,
    clock,
    chat: async (model, more = {}) => withJson(await ask(chat, asking(model, more))),
    open: (model, more = {}) => open(chat, asking(model, more)),
    get: async (path) => withJson(await ask(url + path, { method: "GET" })),
    state: (name) => router.states().find((one) => one.name === name) as UpstreamState,
  };
}

/** Turns of the event loop until it holds; the test's own time limit ends it. */
export async function until(holds: () => boolean): Promise<void> {
  while (!holds()) await new Promise((resolve) => setImmediate(resolve));
}

function withJson(answer: Answer): Answer & { readonly json: JsonObject } {
  try {
    return { ...answer, json: JSON.parse(answer.text) as JsonObject };
  } catch {
    return { ...answer, json: {} };
  }
}
