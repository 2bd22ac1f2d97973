import type { ChatRequest } from "../core/chat.ts";
import type { JsonObject } from "../core/json.ts";

/**
 * How urgent a request is, of the ways in which it may be said: OpenAI's `service_tier: "flex"` (slower and cheaper),
 * vLLM's number `priority` (0 is usual, higher waits), or `priority: "background"`. Undefined: nothing of these.
 */
export function decodePriority(body: JsonObject): ChatRequest["priority"] {
  const { priority, service_tier: tier } = body;
  const later = tier === "flex" || priority === "background" || (typeof priority === "number" && priority > 0);
  return later ? "background" : undefined;
}
