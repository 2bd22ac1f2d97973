import type { Headers } from "../core/call.ts";
import type { ChatRequest } from "../core/chat.ts";
import { ApiError } from "../core/errors.ts";
import { isObject, type Json, type JsonObject } from "../core/json.ts";
import { eventStreamHeaders } from "../wire/headers.ts";
import { collectAnswers } from "./answer.ts";
import type { ChoiceEvent, ReplyHead, ServerDialect } from "./dialect.ts";
import { decodeRequest as decodeResponsesRequest } from "./openai-responses/request.ts";
import { encodeUsage } from "./openai-responses/response.ts";
import { inventCallId } from "./openai-chat/wire.ts";
import { encodeOpaque } from "./opaque-text.ts";

/**
 * `/v1/responses/compact`: a conversation → a shorter window that stands for it. Instructions and the latest messages of
 * the user stay as they are; the rest becomes a summary, which `/v1/responses` reads back out of its compaction item.
 */
export const openaiCompaction: ServerDialect = {
  idPrefix: "resp_",
  streamHeaders: eventStreamHeaders,
  decodeRequest,
  encodeStream: () => {
    throw new ApiError("internal_error", "a compaction has no stream");
  },
  encodeReply,
};

/** The conversation as the model knows it, tools included, so that its cached prompt is of use; then what it is to write. */
function decodeRequest(body: JsonObject, model: string, headers: Headers): ChatRequest {
  const request = decodeResponsesRequest({ ...body, tool_choice: "none", text: null, stream: false }, model, headers);
  const messages = [...request.messages, { role: "user" as const, content: [{ type: "text" as const, text: task }] }];
  return { ...request, messages, maxTokens: mostSummaryTokens };
}

async function encodeReply(
  events: AsyncIterable<ChoiceEvent>,
  _request: ChatRequest,
  body: JsonObject,
  head: ReplyHead,
): Promise<Json> {
  const [answer] = await collectAnswers(events, 1, (choice, index) => inventCallId(head.id, choice, index));
  const summary = answer?.text.trim() ?? "";
  if (answer === undefined || summary === "")
    throw new ApiError("upstream_error", "the model wrote no summary of the conversation; keep it as it is for now");
  const id = head.id.replace(/^resp_/, "");
  return {
    id: head.id,
    object: "response.compaction",
    created_at: head.created,
    output: [
      ...keptMessages(body.input, id),
      { id: `cmp_${id}`, type: "compaction", encrypted_content: encodeOpaque(summary) },
    ],
    usage: encodeUsage(answer.usage),
  };
}

/** The messages of system and developer, and the latest of the user, in their order. */
function keptMessages(input: Json | undefined, id: string): JsonObject[] {
  const items: Json[] = Array.isArray(input) ? input : [{ role: "user", content: input ?? null }];
  const messages = items.filter(isObject).filter(({ type = "message" }) => type === "message");
  let room = mostKeptLength;
  const kept = messages.toReversed().filter(({ role, content }) => {
    if (role !== "user") return role === "system" || role === "developer";
    const length = JSON.stringify(content ?? "").length;
    const fits = length <= room;
    if (fits) room -= length;
    return fits;
  });
  return kept.toReversed().map(({ id: given, role, content }, index) => ({
    type: "message",
    id: typeof given === "string" ? given : `msg_${id}_${index}`,
    status: "completed",
    role,
    content: typeof content === "string" ? [{ type: "input_text", text: content }] : content,
  }));
}

/** UTF-16 units of JSON, about 4000 tokens: half of the smallest window in which an agent can work. */
const mostKeptLength = 16_000;

/** Thinking counts too, where a model thinks before it writes. */
const mostSummaryTokens = 8192;

const task = `Stop here and write a summary of this conversation for somebody who goes on with the work and sees nothing else of it. Give:
- what the user wants, in the user's own words where they matter, with every rule and preference that was stated;
- what was decided and done so far, and what came of it;
- the names, paths, commands, values and errors that are needed again, exactly as they are;
- what is left to do, the next step first.
Be brief and exact. Call no tools, add no introduction, write only the summary.`;
