import type { Call, Handler, Reply } from "../core/call.ts";
import type { ChatEvent, ChatRequest } from "../core/chat.ts";
import type { Engine } from "../core/engine.ts";
import { ApiError } from "../core/errors.ts";
import type { Endpoint, Provider } from "../core/provider.ts";
import { askChat } from "./ask-chat.ts";
import type { ServerDialect } from "./dialect.ts";
import { engineRoutes } from "./engine-routes.ts";
import { answer, bodyOf, headOf, type LiftOptions, targetOf } from "./lift.ts";
import { openaiChat } from "./openai-chat.ts";
import { openaiResponses } from "./openai-responses.ts";

interface ChatFormat {
  readonly dialect: ServerDialect;
  /** What the ids of its replies begin with. */
  readonly idPrefix: string;
}

/** Every wire format of chat, by the path under which it is served. */
const chatFormats = new Map<Endpoint, ChatFormat>([
  ["/v1/chat/completions", { dialect: openaiChat, idPrefix: "chatcmpl-" }],
  ["/v1/responses", { dialect: openaiResponses, idPrefix: "resp_" }],
]);

/** Gives an engine every wire format. Calls for what the engine has no method for throw `unsupported_capability`. */
export function fromEngine(engine: Engine, options: LiftOptions = {}): Provider {
  const ask: Ask = (request, _call, signal) => engine.chat(request, signal);
  const routes = engineRoutes(engine, options);
  for (const [path, format] of chatFormats)
    routes.set(path, (call) => answerChat(format, call, { provider: engine.name, ask, options }));
  return {
    name: engine.name,
    kind: engine.kind,
    speaks: new Set(routes.keys()),
    handle: async (call) => {
      const route = routes.get(call.path as Endpoint);
      if (route === undefined) throw cannot(engine.name, call.path);
      return route(call);
    },
    models: (signal) => engine.models(signal),
    health: (signal) => engine.health(signal),
    close: () => engine.close(),
  };
}

/**
 * Gives a provider that speaks `/v1/chat/completions` the wire formats of chat that it does not speak itself: the
 * request is asked as a chat, and the answer's events are written in the caller's format. Other calls go to it as they are.
 */
export function translated(provider: Provider, options: LiftOptions = {}): Provider {
  if (!provider.speaks.has("/v1/chat/completions")) return provider;
  const ask: Ask = (request, call, signal) => askChat(provider, request, call, signal);
  const routes = new Map<string, Handler>();
  const speaks = new Set(provider.speaks);
  for (const [path, format] of chatFormats) {
    if (provider.speaks.has(path)) continue;
    speaks.add(path);
    routes.set(path, (call) => answerChat(format, call, { provider: provider.name, ask, options }));
  }
  return {
    name: provider.name,
    kind: provider.kind,
    speaks,
    handle: (call) => routes.get(call.path)?.(call) ?? provider.handle(call),
    models: (signal) => provider.models(signal),
    health: (signal) => provider.health(signal),
    close: () => provider.close(),
  };
}

/** One answer to a request of `n` = 1. */
type Ask = (request: ChatRequest, call: Call, signal: AbortSignal) => AsyncIterable<ChatEvent>;

interface Lift {
  readonly provider: string;
  readonly ask: Ask;
  readonly options: LiftOptions;
}

async function answerChat(
  { dialect, idPrefix }: ChatFormat,
  call: Call,
  { provider, ask, options }: Lift,
): Promise<Reply> {
  const body = await bodyOf(call);
  const request = dialect.decodeRequest(body, targetOf(call).model, call.headers);
  const head = headOf(call, idPrefix);
  return answer(call, provider, options, {
    stream: request.stream,
    sources: (signal) => Array.from({ length: request.n }, (_, index) => ask(singleOf(request, index), call, signal)),
    encodeStream: (events) => dialect.encodeStream(events, request, body, head),
    encodeReply: (events) => dialect.encodeReply(events, request, body, head),
  });
}

/** One answer of several. A fixed seed would make all the same. */
function singleOf(request: ChatRequest, index: number): ChatRequest {
  if (request.n === 1) return request;
  return { ...request, n: 1, ...(request.seed === undefined ? {} : { seed: request.seed + index }) };
}

function cannot(provider: string, path: string): ApiError {
  return new ApiError(
    "unsupported_capability",
    `the provider ${provider} cannot serve ${path}; choose a model of another provider`,
    {
      param: "model",
      provider,
    },
  );
}
