import type { ChatEvent, ChatRequest, Tool } from "../core/chat.ts";
import { promptedParser } from "../engines/parsers/families.ts";
import { withToolPrompt } from "../engines/templates/hermes-prompt.ts";
import { newCallId } from "./tool-choice.ts";

/** A chat for a server that knows no tools: they stand in the system message, calls and results in the conversation. */
export function withPromptedTools(request: ChatRequest): ChatRequest {
  return { ...request, messages: withToolPrompt(request.messages, request.tools), tools: [], toolChoice: "none" };
}

/** The calls in such a model's text → tool-call events. What is no call after all stays text. */
export async function* readPromptedCalls(
  events: AsyncIterable<ChatEvent>,
  tools: readonly Tool[],
): AsyncGenerator<ChatEvent> {
  const parser = promptedParser({ tools, newId: newCallId });
  let called = false;
  for await (const event of events) {
    if (event.type !== "text" && event.type !== "finish") {
      yield event;
      continue;
    }
    for (const parsed of event.type === "text" ? parser.push(event.text) : parser.end()) {
      called ||= parsed.type === "tool-call";
      yield parsed;
    }
    if (event.type === "finish") yield called && event.reason === "stop" ? { ...event, reason: "tool-calls" } : event;
  }
}
