import type { Handler } from "./call.ts";
import type { Model } from "./model.ts";

/** Every path that reaches a provider. */
export const endpoints = [
  "/v1/chat/completions",
  "/v1/completions",
  "/infill",
  "/v1/embeddings",
  "/v1/responses",
  "/v1/responses/compact",
  "/v1/responses/input_tokens",
  "/v1/messages",
  "/v1/messages/count_tokens",
  "/api/chat",
  "/api/generate",
  "/api/embed",
  "/api/embeddings",
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

/** Anything that answers calls: an upstream URL, an agent at the far end of a tunnel, a lifted engine. */
export interface Provider {
  /** The prefix of its model ids, e.g. `ollama`. */
  readonly name: string;
  readonly kind: string;
  /** Endpoints whose requests and replies it reads and writes itself. All others are translated or refused. */
  readonly speaks: ReadonlySet<Endpoint>;
  /** Whether the tool calls in its chats are checked where they are asked for: nobody else need do it. Default false. */
  readonly soundCalls?: boolean;
  /** Answers a call whose `target` is this provider. Throws `ApiError`. */
  readonly handle: Handler;
  /** Throws `ApiError` when it cannot tell. */
  models(signal?: AbortSignal): Promise<Model[]>;
  /** Never throws. */
  health(signal?: AbortSignal): Promise<Health>;
  close(): Promise<void>;
}
