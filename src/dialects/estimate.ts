import type { ChatRequest } from "../core/chat.ts";

/**
 * Tokens in so many UTF-16 units of text, roughly: four to a token, as in English and code. For servers that count
 * nothing: a usage of 0 would keep clients from ever compacting a conversation.
 */
export function estimateTokens(length: number): number {
  return Math.max(1, Math.ceil(length / 4));
}

/** A guess at the tokens of a whole prompt, with the few that a template adds to each message. */
export function estimatePrompt(request: Pick<ChatRequest, "messages" | "tools">): number {
  let tokens = 3;
  for (const message of request.messages) {
    tokens += 4;
    for (const part of message.content) tokens += part.type === "text" ? estimateTokens(part.text.length) : 256;
    if (message.role !== "assistant") continue;
    if (message.reasoning !== undefined) tokens += estimateTokens(message.reasoning.length);
    for (const call of message.toolCalls) tokens += 8 + estimateTokens(call.name.length + call.arguments.length);
  }
  for (const tool of request.tools) tokens += estimateTokens(JSON.stringify(tool).length);
  return tokens;
}
