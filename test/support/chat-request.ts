import type { ChatRequest } from "../../src/core/chat.ts";

/** A chat of one user message, with whatever else a test wants of it. */
export function chatRequest(model: string, text: string, more: Partial<ChatRequest> = {}): ChatRequest {
  return {
    model,
    messages: [{ role: "user", content: [{ type: "text", text }] }],
    tools: [],
    toolChoice: more.tools === undefined ? "none" : "auto",
    parallelToolCalls: true,
    responseFormat: { type: "text" },
    stream: true,
    n: 1,
    stop: [],
    extra: {},
    ...more,
  };
}
