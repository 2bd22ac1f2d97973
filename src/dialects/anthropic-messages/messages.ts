import type { ImagePart, Message, Part, ToolCall } from "../../core/chat.ts";
import type { Json, JsonObject } from "../../core/json.ts";
import { asObject, invalidValue, quoted, readArray, readBoolean, readString, required, wrongType } from "../fields.ts";
import { textOf } from "../openai-chat/messages.ts";
import { decodePart, isSkipped, textIn } from "./parts.ts";

/** A conversation, and the names of the tools that a search in it has found. */
export interface Conversation {
  readonly messages: Message[];
  readonly referenced: ReadonlySet<string>;
}

/** `system` and `messages`. Throws `ApiError` with the path of the field at fault. */
export function decodeMessages(body: JsonObject): Conversation {
  const list = required(readArray(body, "messages"), "messages");
  if (list.length === 0) throw invalidValue("messages", "must hold at least one message");
  const referenced = new Set<string>();
  const messages = decodeSystem(body.system ?? undefined, "system");
  for (const [index, item] of list.entries()) {
    const at = `messages[${index}]`;
    messages.push(...decodeMessage(asObject(item, at), at, referenced));
  }
  return { messages, referenced };
}

/**
 * A line of Claude Code's that is another one in every request: with it no prompt would begin like the one before, and
 * every one would be read anew. llama-server takes it out too.
 */
const billingLine = /^x-anthropic-billing-header:[^\n]*\n*/;

function decodeSystem(system: Json | undefined, at: string): Message[] {
  const texts = blocksOf(system ?? [], at).map(([block, path]) => textIn(block, path).replace(billingLine, ""));
  const content = joined(texts.filter((text) => text !== "").map((text) => ({ type: "text", text })));
  return content.length === 0 ? [] : [{ role: "system", content }];
}

function decodeMessage(item: JsonObject, at: string, referenced: Set<string>): Message[] {
  const role = required(readString(item, "role", at), `${at}.role`);
  const content = required(item.content ?? undefined, `${at}.content`);
  switch (role) {
    case "user":
      return typeof content === "string"
        ? [{ role, content: [{ type: "text", text: content }] }]
        : decodeUser(content, `${at}.content`, referenced);
    case "assistant":
      return [decodeAssistant(content, `${at}.content`, referenced)];
    case "system":
      // Claude Code's remarks between the turns: they stay where they are.
      return decodeSystem(content, `${at}.content`);
    default:
      throw invalidValue(`${at}.role`, `must be user, assistant or system, not ${quoted(role)}`);
  }
}

/**
 * Results of tools come first, as their calls came last; then what the user says. Images of results go with the user's
 * words: hardly any server takes them in the message of a tool.
 */
function decodeUser(content: Json, at: string, referenced: Set<string>): Message[] {
  const results: Message[] = [];
  const parts: Part[] = [];
  for (const [block, path] of blocksOf(content, at)) {
    if (block.type === "tool_result") {
      const { message, images } = decodeResult(block, path, referenced);
      results.push(message);
      if (images.length > 0) parts.push({ type: "text", text: imagesOf(message.toolCallId) }, ...images);
    } else if (!isSkipped(block, referenced)) parts.push(...decodePart(block, path));
  }
  return parts.length === 0 ? results : [...results, { role: "user", content: joined(parts) }];
}

/** Blocks of nothing but text as one text, for there are servers and templates that take no others. */
function joined(parts: Part[]): Part[] {
  if (parts.length < 2 || parts.some((part) => part.type !== "text")) return parts;
  return [{ type: "text", text: parts.map((part) => (part.type === "text" ? part.text : "")).join("\n") }];
}

function imagesOf(callId: string): string {
  return `The result of the tool call ${callId} holds:`;
}

interface ToolResult {
  readonly message: Extract<Message, { role: "tool" }>;
  readonly images: ImagePart[];
}

function decodeResult(block: JsonObject, at: string, referenced: Set<string>): ToolResult {
  const toolCallId = required(readString(block, "tool_use_id", at), `${at}.tool_use_id`);
  const { content } = block;
  const parts: Part[] =
    typeof content === "string"
      ? [{ type: "text", text: content }]
      : blocksOf(content ?? [], `${at}.content`).flatMap(([part, path]) =>
          isSkipped(part, referenced) ? [] : decodePart(part, path),
        );
  const images = parts.filter((part) => part.type === "image");
  const texts = parts.filter((part) => part.type === "text");
  if (readBoolean(block, "is_error", at) === true && !tellsFailure(texts))
    texts.unshift({ type: "text", text: "Error:" });
  if (texts.length === 0 && images.length > 0) texts.push({ type: "text", text: "(see the images below)" });
  return { message: { role: "tool", toolCallId, content: joined(texts) }, images };
}

/** No other format has a flag for it: a model must read that the call failed. */
function tellsFailure(texts: readonly Part[]): boolean {
  return /error|fail/i.test(textOf(texts).slice(0, 500));
}

function decodeAssistant(content: Json, at: string, referenced: Set<string>): Message {
  if (typeof content === "string") return { role: "assistant", content: said(content), toolCalls: [] };
  const parts: Part[] = [];
  const toolCalls: ToolCall[] = [];
  const thoughts: string[] = [];
  for (const [block, path] of blocksOf(content, at)) {
    if (block.type === "tool_use") toolCalls.push(decodeCall(block, path));
    else if (block.type === "thinking") thoughts.push(readString(block, "thinking", path) ?? "");
    else if (!isSkipped(block, referenced)) parts.push(...decodePart(block, path));
  }
  const reasoning = thoughts.filter((thought) => thought !== "").join("\n\n");
  return { role: "assistant", content: parts, toolCalls, ...(reasoning === "" ? {} : { reasoning }) };
}

function said(text: string): Part[] {
  return text === "" ? [] : [{ type: "text", text }];
}

function decodeCall(block: JsonObject, at: string): ToolCall {
  const name = required(readString(block, "name", at), `${at}.name`);
  const id = required(readString(block, "id", at), `${at}.id`);
  const { input = {} } = block;
  return { id, name, arguments: typeof input === "string" ? input : JSON.stringify(input ?? {}) };
}

/** The blocks of a content with their paths. A string among them is one of text. */
function blocksOf(content: Json, at: string): [block: JsonObject, path: string][] {
  if (typeof content === "string") return [[{ type: "text", text: content }, at]];
  if (!Array.isArray(content)) throw wrongType(at, "a string or an array of blocks", content);
  return content.map((block, index) => {
    const path = `${at}[${index}]`;
    return [typeof block === "string" ? { type: "text", text: block } : asObject(block, path), path];
  });
}
