import type { Headers } from "../../core/call.ts";
import type { ChatRequest, CompletionRequest, Message, ResponseFormat, SamplingRequest } from "../../core/chat.ts";
import { isObject, type JsonObject } from "../../core/json.ts";
import {
  defined,
  invalidValue,
  quoted,
  readBoolean,
  readInteger,
  readString,
  required,
  unsupportedParameter,
  wrongType,
} from "../fields.ts";
import { decodeKeepAlive } from "../keep-alive.ts";
import { decodeSession } from "../openai-chat/request.ts";
import { decodeTools } from "../openai-chat/tools.ts";
import { decodePriority } from "../priority.ts";
import { decodeImages, decodeMessages } from "./messages.ts";
import { decodeOptions } from "./options.ts";

/** The body of `POST /api/chat`. `model` is the id at the provider. Throws `ApiError` naming the field. */
export function decodeChat(body: JsonObject, model: string, headers: Headers): ChatRequest {
  return { ...decodeCommon(body, model, headers), messages: decodeMessages(body), ...decodeTools(body) };
}

/** The body of `POST /api/generate` that goes through the model's template: one turn of a chat. Throws as `decodeChat`. */
export function decodeGenerate(body: JsonObject, model: string, headers: Headers): ChatRequest {
  if ((readString(body, "template") ?? "") !== "")
    throw unsupportedParameter("template", "is the model's own here; send the whole prompt with `raw: true` instead");
  const system = readString(body, "system") ?? "";
  const user: Message = {
    role: "user",
    content: [...decodeImages(body), { type: "text", text: required(readString(body, "prompt"), "prompt") }],
  };
  const messages: Message[] = [user];
  if (system !== "") messages.unshift({ role: "system", content: [{ type: "text", text: system }] });
  return { ...decodeCommon(body, model, headers), messages, tools: [], toolChoice: "none" };
}

/** The body of `POST /api/generate` whose prompt is the model's input as it stands, or has a gap before `suffix`. Throws as `decodeChat`. */
export function decodeCompletion(body: JsonObject, model: string): CompletionRequest {
  if (decodeImages(body).length > 0)
    throw unsupportedParameter("images", "go with a prompt for the model's template, not with `raw` or `suffix`");
  const format = decodeFormat(body);
  return {
    model,
    prompt: readString(body, "prompt") ?? "",
    ...decodeAsked(body),
    ...defined({ suffix: suffixOf(body) || undefined }),
    ...(format.type === "text" ? {} : { responseFormat: format }),
    extra: {},
  };
}

/** Whether `POST /api/generate` asks for a text completion rather than an answer. */
export function isCompletion(body: JsonObject): boolean {
  return readBoolean(body, "raw") === true || suffixOf(body) !== "";
}

/** What a request only asks for when it says nothing to the model (`messages` or `prompt` empty): its presence in memory. */
export function decodePresence(body: JsonObject): "load" | "unload" | undefined {
  const silent =
    body.messages === undefined || body.messages === null
      ? (body.prompt ?? "") === "" && suffixOf(body) === ""
      : Array.isArray(body.messages) && body.messages.length === 0;
  if (!silent) return undefined;
  return decodeKeepAlive(body) === 0 ? "unload" : "load";
}

/** Ollama streams unless it is told not to. */
export function isStreamed(body: JsonObject): boolean {
  return readBoolean(body, "stream") ?? true;
}

function suffixOf(body: JsonObject): string {
  return readString(body, "suffix") ?? "";
}

function decodeCommon(
  body: JsonObject,
  model: string,
  headers: Headers,
): Omit<ChatRequest, "messages" | "tools" | "toolChoice"> {
  return {
    model,
    parallelToolCalls: true,
    responseFormat: decodeFormat(body),
    stream: isStreamed(body),
    n: 1,
    ...decodeAsked(body),
    ...defined({ reasoningEffort: decodeThink(body), session: decodeSession(body, headers) }),
    // What else stands in the body means something to Ollama only, and other servers refuse what they do not know.
    extra: {},
  };
}

/** What chats and completions share. */
function decodeAsked(body: JsonObject): SamplingRequest & Pick<ChatRequest, "topLogprobs" | "keepAlive" | "priority"> {
  return {
    ...decodeOptions(body),
    ...defined({
      topLogprobs:
        readBoolean(body, "logprobs") === true
          ? (readInteger(body, "top_logprobs", { min: 0, max: 20 }) ?? 0)
          : undefined,
      keepAlive: decodeKeepAlive(body),
      priority: decodePriority(body),
    }),
  };
}

/** Absent: as the model does by itself. Source: Ollama's `ThinkValue` (api/types.go). */
function decodeThink(body: JsonObject): string | undefined {
  const think = body.think ?? undefined;
  if (think === undefined || think === "") return undefined;
  if (typeof think === "boolean") return think ? "medium" : "none";
  if (typeof think !== "string") throw wrongType("think", "true, false or a level", think);
  if (think === "max") return "xhigh";
  if (think === "low" || think === "medium" || think === "high") return think;
  throw invalidValue("think", `must be true, false, low, medium, high or max, not ${quoted(think)}`);
}

function decodeFormat(body: JsonObject): ResponseFormat {
  const format = body.format ?? "";
  if (format === "") return { type: "text" };
  if (format === "json") return { type: "json" };
  if (isObject(format)) return { type: "json-schema", name: "response", schema: format };
  throw invalidValue("format", 'must be "json" or a JSON schema');
}
