import type { FinishReason, TokenLogprob, Usage } from "../../core/chat.ts";
import type { ApiError } from "../../core/errors.ts";
import type { JsonObject } from "../../core/json.ts";
import type { Frames } from "../dialect.ts";

/** The words of OpenAI's chat for the reasons of an end. */
export const finishReasons: Readonly<Record<FinishReason, string>> = {
  stop: "stop",
  length: "length",
  "tool-calls": "tool_calls",
  "content-filter": "content_filter",
};

export function encodeUsage(usage: Usage): JsonObject {
  const { promptTokens, completionTokens, cachedTokens, reasoningTokens } = usage;
  return {
    prompt_tokens: promptTokens,
    completion_tokens: completionTokens,
    total_tokens: promptTokens + completionTokens,
    ...(cachedTokens === undefined ? {} : { prompt_tokens_details: { cached_tokens: cachedTokens } }),
    ...(reasoningTokens === undefined ? {} : { completion_tokens_details: { reasoning_tokens: reasoningTokens } }),
  };
}

export function encodeLogprobs(tokens: readonly TokenLogprob[]): JsonObject {
  const content = tokens.map(({ token, logprob, bytes, top }) => ({
    token,
    logprob,
    bytes,
    top_logprobs: top.map((one) => ({ ...one })),
  }));
  return { content, refusal: null };
}

/** An id for a tool call whose engine gave none: unique by the reply's own id, and the same each time it is encoded. */
export function inventCallId(replyId: string, choice: number, index: number): string {
  return `call_${replyId.replace(/^[a-z]+[-_]/, "").replace(/[^A-Za-z0-9]/g, "")}_${choice}_${index}`;
}

/**
 * An error after the head was sent, then the end. OpenAI clients read the `error` key of a frame; opencode retries or
 * stops by its `type` and `code`.
 */
export function encodeStreamError(error: ApiError): string {
  return `data: ${JSON.stringify(error.toJson())}\n\ndata: [DONE]\n\n`;
}

/** Frames whose heartbeat is a comment: opencode's watchdog counts bytes, and no parser takes it for an event. */
export function withComments(frames: AsyncIterable<string>): Frames {
  return { [Symbol.asyncIterator]: () => frames[Symbol.asyncIterator](), heartbeat: () => ": ping\n\n" };
}
