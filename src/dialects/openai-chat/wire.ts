import type { FinishReason, Timings, TokenLogprob, Usage } from "../../core/chat.ts";
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
  const { promptTokens, completionTokens, cachedTokens } = usage;
  const details = encodeDetails(usage);
  return {
    prompt_tokens: promptTokens,
    completion_tokens: completionTokens,
    total_tokens: promptTokens + completionTokens,
    ...(cachedTokens === undefined ? {} : { prompt_tokens_details: { cached_tokens: cachedTokens } }),
    ...(details === null ? {} : { completion_tokens_details: details }),
  };
}

function encodeDetails({ reasoningTokens, acceptedDraftTokens, rejectedDraftTokens }: Usage): JsonObject | null {
  const details = {
    ...(reasoningTokens === undefined ? {} : { reasoning_tokens: reasoningTokens }),
    ...(acceptedDraftTokens === undefined ? {} : { accepted_prediction_tokens: acceptedDraftTokens }),
    ...(rejectedDraftTokens === undefined ? {} : { rejected_prediction_tokens: rejectedDraftTokens }),
  };
  return Object.keys(details).length === 0 ? null : details;
}

/** `timings` as llama-server names them (`result_timings`), with what it does not tell: the queue, and the cache's miss. */
export function encodeTimings(usage: Usage, timings: Timings): JsonObject {
  const { promptMs, completionMs, queuedMs, cacheMiss } = timings;
  const cached = usage.cachedTokens ?? 0;
  const read = usage.promptTokens - cached;
  const accepted = usage.acceptedDraftTokens;
  return {
    cache_n: cached,
    prompt_n: read,
    prompt_ms: rounded(promptMs),
    prompt_per_token_ms: rounded(promptMs / Math.max(1, read)),
    prompt_per_second: perSecond(read, promptMs),
    predicted_n: usage.completionTokens,
    predicted_ms: rounded(completionMs),
    predicted_per_token_ms: rounded(completionMs / Math.max(1, usage.completionTokens)),
    predicted_per_second: perSecond(usage.completionTokens, completionMs),
    ...(accepted === undefined
      ? {}
      : { draft_n: accepted + (usage.rejectedDraftTokens ?? 0), draft_n_accepted: accepted }),
    queued_ms: rounded(queuedMs),
    ...(cacheMiss === undefined ? {} : { cache_miss: { ...cacheMiss } }),
  };
}

function perSecond(count: number, ms: number): number {
  return ms <= 0 ? 0 : rounded((count * 1000) / ms);
}

function rounded(value: number): number {
  return Math.round(value * 1000) / 1000;
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
