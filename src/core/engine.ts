import type {
  ChatEvent,
  ChatRequest,
  CompletionRequest,
  EmbeddingRequest,
  Embeddings,
  RerankRequest,
  RerankResult,
} from "./chat.ts";
import type { Model } from "./model.ts";
import type { Health, ModelStock } from "./provider.ts";

/** How a text becomes tokens. */
export interface TokenizeOptions {
  /** With the begin and end tokens that the model wants. Default false. */
  readonly addSpecial?: boolean;
  /** Control tokens written out count as such. Default true. */
  readonly parseSpecial?: boolean;
}

/**
 * Anything that generates but is given every wire format by `fromEngine`: llama.cpp in a child process, a native
 * protocol such as Ollama's, a fake in a test. Every method throws `ApiError`; an aborted signal ends the work at once.
 */
export interface Engine extends ModelStock {
  readonly name: string;
  readonly kind: string;
  /** One answer: `request.n` is ignored. */
  chat(request: ChatRequest, signal: AbortSignal): AsyncIterable<ChatEvent>;
  complete?(request: CompletionRequest, signal: AbortSignal): AsyncIterable<ChatEvent>;
  /** Whether its tool calls are held to their tools' schemas while they are written: they may go on as they come. Default false. */
  readonly soundCalls?: boolean;
  /** Whether `complete` heeds `suffix` and `files` for models that can. Default false. */
  readonly fillsGaps?: boolean;
  embed?(request: EmbeddingRequest, signal: AbortSignal): Promise<Embeddings>;
  rerank?(request: RerankRequest, signal: AbortSignal): Promise<RerankResult>;
  /** The prompt that a chat becomes, as text. */
  applyTemplate?(request: ChatRequest, signal: AbortSignal): Promise<string>;
  tokenize?(model: string, text: string, signal: AbortSignal, options?: TokenizeOptions): Promise<number[]>;
  /** The bytes of each token, which may be a part of a character. */
  pieces?(model: string, tokens: number[], signal: AbortSignal): Promise<number[][]>;
  detokenize?(model: string, tokens: number[], signal: AbortSignal): Promise<string>;
  /** Brings a model into memory; it stays for `keepAlive` seconds after its last use, as of a chat. */
  load?(model: string, signal: AbortSignal, keepAlive?: number): Promise<void>;
  /** Gives a model's memory back, now or when its last request has ended. */
  unload?(model: string): Promise<void>;
  models(signal?: AbortSignal): Promise<Model[]>;
  health(signal?: AbortSignal): Promise<Health>;
  close(): Promise<void>;
}
