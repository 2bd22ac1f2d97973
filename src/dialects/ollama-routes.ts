import type { Call, Handler, Reply } from "../core/call.ts";
import type { Endpoint } from "../core/provider.ts";
import type { ServerDialect } from "./dialect.ts";
import type { LiftOptions } from "./lift.ts";
import { ollamaChat } from "./ollama-chat.ts";
import type { Source } from "./source.ts";

/** What the routes are made of. */
export interface OllamaParts {
  readonly source: Source;
  readonly options: LiftOptions;
  /** Answers a call as a chat in this dialect. */
  readonly chat: (dialect: ServerDialect, call: Call) => Promise<Reply>;
}

/** Ollama's API of models at work: `/api/chat`, `/api/generate`, `/api/embed`, `/api/embeddings`. */
export function ollamaRoutes({ chat }: OllamaParts): Map<Endpoint, Handler> {
  return new Map([["/api/chat", (call) => chat(ollamaChat, call)]]);
}
