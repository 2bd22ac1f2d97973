import type { ChatRequest, FinishReason, TokenLogprob, Usage } from "../../core/chat.ts";
import type { ApiError } from "../../core/errors.ts";
import { isObject, type Json, type JsonObject } from "../../core/json.ts";
import type { ReplyHead } from "../dialect.ts";

/** What is known of a response at a moment of its life. */
export interface ResponseState {
  readonly status: "in_progress" | "completed" | "incomplete" | "failed";
  readonly output: JsonObject[];
  readonly usage?: Usage;
  readonly reason?: FinishReason;
  readonly error?: ApiError;
}

/** The `response` object of every lifecycle event, and the whole of a reply without a stream. */
export function encodeResponse(
  head: ReplyHead,
  request: ChatRequest,
  body: JsonObject,
  state: ResponseState,
): JsonObject {
  const { status, output, usage, reason, error } = state;
  return {
    id: head.id,
    object: "response",
    created_at: head.created,
    status,
    background: false,
    error: error === undefined ? null : { code: errorCode(error), message: error.message },
    incomplete_details:
      status === "incomplete" ? { reason: reason === "length" ? "max_output_tokens" : "content_filter" } : null,
    instructions: typeof body.instructions === "string" ? body.instructions : null,
    max_output_tokens: request.maxTokens ?? null,
    model: head.model,
    output,
    parallel_tool_calls: request.parallelToolCalls,
    previous_response_id: null,
    reasoning: { effort: encodeEffort(request.reasoningEffort), summary: null },
    store: false,
    temperature: request.temperature ?? null,
    text: { format: encodeFormat(request) },
    tool_choice:
      typeof request.toolChoice === "string" ? request.toolChoice : { type: "function", name: request.toolChoice.name },
    tools: request.tools.map(({ name, description, parameters, strict }) => ({
      type: "function",
      name,
      ...(description === undefined ? {} : { description }),
      parameters,
      strict: strict ?? false,
    })),
    top_p: request.topP ?? null,
    truncation: "disabled",
    metadata: encodeMetadata(body.metadata),
    ...(usage === undefined ? {} : { usage: encodeUsage(usage) }),
  };
}

/** Log probabilities of an output text; `bytes` must be there in this format. */
export function encodeLogprobs(tokens: readonly TokenLogprob[]): JsonObject[] {
  return tokens.map(({ token, logprob, bytes, top }) => ({
    token,
    logprob,
    bytes: bytes ?? [...Buffer.from(token)],
    top_logprobs: top.map((one) => ({
      token: one.token,
      logprob: one.logprob,
      bytes: one.bytes ?? [...Buffer.from(one.token)],
    })),
  }));
}

function encodeUsage({ promptTokens, completionTokens, cachedTokens, reasoningTokens }: Usage): JsonObject {
  return {
    input_tokens: promptTokens,
    // OpenAI's schema requires both; nobody here tells of cache writes.
    input_tokens_details: { cached_tokens: cachedTokens ?? 0, cache_write_tokens: 0 },
    output_tokens: completionTokens,
    output_tokens_details: { reasoning_tokens: reasoningTokens ?? 0 },
    total_tokens: promptTokens + completionTokens,
  };
}

/**
 * Codex knows `context_length_exceeded` and gives up at once, and backs off on `rate_limit_exceeded`; all others of its
 * kind are `server_error`, which it repeats.
 */
function errorCode(error: ApiError): string {
  if (error.code === "context_length_exceeded") return error.code;
  if (error.type === "rate_limit_error") return "rate_limit_exceeded";
  return error.type === "invalid_request_error" ? "invalid_prompt" : "server_error";
}

function encodeEffort(effort: string | undefined): string | null {
  return effort !== undefined && ["none", "minimal", "low", "medium", "high", "xhigh", "max"].includes(effort)
    ? effort
    : null;
}

function encodeFormat({ responseFormat }: ChatRequest): JsonObject {
  if (responseFormat.type === "json") return { type: "json_object" };
  if (responseFormat.type !== "json-schema") return { type: "text" };
  const { name, schema, strict } = responseFormat;
  return { type: "json_schema", name, schema, strict: strict ?? false };
}

function encodeMetadata(value: Json | undefined): JsonObject {
  if (!isObject(value)) return {};
  return Object.fromEntries(Object.entries(value).filter(([, text]) => typeof text === "string"));
}
