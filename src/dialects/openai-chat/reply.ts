import type { ChatRequest } from "../../core/chat.ts";
import type { Json, JsonObject } from "../../core/json.ts";
import { type Answer, collectAnswers, totalUsage } from "../answer.ts";
import type { ChoiceEvent, ReplyHead } from "../dialect.ts";
import { encodeLogprobs, encodeTimings, encodeUsage, finishReasons, inventCallId } from "./wire.ts";

/** Events → one `chat.completion`. Throws what `events` throws, and `upstream_error` where an answer has no finish. */
export async function encodeReply(
  events: AsyncIterable<ChoiceEvent>,
  request: ChatRequest,
  _body: JsonObject,
  head: ReplyHead,
): Promise<Json> {
  const answers = await collectAnswers(events, request.n, (choice, index) => inventCallId(head.id, choice, index));
  const [first] = answers;
  return {
    id: head.id,
    object: "chat.completion",
    created: head.created,
    model: head.model,
    choices: answers.map((answer, index) => ({
      index,
      message: encodeMessage(answer),
      logprobs: request.topLogprobs === undefined ? null : encodeLogprobs(answer.logprobs),
      finish_reason: finishReasons[answer.reason],
    })),
    usage: encodeUsage(totalUsage(answers.map((answer) => answer.usage))),
    ...(first?.timings === undefined ? {} : { timings: encodeTimings(first.usage, first.timings) }),
  };
}

function encodeMessage({ text, reasoning, toolCalls }: Answer): JsonObject {
  const calls = toolCalls.map((call) => ({
    id: call.id,
    type: "function",
    function: { name: call.name, arguments: call.arguments },
  }));
  return {
    role: "assistant",
    content: text === "" && calls.length > 0 ? null : text,
    refusal: null,
    ...(reasoning === "" ? {} : { reasoning_content: reasoning, reasoning }),
    ...(calls.length === 0 ? {} : { tool_calls: calls }),
  };
}
