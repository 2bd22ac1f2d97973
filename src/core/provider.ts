import type { Handler } from "./call.ts";
import type { ChatRequest } from "./chat.ts";
import type { Model } from "./model.ts";

/** Paths in the formats of APIs that most servers speak badly or not at all: all of them can be made of OpenAI's chat. */
export const translatedPaths = [
  "/v1/responses",
  "/v1/responses/compact",
  "/v1/responses/input_tokens",
  "/v1/messages",
  "/v1/messages/count_tokens",
  "/api/chat",
  "/api/generate",
  "/api/embed",
  "/api/embeddings",
] as const;
export type TranslatedPath = (typeof translatedPaths)[number];

/** Every path that reaches a provider. */
export const endpoints = [
  "/v1/chat/completions",
  "/v1/completions",
  "/infill",
  "/v1/embeddings",
  ...translatedPaths,
  "/v1/rerank",
  "/apply-template",
  "/tokenize",
  "/detokenize",
] as const;
export type Endpoint = (typeof endpoints)[number];

export interface Health {
  readonly ok: boolean;
  /** Why not, with what to do; or a remark. */
  readonly detail?: string;
}

/** How far a model has come that is being fetched; in Ollama's words, e.g. `pulling manifest`. */
export interface PullProgress {
  readonly status: string;
  /** What tells the parts of a model apart. */
  readonly digest?: string;
  /** Bytes of that part. */
  readonly total?: number;
  readonly completed?: number;
}

/** What changes the models that there are, where a provider can. */
export interface ModelStock {
  /** Fetches a model from where models of this kind are published; it is there when the iterable ends. Throws `ApiError`. */
  pullModel?(model: string, signal: AbortSignal): AsyncIterable<PullProgress>;
  /** Deletes a model from the disk. Throws `ApiError`. */
  deleteModel?(model: string, signal: AbortSignal): Promise<void>;
}

/** Anything that answers calls: an upstream URL, an agent at the far end of a tunnel, a lifted engine. */
export interface Provider extends ModelStock {
  /** The prefix of its model ids, e.g. `ollama`. */
  readonly name: string;
  readonly kind: string;
  /** Endpoints whose requests and replies it reads and writes itself. All others are translated or refused. */
  readonly speaks: ReadonlySet<Endpoint>;
  /** Whether the tool calls in its chats are checked where they are asked for: nobody else need do it. Default false. */
  readonly soundCalls?: boolean;
  /** Tokens of the prompt that a chat becomes, by the server's own count. Absent: it has none. Throws `ApiError`. */
  countTokens?(request: ChatRequest, signal: AbortSignal): Promise<number>;
  /** Answers a call whose `target` is this provider. Throws `ApiError`. */
  readonly handle: Handler;
  /** Throws `ApiError` when it cannot tell. */
  models(signal?: AbortSignal): Promise<Model[]>;
  /** Never throws. */
  health(signal?: AbortSignal): Promise<Health>;
  close(): Promise<void>;
}

/** That part of a provider or engine, for another one that stands before it. */
export function stockOf(stock: ModelStock): ModelStock {
  const pullModel = stock.pullModel?.bind(stock);
  const deleteModel = stock.deleteModel?.bind(stock);
  return { ...(pullModel === undefined ? {} : { pullModel }), ...(deleteModel === undefined ? {} : { deleteModel }) };
}
