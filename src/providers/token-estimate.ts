import type { ChatRequest } from "../core/chat.ts";

/** A guess at the tokens of a text, for servers that do not count: four bytes of UTF-8 make one in most vocabularies. */
export function estimateTokens(text: string): number {
  return Math.ceil(Buffer.byteLength(text) / 4);
}

/** A guess at the tokens of a whole prompt, with the few that a template adds to each message. */
export function estimatePrompt(request: Pick<ChatRequest, "messages" | "tools">): number {
  let tokens = 3;
  for (const message of request.messages) {
    tokens += 4;
    for (const part of message.content) tokens += part.type === "text" ? estimateTokens(part.text) : 256;
    if (message.role !== "assistant") continue;
    for (const call of message.toolCalls) tokens += 8 + estimateTokens(call.name + call.arguments);
  }
  for (const tool of request.tools) tokens += estimateTokens(JSON.stringify(tool));
  return tokens;
}
