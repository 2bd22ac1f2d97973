import type { Headers } from "../../core/call.ts";
import type { ChatRequest, ResponseFormat } from "../../core/chat.ts";
import type { JsonObject } from "../../core/json.ts";
import {
  defined,
  invalidValue,
  quoted,
  readArray,
  readBoolean,
  readInteger,
  readObject,
  readString,
  required,
  unsupportedParameter,
  without,
} from "../fields.ts";
import { decodeKeepAlive } from "../keep-alive.ts";
import { decodeSampling, decodeSession, samplingFields } from "../openai-chat/request.ts";
import { decodeJsonSchema } from "../openai-chat/response-format.ts";
import { decodePriority } from "../priority.ts";
import { decodeInput } from "./input.ts";
import { decodeTools } from "./tools.ts";

/** The body of `POST /v1/responses`. `model` is the id at the provider. Throws `ApiError` naming the field. */
export function decodeRequest(body: JsonObject, model: string, headers: Headers): ChatRequest {
  refuseStored(body);
  const { tools, toolChoice, names } = decodeTools(body);
  return {
    model,
    messages: decodeInput(body, names),
    tools,
    toolChoice,
    parallelToolCalls: readBoolean(body, "parallel_tool_calls") ?? true,
    responseFormat: decodeFormat(body),
    stream: readBoolean(body, "stream") ?? false,
    n: 1,
    ...decodeSampling(body),
    ...defined({
      maxTokens: readInteger(body, "max_output_tokens", { min: 1 }),
      topLogprobs: decodeLogprobs(body),
      reasoningEffort: readString(readObject(body, "reasoning") ?? {}, "effort", "reasoning"),
      templateVariables: readObject(body, "chat_template_kwargs"),
      truncation: readString(body, "truncation") === "auto" ? ("auto" as const) : undefined,
      session: decodeSession(body, headers),
      keepAlive: decodeKeepAlive(body),
      priority: decodePriority(body),
    }),
    extra: without(body, knownFields),
  };
}

/** Fields that say nothing to a model are known too: another server would refuse them. */
const knownFields: ReadonlySet<string> = new Set([
  ...samplingFields,
  ...`model input instructions tools tool_choice parallel_tool_calls max_tool_calls text stream stream_options
  max_output_tokens top_logprobs include reasoning chat_template_kwargs prompt_cache_key prompt_cache_retention
  prompt_cache_options previous_response_id conversation prompt background store metadata truncation client_metadata
  context_management moderation user safety_identifier service_tier keep_alive`.split(/\s+/),
]);

/** What needs answers to be kept between calls: that is done before, and the call then brings the whole conversation. */
function refuseStored(body: JsonObject): void {
  for (const key of ["previous_response_id", "conversation", "prompt"]) {
    if ((body[key] ?? undefined) !== undefined)
      throw unsupportedParameter(key, "is not supported here; send the whole conversation as `input`");
  }
  if (readBoolean(body, "background") === true)
    throw unsupportedParameter("background", "is not supported here; leave it out");
}

function decodeFormat(body: JsonObject): ResponseFormat {
  const format = readObject(readObject(body, "text") ?? {}, "format", "text");
  if (format === undefined) return { type: "text" };
  const type = required(readString(format, "type", "text.format"), "text.format.type");
  if (type === "text") return { type };
  if (type === "json_object") return { type: "json" };
  if (type === "json_schema") return decodeJsonSchema(format, "text.format");
  throw invalidValue("text.format.type", `must be text, json_object or json_schema, not ${quoted(type)}`);
}

function decodeLogprobs(body: JsonObject): number | undefined {
  const top = readInteger(body, "top_logprobs", { min: 0, max: 20 });
  const wanted = readArray(body, "include")?.includes("message.output_text.logprobs") === true;
  return wanted || (top ?? 0) > 0 ? (top ?? 0) : undefined;
}
