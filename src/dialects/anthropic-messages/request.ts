import type { Headers } from "../../core/call.ts";
import type { ChatRequest, ResponseFormat } from "../../core/chat.ts";
import { isObject, type Json, type JsonObject } from "../../core/json.ts";
import {
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
  wrongType,
} from "../fields.ts";
import { decodeKeepAlive } from "../keep-alive.ts";
import { decodeSession } from "../openai-chat/request.ts";
import { decodeJsonSchema } from "../openai-chat/response-format.ts";
import { decodePriority } from "../priority.ts";
import { decodeMessages } from "./messages.ts";
import { decodeTools } from "./tools.ts";

/**
 * The body of `POST /v1/messages` and of `/v1/messages/count_tokens`. `model` is the id at the provider. Throws `ApiError`
 * naming the field. Fields that are not known mean nothing: new betas add some every month, and no other server takes them.
 */
export function decodeRequest(body: JsonObject, model: string, headers: Headers): ChatRequest {
  const { messages, referenced } = decodeMessages(body);
  return {
    model,
    messages,
    ...decodeTools(body, referenced),
    responseFormat: decodeFormat(body),
    stream: readBoolean(body, "stream") ?? false,
    n: 1,
    stop: decodeStop(body),
    ...defined({
      maxTokens: readInteger(body, "max_tokens", { min: 1 }),
      temperature: readNumber(body, "temperature", { min: 0, max: 2 }),
      topP: readNumber(body, "top_p", { min: 0, max: 1 }),
      topK: readInteger(body, "top_k", { min: -1 }),
      reasoningEffort: decodeEffort(body),
      templateVariables: readObject(body, "chat_template_kwargs"),
      session: sessionOf(body, headers),
      keepAlive: decodeKeepAlive(body),
      priority: decodePriority(body),
    }),
    extra: {},
  };
}

/** `output_config.format`, or, as the beta had it, `output_format`. */
function decodeFormat(body: JsonObject): ResponseFormat {
  const nested = readObject(readObject(body, "output_config") ?? {}, "format", "output_config");
  const format = nested ?? readObject(body, "output_format");
  if (format === undefined) return { type: "text" };
  const at = nested === undefined ? "output_format" : "output_config.format";
  const type = required(readString(format, "type", at), `${at}.type`);
  if (type !== "json_schema") throw invalidValue(`${at}.type`, `must be json_schema, not ${quoted(type)}`);
  return decodeJsonSchema(format, at);
}

function decodeStop(body: JsonObject): string[] {
  const list = readArray(body, "stop_sequences") ?? [];
  if (list.length > 32) throw invalidValue("stop_sequences", "may hold at most 32 strings");
  return list.map((item, index) => textAt(item, `stop_sequences[${index}]`)).filter((stop) => stop !== "");
}

function textAt(value: Json, at: string): string {
  if (typeof value === "string") return value;
  throw wrongType(at, "a string", value);
}

/** Budgets in tokens up to which thinking is of little and of medium effort. */
const lowBudget = 4096;
const mediumBudget = 16_384;

/**
 * How hard to think. `high` is Anthropic's default, so that it asks for nothing: Claude Code sends it with every request,
 * also to models that do not think.
 */
function decodeEffort(body: JsonObject): string | undefined {
  const thinking = readObject(body, "thinking") ?? {};
  const type = readString(thinking, "type", "thinking");
  if (type === "disabled") return "none";
  const effort = readString(readObject(body, "output_config") ?? {}, "effort", "output_config");
  if (effort !== undefined && effort !== "high") return effort === "max" ? "xhigh" : effort;
  const budget = readInteger(thinking, "budget_tokens", {}, "thinking");
  if (type !== "enabled" || budget === undefined) return undefined;
  if (budget < lowBudget) return "low";
  return budget < mediumBudget ? "medium" : "high";
}

/** Claude Code names its session in a header, and in a text of JSON; others put any text there. */
function sessionOf(body: JsonObject, headers: Headers): string | undefined {
  const user = isObject(body.metadata) ? body.metadata.user_id : undefined;
  const key = headers["x-claude-code-session-id"] ?? decodeSession(body, headers) ?? sessionIn(user);
  return key === undefined || key === "" ? undefined : key.slice(0, 256);
}

function sessionIn(user: Json | undefined): string | undefined {
  if (typeof user !== "string") return undefined;
  return /"session_id":"([^"\\]{1,256})"/.exec(user)?.[1];
}
