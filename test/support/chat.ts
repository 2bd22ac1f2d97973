import type { ChatEvent, ChatRequest } from "../../src/core/chat.ts";
import type { ChoiceEvent, ReplyHead } from "../../src/dialects/dialect.ts";

/** A plain request, with changes. */
export function chatRequest(change: Partial<ChatRequest> = {}): ChatRequest {
  return {
    model: "m",
    messages: [{ role: "user", content: [{ type: "text", text: "hi" }] }],
    tools: [],
    toolChoice: "none",
    parallelToolCalls: true,
    responseFormat: { type: "text" },
    stream: true,
    n: 1,
    stop: [],
    extra: {},
    ...change,
  };
}

/** Its clock stands still, a quarter of a second after the call. */
export const replyHead: ReplyHead = {
  id: "chatcmpl-req1",
  created: 1_700_000_000,
  model: "ollama:qwen3:8b",
  began: 1_700_000_000_000,
  now: () => 1_700_000_000_250,
};

export const text = (said: string): ChatEvent => ({ type: "text", text: said });
export const reasoning = (said: string): ChatEvent => ({ type: "reasoning", text: said });
export const finish = (reason: Extract<ChatEvent, { type: "finish" }>["reason"] = "stop"): ChatEvent => ({
  type: "finish",
  reason,
  usage: { promptTokens: 7, completionTokens: 3 },
});

/** The events as an engine's answer. */
export async function* saying(...events: ChatEvent[]): AsyncGenerator<ChatEvent> {
  yield* events;
}

/** The events as those of one choice. */
export async function* asChoice(events: readonly ChatEvent[], choice = 0): AsyncGenerator<ChoiceEvent> {
  for (const event of events) yield { choice, event };
}

/** The JSON of every `data:` line; `[DONE]` stays a string. */
export function dataOf(frames: readonly string[]): unknown[] {
  const lines = frames.join("").split("\n");
  const data = lines.filter((line) => line.startsWith("data: ")).map((line) => line.slice(6));
  return data.map((line): unknown => (line === "[DONE]" ? line : JSON.parse(line)));
}
