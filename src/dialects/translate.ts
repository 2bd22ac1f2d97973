import { setImmediate } from "node:timers/promises";
import type { Call, Handler, Reply } from "../core/call.ts";
import type { ChatEvent, ChatRequest } from "../core/chat.ts";
import type { Engine } from "../core/engine.ts";
import { ApiError } from "../core/errors.ts";
import { type Endpoint, type Provider, stockOf } from "../core/provider.ts";
import { anthropicMessages } from "./anthropic-messages.ts";
import type { ServerDialect } from "./dialect.ts";
import { engineRoutes } from "./engine-routes.ts";
import { answer, bodyOf, headOf, type LiftOptions, targetOf } from "./lift.ts";
import { ollamaRoutes } from "./ollama-routes.ts";
import { openaiChat } from "./openai-chat.ts";
import { openaiCompaction } from "./openai-compaction.ts";
import { openaiResponses } from "./openai-responses.ts";
import { type Source, sourceOfEngine, sourceOfServer } from "./source.ts";
import { countRoutes } from "./token-count.ts";
import { askShortened } from "./truncation.ts";
import { withSoundTools } from "./tool-calls.ts";

/** Every wire format of chat, by the path under which it is served; Ollama's are beside its other routes. */
const chatDialects: ReadonlyMap<Endpoint, ServerDialect> = new Map<Endpoint, ServerDialect>([
  ["/v1/chat/completions", openaiChat],
  ["/v1/responses", openaiResponses],
  ["/v1/responses/compact", openaiCompaction],
  ["/v1/messages", anthropicMessages],
]);

/** Gives an engine every wire format. Calls for what the engine has no method for throw `unsupported_capability`. */
export function fromEngine(engine: Engine, options: LiftOptions = {}): Provider {
  const routes = new Map([...engineRoutes(engine, options), ...dialectRoutes(sourceOfEngine(engine), options)]);
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
    ...stockOf(engine),
  };
}

/**
 * Gives a provider that speaks `/v1/chat/completions` the wire formats that it does not speak itself: the request is
 * asked in OpenAI's words, and the answer's events are written in the caller's. Other calls go to it as they are.
 */
export function translated(provider: Provider, options: LiftOptions = {}): Provider {
  if (!provider.speaks.has("/v1/chat/completions")) return provider;
  const routes = dialectRoutes(sourceOfServer(provider), options);
  for (const path of provider.speaks) routes.delete(path);
  return {
    name: provider.name,
    kind: provider.kind,
    speaks: new Set([...provider.speaks, ...routes.keys()]),
    handle: (call) => routes.get(call.path as Endpoint)?.(call) ?? provider.handle(call),
    models: (signal) => provider.models(signal),
    health: (signal) => provider.health(signal),
    close: () => provider.close(),
    ...stockOf(provider),
  };
}

function dialectRoutes(asked: Source, options: LiftOptions): Map<Endpoint, Handler> {
  const source = withSoundTools(asked, options.log);
  const routes = new Map<Endpoint, Handler>();
  const chat = (dialect: ServerDialect, call: Call): Promise<Reply> => answerChat(dialect, call, source, options);
  for (const [path, dialect] of chatDialects) routes.set(path, (call) => chat(dialect, call));
  for (const [path, handler] of [...ollamaRoutes({ source, options, chat }), ...countRoutes(source)])
    routes.set(path, handler);
  return routes;
}

/** Bytes of a body from which on other calls get a turn between one step of its translation and the next. */
const longBody = 256 * 1024;

async function answerChat(dialect: ServerDialect, call: Call, source: Source, options: LiftOptions): Promise<Reply> {
  const body = await bodyOf(call);
  const turn = (await call.bytes()).length >= longBody ? setImmediate : undefined;
  await turn?.();
  const request = dialect.decodeRequest(body, targetOf(call).model, call.headers);
  await turn?.();
  const head = headOf(call, dialect.idPrefix);
  return answer(call, source.name, options, {
    stream: request.stream,
    streamHeaders: dialect.streamHeaders,
    sources: (signal) =>
      Array.from({ length: request.n }, (_, index) => {
        const ask = (one: ChatRequest): AsyncIterable<ChatEvent> => source.chat(one, call, signal);
        const single = singleOf(request, index);
        return request.truncation === "auto" ? askShortened(single, ask) : ask(single);
      }),
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
