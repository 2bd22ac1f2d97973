import { ApiError } from "../core/errors.ts";
import type { Message } from "../core/chat.ts";
import { isObject, type Json, type JsonObject } from "../core/json.ts";
import { mendMessages } from "../dialects/history.ts";
import { decodeMessages, encodeMessages } from "../dialects/openai-chat/messages.ts";

/**
 * The messages of a chat request whose calls and results no server would take, mended; undefined where there is nothing to
 * mend. Messages that are sound stay as the client wrote them, with all their fields.
 */
export function withMendedCalls(body: JsonObject): Json[] | undefined {
  const given = Array.isArray(body.messages) ? body.messages : [];
  if (!given.some(concernsCalls)) return undefined;
  const messages = decoded(body);
  if (messages === undefined) return undefined;
  const mended = mendMessages(messages);
  if (mended === messages && given.every(isPlain)) return undefined;
  const plain = new Map(messages.map((message, at) => [message, given[at]]));
  return mended.map((message): Json => {
    const original = plain.get(message);
    return original !== undefined && isPlain(original) ? original : (encodeMessages([message])[0] ?? null);
  });
}

/**
 * After a template's refusal ("System message must be at the beginning", as Qwen3.5's says): the messages with one system
 * message at their head. What was said later becomes the user's words, in its place, so that what a cache holds stays good.
 */
export function withOneSystemMessage(error: ApiError, body: JsonObject): JsonObject | undefined {
  const { messages } = body;
  if (!/system (?:message|role|prompt)/i.test(error.message) || !Array.isArray(messages)) return undefined;
  const head = messages.findIndex((message) => !isSystem(message));
  const first = messages.slice(0, Math.max(0, head));
  const rest = messages.slice(first.length);
  if (first.length < 2 && !rest.some(isSystem)) return undefined;
  const joined: JsonObject = { role: "system", content: first.map(textIn).join("\n\n") };
  const later = rest.map((message) => (isSystem(message) ? { ...message, role: "user" } : message));
  return { messages: first.length === 0 ? later : [joined, ...later] };
}

function decoded(body: JsonObject): Message[] | undefined {
  try {
    return decodeMessages(body);
  } catch (thrown) {
    // What we cannot read, the server may.
    if (thrown instanceof ApiError) return undefined;
    throw thrown;
  }
}

function concernsCalls(message: Json): boolean {
  return isObject(message) && (message.role === "tool" || Array.isArray(message.tool_calls));
}

/** Whether its calls have the form that servers insist on; what they say is another question. */
function isPlain(message: Json): boolean {
  if (!isObject(message)) return false;
  if (message.role === "tool") return typeof message.tool_call_id === "string" && message.tool_call_id !== "";
  const calls = Array.isArray(message.tool_calls) ? message.tool_calls : [];
  return calls.every((call) => {
    if (!isObject(call) || !isObject(call.function) || typeof call.id !== "string" || call.id === "") return false;
    return typeof call.function.name === "string" && typeof call.function.arguments === "string";
  });
}

function isSystem(message: Json): message is JsonObject {
  return isObject(message) && (message.role === "system" || message.role === "developer");
}

function textIn(message: Json): string {
  const content = isObject(message) ? message.content : undefined;
  if (typeof content === "string") return content;
  if (!Array.isArray(content)) return "";
  return content.map((part) => (isObject(part) && typeof part.text === "string" ? part.text : "")).join("\n");
}
