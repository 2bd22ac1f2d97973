import type { Call } from "../core/call.ts";
import type { ChatEvent, ChatRequest, CompletionRequest, EmbeddingRequest, Embeddings } from "../core/chat.ts";
import type { Engine } from "../core/engine.ts";
import { ApiError } from "../core/errors.ts";
import type { Provider } from "../core/provider.ts";
import { askChat } from "./ask-chat.ts";
import { askCompletion, askEmbeddings } from "./ask-texts.ts";
import { estimatePrompt } from "./estimate.ts";

/**
 * What a provider can be asked in our own words, whichever words its server has: an engine by its methods, a server
 * that speaks OpenAI's formats as a client of it. Every dialect that a provider does not speak itself is made of this.
 */
export interface Source {
  /** The provider's name, for errors. */
  readonly name: string;
  /** One answer; `request.n` is ignored. */
  chat(request: ChatRequest, call: Call, signal: AbortSignal): AsyncIterable<ChatEvent>;
  /** Its tool calls are sound already: held to their schemas while they are written, or checked where they were asked for. */
  readonly soundCalls?: boolean;
  /** Absent: it completes no texts. */
  complete?(request: CompletionRequest, call: Call, signal: AbortSignal): AsyncIterable<ChatEvent>;
  /** Absent: it has no embeddings. */
  embed?(request: EmbeddingRequest, call: Call): Promise<Embeddings>;
  /** Brings a model into memory, where it then stays for `keepAlive` seconds; does nothing where memory is not ours to fill. Throws `model_not_found`. */
  load(model: string, call: Call, keepAlive?: number): Promise<void>;
  /** Gives a model's memory back, likewise. */
  unload(model: string, call: Call): Promise<void>;
  /** Tokens of the prompt that a chat becomes; an estimate where nobody can tell. */
  countTokens(request: ChatRequest, call: Call): Promise<number>;
}

export function sourceOfEngine(engine: Engine): Source {
  const complete = engine.complete?.bind(engine);
  const embed = engine.embed?.bind(engine);
  return {
    name: engine.name,
    soundCalls: engine.soundCalls ?? false,
    chat: (request, _call, signal) => engine.chat(request, signal),
    ...(complete === undefined ? {} : { complete: (request, _call, signal) => complete(request, signal) }),
    ...(embed === undefined ? {} : { embed: (request, call) => embed(request, call.signal) }),
    load: async (model, call, keepAlive) => {
      if (engine.load === undefined) return expectListed(engine, model, call);
      await engine.load(model, call.signal, keepAlive);
    },
    unload: async (model, call) => {
      if (engine.unload === undefined) return expectListed(engine, model, call);
      await engine.unload(model);
    },
    countTokens: (request, call) => countByEngine(engine, request, call.signal),
  };
}

/** Of a provider that speaks `/v1/chat/completions`. */
export function sourceOfServer(provider: Provider): Source {
  return {
    name: provider.name,
    soundCalls: provider.soundCalls ?? false,
    chat: (request, call, signal) => askChat(provider, request, call, signal),
    ...(provider.speaks.has("/v1/completions")
      ? { complete: (request, call, signal) => askCompletion(provider, request, call, signal) }
      : {}),
    ...(provider.speaks.has("/v1/embeddings")
      ? { embed: (request, call) => askEmbeddings(provider, request, call) }
      : {}),
    load: (model, call) => expectListed(provider, model, call),
    unload: (model, call) => expectListed(provider, model, call),
    countTokens: (request, call) => countByServer(provider, request, call.signal),
  };
}

/** Exact for a model in memory; none is brought there to be asked for what an estimate will do. Throws `ApiError`. */
async function countByEngine(engine: Engine, request: ChatRequest, signal: AbortSignal): Promise<number> {
  const models = await engine.models(signal);
  const model = models.find(({ id }) => id === request.model);
  if (model !== undefined && model.state !== "loaded") return estimatePrompt(request);
  const prompt = await engine.applyTemplate?.(request, signal);
  // The begin token is not in the text: the tokenizer adds it.
  const asked = { addSpecial: true };
  const tokens = prompt === undefined ? undefined : await engine.tokenize?.(request.model, prompt, signal, asked);
  return tokens?.length ?? estimatePrompt(request);
}

/** Milliseconds that a server may take to count: clients ask between two keystrokes. */
const countTimeout = 3000;

/** By the server's own count where it has one, soon. Throws `model_not_found`. */
async function countByServer(provider: Provider, request: ChatRequest, signal: AbortSignal): Promise<number> {
  try {
    const soon = AbortSignal.any([signal, AbortSignal.timeout(countTimeout)]);
    return (await provider.countTokens?.(request, soon)) ?? estimatePrompt(request);
  } catch (error) {
    if (signal.aborted || (error instanceof ApiError && error.code === "model_not_found")) throw error;
    return estimatePrompt(request);
  }
}

/** For models that come and go without us: whoever asks for one is only told if there is none. */
async function expectListed(server: Pick<Provider, "name" | "models">, model: string, call: Call): Promise<void> {
  const models = await server.models(call.signal);
  if (models.some(({ id }) => id === model)) return;
  throw new ApiError("model_not_found", `${server.name} has no model ${model.slice(0, 200)}`, { param: "model" });
}
