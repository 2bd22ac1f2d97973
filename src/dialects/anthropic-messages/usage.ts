import type { FinishReason, Usage } from "../../core/chat.ts";
import type { JsonObject } from "../../core/json.ts";
import type { ReplyHead } from "../dialect.ts";

/** How an answer ended, in Anthropic's words: the fields of `message_delta`, and of a whole message. */
export function encodeStop(reason: FinishReason, stopSequence: string | undefined): JsonObject {
  const stopped = reason === "stop" && stopSequence !== undefined;
  return {
    stop_reason: stopped ? "stop_sequence" : stopReasons[reason],
    stop_sequence: stopped ? stopSequence : null,
    stop_details: reason === "content-filter" ? { type: "refusal", category: null, explanation: null } : null,
  };
}

/** Anthropic counts what came from a cache beside the input, not in it. */
export function encodeUsage({ promptTokens, completionTokens, cachedTokens = 0, reasoningTokens }: Usage): JsonObject {
  return {
    input_tokens: Math.max(0, promptTokens - cachedTokens),
    cache_creation_input_tokens: 0,
    cache_read_input_tokens: cachedTokens,
    output_tokens: completionTokens,
    output_tokens_details: reasoningTokens === undefined ? null : { thinking_tokens: reasoningTokens },
    server_tool_use: null,
  };
}

/** A message as it stands in a reply and in `message_start`. */
export function encodeMessage(
  { id, model }: ReplyHead,
  { content, stop, usage }: { readonly content: JsonObject[]; readonly stop: JsonObject; readonly usage: Usage },
): JsonObject {
  return {
    id,
    type: "message",
    role: "assistant",
    model,
    content,
    ...stop,
    container: null,
    diagnostics: null,
    usage: { ...encodeUsage(usage), cache_creation: null, inference_geo: null, service_tier: null, speed: null },
  };
}

/** A message whose end is not known yet. */
export const unstopped: JsonObject = { stop_reason: null, stop_sequence: null, stop_details: null };

/**
 * Local models sign nothing. But clients (the AI SDK) send thinking back only with a signature, and a model that is not
 * shown what it thought between two calls of tools thinks it again.
 */
export const localSignature = "bG9jYWw=";

const stopReasons: Readonly<Record<FinishReason, string>> = {
  stop: "end_turn",
  length: "max_tokens",
  "tool-calls": "tool_use",
  "content-filter": "refusal",
};
