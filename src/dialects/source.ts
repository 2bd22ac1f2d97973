import type { Call } from "../core/call.ts";
import type { ChatEvent, ChatRequest, CompletionRequest, EmbeddingRequest, Embeddings } from "../core/chat.ts";
import type { Engine } from "../core/engine.ts";
import type { Provider } from "../core/provider.ts";
import { askChat } from "./ask-chat.ts";
import { estimateTokens } from "./estimate.ts";

/**
 * What a provider can be asked in our own words, whichever words its server has: an engine by its methods, a server
 * that speaks OpenAI's formats as a client of it. Every dialect that a provider does not speak itself is made of this.
 */
export interface Source {
  /** The provider's name, for errors. */
  readonly name: string;
  /** One answer; `request.n` is ignored. */
  chat(request: ChatRequest, call: Call, signal: AbortSignal): AsyncIterable<ChatEvent>;
  /** Absent: it completes no texts. */
  complete?(request: CompletionRequest, call: Call, signal: AbortSignal): AsyncIterable<ChatEvent>;
  /** Absent: it has no embeddings. */
  embed?(request: EmbeddingRequest, call: Call): Promise<Embeddings>;
  /** Tokens of the prompt that a chat becomes; an estimate where nobody can tell. */
  countTokens(request: ChatRequest, call: Call): Promise<number>;
}

export function sourceOfEngine(engine: Engine): Source {
  const { complete, embed, applyTemplate, tokenize } = engine;
  return {
    name: engine.name,
    chat: (request, _call, signal) => engine.chat(request, signal),
    ...(complete === undefined ? {} : { complete: (request, _call, signal) => complete.call(engine, request, signal) }),
    ...(embed === undefined ? {} : { embed: (request, call) => embed.call(engine, request, call.signal) }),
    countTokens: async (request, { signal }) => {
      if (applyTemplate === undefined || tokenize === undefined) return estimateChat(request);
      const prompt = await applyTemplate.call(engine, request, signal);
      return (await tokenize.call(engine, request.model, prompt, signal)).length;
    },
  };
}

/** Of a provider that speaks `/v1/chat/completions`. */
export function sourceOfServer(provider: Provider): Source {
  return {
    name: provider.name,
    chat: (request, call, signal) => askChat(provider, request, call, signal),
    countTokens: (request) => Promise.resolve(estimateChat(request)),
  };
}

function estimateChat({ messages, tools }: ChatRequest): number {
  return estimateTokens(JSON.stringify(messages).length + (tools.length === 0 ? 0 : JSON.stringify(tools).length));
}
