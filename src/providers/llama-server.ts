import { isStream, whenOver } from "../core/bytes.ts";
import type { Call, Reply } from "../core/call.ts";
import { ApiError } from "../core/errors.ts";
import { isObject, type JsonObject } from "../core/json.ts";
import { chatModel, type Model } from "../core/model.ts";
import type { Provider } from "../core/provider.ts";
import { hasEvents } from "../dialects/error-events.ts";
import { decodeKeepAlive } from "../dialects/keep-alive.ts";
import { translated } from "../dialects/translate.ts";
import type { ServerLease } from "../engines/llama-server/server-models.ts";
import type { ServerAddress } from "../engines/llama-server/server-process.ts";
import { openaiServer } from "./openai-server.ts";
import { orHeartbeats } from "./passthrough.ts";
import { lift, type ProviderTools } from "./settings.ts";
import { countedByText } from "./token-counters.ts";
import { Upstream } from "./upstream.ts";

/** Which models have a llama-server, and that server. */
export interface ServerSource {
  /** Null for a model that has none. Throws `ApiError`. */
  server(model: string, signal: AbortSignal, keepAlive?: number): Promise<ServerLease | null>;
}

/**
 * The embedded engine with those of its models that a llama-server of the user's serves: their calls pass through to it.
 */
export function withLlamaServer(embedded: Provider, source: ServerSource, tools: ProviderTools): Provider {
  const clients = new Clients(embedded, tools);
  return {
    name: embedded.name,
    kind: embedded.kind,
    speaks: embedded.speaks,
    handle: async (call) => {
      const lease = await source.server(modelOf(call), call.signal, await keepAliveOf(call));
      if (lease === null) return embedded.handle(call);
      const pending = ask(call, lease, clients);
      return (await isStreamed(call)) ? orHeartbeats(pending, call.path, tools) : pending;
    },
    models: (signal) => embedded.models(signal),
    health: (signal) => embedded.health(signal),
    close: async () => {
      await embedded.close();
      await clients.close();
    },
  };
}

async function ask(call: Call, lease: ServerLease, clients: Clients): Promise<Reply> {
  try {
    const address = await unlessLeft(lease.process.ensureReady(), call);
    const reply = await clients.for(modelOf(call), address).handle(call);
    if (isStream(reply.body)) return { ...reply, body: whenOver(reply.body, lease.release) };
    lease.release();
    return reply;
  } catch (error) {
    // A connection that broke says less than the server's end.
    const broke = error instanceof ApiError && /^upstream_(error|unreachable)$/.test(error.code);
    const failure = broke ? await lease.process.failure() : null;
    lease.release();
    throw failure ?? error;
  }
}

/** What reaches the servers that run now. A server that was started anew has another address. */
class Clients {
  readonly #name: string;
  readonly #tools: ProviderTools;
  readonly #known = new Map<string, { address: ServerAddress; provider: Provider }>();

  constructor({ name }: Provider, tools: ProviderTools) {
    this.#name = name;
    this.#tools = tools;
  }

  for(model: string, address: ServerAddress): Provider {
    const known = this.#known.get(model);
    if (known?.address === address) return known.provider;
    void known?.provider.close();
    // No time limits: a long prompt is silent for minutes, and the process itself is watched.
    const times = { connectTimeout: 10_000, firstByteTimeout: 0, idleTimeout: 0 };
    const upstream = new Upstream(this.#name, { urls: [address.origin], key: address.key, ...times }, this.#tools.log);
    const server = openaiServer(upstream, this.#tools, {
      kind: "llama_cpp",
      toolChoice: "unknown",
      maxStops: 64,
      healthPath: "/health",
      adapt: toContent,
    });
    // Of all names that the model's file has, it was asked for by this one.
    const models = (): Promise<Model[]> => Promise.resolve([{ id: model, capabilities: chatModel, state: "loaded" }]);
    const provider = translated({ ...server, countTokens: countedByText(upstream), models }, lift(this.#tools));
    this.#known.set(model, { address, provider });
    return provider;
  }

  async close(): Promise<void> {
    await Promise.all([...this.#known.values()].map(({ provider }) => provider.close()));
  }
}

/** Other servers' names for the text → llama-server's. */
function toContent(body: JsonObject, path: string): JsonObject | undefined {
  const text = body.prompt ?? body.text ?? body.input;
  return path === "/tokenize" && body.content === undefined && text !== undefined ? { content: text } : undefined;
}

function modelOf(call: Call): string {
  if (call.target === undefined) throw new TypeError("the call has no target");
  return call.target.model;
}

async function isStreamed(call: Call): Promise<boolean> {
  const body = await call.json();
  return isObject(body) && body.stream === true && hasEvents(call.path);
}

async function keepAliveOf(call: Call): Promise<number | undefined> {
  const body = await call.json();
  return isObject(body) ? decodeKeepAlive(body) : undefined;
}

function unlessLeft<Result>(pending: Promise<Result>, call: Call): Promise<Result> {
  return new Promise((resolve, reject) => {
    const onAbort = (): void => reject(new ApiError("client_closed_request", "the client closed the connection"));
    call.leaving.addEventListener("abort", onAbort);
    pending.then(resolve, reject).finally(() => call.leaving.removeEventListener("abort", onAbort));
    if (call.leaving.aborted) onAbort();
  });
}
