import type { Handler } from "../core/call.ts";
import type { Endpoint } from "../core/provider.ts";
import type { LiftOptions } from "./lift.ts";
import type { Source } from "./source.ts";

/** What Ollama's API has beside `/api/chat`: `/api/generate`, `/api/embed`, `/api/embeddings`. */
export function ollamaRoutes(_source: Source, _options: LiftOptions): Map<Endpoint, Handler> {
  return new Map();
}
