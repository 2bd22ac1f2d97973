import type { ChatRequest, ToolCall } from "../../core/chat.ts";
import { isObject, type Json, type JsonObject } from "../../core/json.ts";
import { type Answer, collectAnswers } from "../answer.ts";
import type { ChoiceEvent, ReplyHead } from "../dialect.ts";
import { inventCallId } from "../openai-chat/wire.ts";
import { encodeMessage, encodeStop, localSignature } from "./usage.ts";

/** Events → one message. Throws what `events` throws, and `upstream_error` where the answer has no finish. */
export async function encodeReply(
  events: AsyncIterable<ChoiceEvent>,
  _request: ChatRequest,
  _body: JsonObject,
  head: ReplyHead,
): Promise<Json> {
  const [answer] = await collectAnswers(events, 1, (choice, index) => inventCallId(head.id, choice, index));
  if (answer === undefined) throw new TypeError("one answer was asked for");
  const stop = encodeStop(answer.reason, answer.stopSequence);
  return encodeMessage(head, { content: encodeContent(answer), stop, usage: answer.usage });
}

function encodeContent(answer: Answer): JsonObject[] {
  const { text, reasoning, toolCalls } = answer;
  return [
    ...(reasoning === "" ? [] : [{ type: "thinking", thinking: reasoning, signature: localSignature }]),
    ...(text === "" ? [] : [{ type: "text", text, citations: null }]),
    ...toolCalls.flatMap((call) => encodeCall(call, answer.reason === "length")),
  ];
}

/** A call whose arguments broke off with the answer is none: a client would run it without them. */
function encodeCall({ id, name, arguments: text }: ToolCall, cut: boolean): JsonObject[] {
  const input = parseInput(text);
  if (input === undefined && cut) return [];
  return [{ type: "tool_use", id, name, input: input ?? {}, caller: { type: "direct" } }];
}

function parseInput(text: string): JsonObject | undefined {
  try {
    const input = JSON.parse(text === "" ? "{}" : text) as Json;
    return isObject(input) ? input : undefined;
  } catch {
    return undefined;
  }
}
