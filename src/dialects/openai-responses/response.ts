import type { ChatRequest, FinishReason, Timings, TokenLogprob, Usage } from "../../core/chat.ts";
import type { ApiError } from "../../core/errors.ts";
import { isObject, type Json, type JsonObject } from "../../core/json.ts";
import type { ReplyHead } from "../dialect.ts";

/** What is known of a response at a moment of its life. */
export interface ResponseState {
  readonly status: "in_progress" | "completed" | "incomplete" | "failed";
  /** The output items, each as JSON text. */
  readonly output: readonly string[];
  readonly usage?: Usage;
  readonly timings?: Timings;
  readonly reason?: FinishReason;
  readonly error?: ApiError;
}

/** A response's state → the `response` object as JSON text. */
export type ResponseWriter = (state: ResponseState) => string;

/**
 * Writes the `response` object of lifecycle events, which is the whole of a reply without a stream too, as JSON text.
 * What stays the same over its life (with the tools 17 kB of Codex's) is encoded once.
 */
export function responseWriter(
  head: ReplyHead,
  request: ChatRequest,
  body: JsonObject,
  notes: readonly string[],
): ResponseWriter {
  const identity = inside({ id: head.id, object: "response", created_at: head.created, model: head.model });
  const rest = inside(encodeRequested(request, body, notes));
  return ({ status, output, usage, timings, reason, error }) => {
    const changing = inside({
      status,
      completed_at: status === "completed" && timings !== undefined ? head.created + secondsOf(timings) : null,
      error: error === undefined ? null : { code: errorCode(error), message: error.message },
      incomplete_details:
        status === "incomplete" ? { reason: reason === "length" ? "max_output_tokens" : "content_filter" } : null,
      usage: usage === undefined ? null : encodeUsage(usage),
    });
    return `{${identity},${changing},"output":[${output.join(",")}],${rest}}`;
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

export function encodeUsage({ promptTokens, completionTokens, cachedTokens, reasoningTokens }: Usage): JsonObject {
  return {
    input_tokens: promptTokens,
    // OpenAI's schema requires both; nobody here tells of cache writes.
    input_tokens_details: { cached_tokens: cachedTokens ?? 0, cache_write_tokens: 0 },
    output_tokens: completionTokens,
    output_tokens_details: { reasoning_tokens: reasoningTokens ?? 0 },
    total_tokens: promptTokens + completionTokens,
  };
}

/** The members of an object as JSON text, without its braces. */
function inside(object: JsonObject): string {
  return JSON.stringify(object).slice(1, -1);
}

/** What the call asked for, told back. Open Responses requires every field, and numbers where OpenAI allows null: its defaults. */
function encodeRequested(request: ChatRequest, body: JsonObject, notes: readonly string[]): JsonObject {
  return {
    previous_response_id: null,
    store: body.store === true,
    background: false,
    instructions: stringOr(body.instructions, null),
    max_output_tokens: request.maxTokens ?? null,
    max_tool_calls: Number.isInteger(body.max_tool_calls) ? body.max_tool_calls : null,
    parallel_tool_calls: request.parallelToolCalls,
    reasoning: encodeReasoning(body),
    temperature: request.temperature ?? 1,
    top_p: request.topP ?? 1,
    presence_penalty: request.presencePenalty ?? 0,
    frequency_penalty: request.frequencyPenalty ?? 0,
    top_logprobs: request.topLogprobs ?? 0,
    text: encodeText(request, body),
    tool_choice: body.tool_choice ?? "auto",
    tools: Array.isArray(body.tools) ? body.tools.map(encodeTool) : [],
    truncation: body.truncation === "auto" ? "auto" : "disabled",
    service_tier: "default",
    safety_identifier: stringOr(body.safety_identifier, null),
    prompt_cache_key: stringOr(body.prompt_cache_key, null),
    user: stringOr(body.user, undefined),
    metadata: encodeMetadata(body.metadata),
    // No field of OpenAI's has room for it; SDKs leave fields that they do not know as they are.
    lair: notes.length === 0 ? undefined : { notes: [...notes] },
  };
}

function stringOr<Other>(value: Json | undefined, other: Other): string | Other {
  return typeof value === "string" ? value : other;
}

/** As it was sent, with the fields that the schema requires; credentials for other servers are not repeated. */
function encodeTool(tool: Json): Json {
  if (!isObject(tool)) return tool;
  if (tool.type === "mcp") return { ...tool, authorization: undefined, headers: undefined };
  if (tool.type !== "function") return tool;
  const { description = null, parameters = null, strict = null } = tool;
  return { ...tool, description, parameters, strict };
}

/** Seconds from the call's arrival to its end. */
function secondsOf({ queuedMs, promptMs, completionMs }: Timings): number {
  return Math.round((queuedMs + promptMs + completionMs) / 1000);
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

const efforts: readonly Json[] = ["none", "minimal", "low", "medium", "high", "xhigh", "max"];
const summaries: readonly Json[] = ["auto", "concise", "detailed"];

function encodeReasoning({ reasoning }: JsonObject): JsonObject {
  const { effort = null, summary = null } = isObject(reasoning) ? reasoning : {};
  return { effort: efforts.includes(effort) ? effort : null, summary: summaries.includes(summary) ? summary : null };
}

function encodeText({ responseFormat }: ChatRequest, { text }: JsonObject): JsonObject {
  const verbosity = isObject(text) ? stringOr(text.verbosity, undefined) : undefined;
  return { format: encodeFormat(responseFormat), ...(verbosity === undefined ? {} : { verbosity }) };
}

function encodeFormat(format: ChatRequest["responseFormat"]): JsonObject {
  if (format.type === "json") return { type: "json_object" };
  if (format.type !== "json-schema") return { type: "text" };
  const { name, schema, strict } = format;
  return { type: "json_schema", name, schema, strict: strict ?? false };
}

function encodeMetadata(value: Json | undefined): JsonObject {
  if (!isObject(value)) return {};
  return Object.fromEntries(Object.entries(value).filter(([, text]) => typeof text === "string"));
}
