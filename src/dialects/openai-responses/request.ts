import type { Headers } from "../../core/call.ts";
import type { ChatRequest, ResponseFormat, Tool } from "../../core/chat.ts";
import type { Json, JsonObject } from "../../core/json.ts";
import {
  asObject,
  defined,
  invalidValue,
  quoted,
  readArray,
  readBoolean,
  readInteger,
  readNumber,
  readObject,
  readString,
  required,
  unsupportedParameter,
  without,
} from "../fields.ts";
import { decodeSession } from "../openai-chat/request.ts";
import { decodeJsonSchema } from "../openai-chat/response-format.ts";
import { choose, decodeFunctionTool, type ToolSet } from "../openai-chat/tools.ts";
import { decodeInput } from "./input.ts";

/** The body of `POST /v1/responses`. `model` is the id at the provider. Throws `ApiError` naming the field. */
export function decodeRequest(body: JsonObject, model: string, headers: Headers): ChatRequest {
  refuseStored(body);
  return {
    model,
    messages: decodeInput(body),
    ...decodeTools(body),
    parallelToolCalls: readBoolean(body, "parallel_tool_calls") ?? true,
    responseFormat: decodeFormat(body),
    stream: readBoolean(body, "stream") ?? false,
    n: 1,
    stop: [],
    ...defined({
      maxTokens: readInteger(body, "max_output_tokens", { min: 1 }),
      temperature: readNumber(body, "temperature", { min: 0, max: 2 }),
      topP: readNumber(body, "top_p", { min: 0, max: 1 }),
      topLogprobs: decodeLogprobs(body),
      reasoningEffort: readString(readObject(body, "reasoning") ?? {}, "effort", "reasoning"),
      session: decodeSession(body, headers),
    }),
    extra: without(body, knownFields),
  };
}

const knownFields: ReadonlySet<string> = new Set(
  `model input instructions tools tool_choice parallel_tool_calls text stream stream_options max_output_tokens temperature top_p top_logprobs
  include reasoning prompt_cache_key previous_response_id conversation background store metadata truncation client_metadata user
  safety_identifier service_tier`.split(/\s+/),
);

/** What needs answers to be kept between calls; `store` itself is taken and means nothing. */
function refuseStored(body: JsonObject): void {
  for (const key of ["previous_response_id", "conversation", "prompt"]) {
    if ((body[key] ?? undefined) !== undefined) {
      throw unsupportedParameter(key, "is not supported: answers are not kept; send the whole conversation as `input`");
    }
  }
  if (readBoolean(body, "background") === true)
    throw unsupportedParameter("background", "is not supported; leave it out");
}

/** Function tools. Tools that OpenAI runs itself (web_search, …) and namespaces, which Codex always sends, are left out. */
function decodeTools(body: JsonObject): ToolSet {
  const tools: Tool[] = [];
  for (const [index, item] of (readArray(body, "tools") ?? []).entries()) {
    const at = `tools[${index}]`;
    const tool = asObject(item, at);
    const type = required(readString(tool, "type", at), `${at}.type`);
    if (type === "function") tools.push(decodeFunctionTool(tool, at));
  }
  const choice: Json | undefined = body.tool_choice ?? undefined;
  return choice === undefined
    ? { tools, toolChoice: tools.length === 0 ? "none" : "auto" }
    : choose(choice, "tool_choice", tools);
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
