import type { ChatRequest } from "../core/chat.ts";
import { estimateTokens } from "../dialects/estimate.ts";

/** A guess at the tokens of a whole prompt, with the few that a template adds to each message. */
export function estimatePrompt(request: Pick<ChatRequest, "messages" | "tools">): number {
  let tokens = 3;
  for (const message of request.messages) {
    tokens += 4;
    for (const part of message.content) tokens += part.type === "text" ? estimateTokens(part.text.length) : 256;
    if (message.role !== "assistant") continue;
    for (const call of message.toolCalls) tokens += 8 + estimateTokens(call.name.length + call.arguments.length);
  }
  for (const tool of request.tools) tokens += estimateTokens(JSON.stringify(tool).length);
  return tokens;
}
