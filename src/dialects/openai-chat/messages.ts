import type { ImagePart, Message, Part, ToolCall } from "../../core/chat.ts";
import { ApiError } from "../../core/errors.ts";
import type { Json, JsonObject } from "../../core/json.ts";
import {
  asObject,
  invalidValue,
  quoted,
  readArray,
  readObject,
  readString,
  required,
  unsupportedParameter,
  wrongType,
} from "../fields.ts";

/** `messages` of a chat request. Throws `ApiError` with the path of the field at fault. */
export function decodeMessages(body: JsonObject): Message[] {
  const list = required(readArray(body, "messages"), "messages");
  if (list.length === 0) throw invalidValue("messages", "must hold at least one message");
  const messages: Message[] = [];
  for (const [index, item] of list.entries()) {
    const at = `messages[${index}]`;
    messages.push(decodeMessage(asObject(item, at), at, messages));
  }
  return messages;
}

/** An image given by its URL: only `data:` URLs are taken. Throws `invalid_image`. */
export function decodeImageUrl(url: string, param: string): ImagePart {
  if (!url.startsWith("data:")) {
    const rule = "must be a data URL (data:image/png;base64,…): images are not fetched from other addresses";
    throw new ApiError("invalid_image", `\`${param}\` ${rule}`, { param });
  }
  const comma = url.indexOf(",");
  const [mediaType = "", ...attributes] = url
    .slice(5, comma === -1 ? 5 : comma)
    .toLowerCase()
    .split(";");
  if (comma === -1 || attributes.at(-1) !== "base64") {
    throw new ApiError("invalid_image", `\`${param}\` is no base64 data URL (data:image/png;base64,…)`, { param });
  }
  return decodeImage(mediaType, url.slice(comma + 1), param);
}

/** An image as its type, e.g. `image/png`, and its bytes in base64. Throws `invalid_image`. */
export function decodeImage(mediaType: string, bytes: string, param: string): ImagePart {
  if (!mediaType.startsWith("image/")) {
    throw new ApiError("invalid_image", `\`${param}\` is of type ${quoted(mediaType)}, not an image`, { param });
  }
  const base64 = bytes.replace(/\s+/g, "");
  if (base64 === "" || !/^[A-Za-z0-9+/]+={0,2}$/.test(base64)) {
    throw new ApiError("invalid_image", `\`${param}\` holds no valid base64`, { param });
  }
  return { type: "image", mediaType, base64 };
}

/** All text of a content, joined as it stands. */
export function textOf(content: readonly Part[]): string {
  return content.map((part) => (part.type === "text" ? part.text : "")).join("");
}

function decodeMessage(item: JsonObject, at: string, before: Message[]): Message {
  const role = required(readString(item, "role", at), `${at}.role`);
  switch (role) {
    case "system":
    case "developer":
      return { role, content: requiredContent(item, at) };
    case "user": {
      const name = readString(item, "name", at);
      return { role, content: requiredContent(item, at), ...(name === undefined ? {} : { name }) };
    }
    case "assistant":
      return decodeAssistant(item, at);
    case "tool":
    case "function":
      return decodeToolResult(item, at, role, before);
    default:
      throw invalidValue(`${at}.role`, `must be system, developer, user, assistant or tool, not ${quoted(role)}`);
  }
}

function requiredContent(item: JsonObject, at: string): Part[] {
  if (item.content === null) throw wrongType(`${at}.content`, "a string or an array of parts", null);
  return required(decodeContent(item.content, `${at}.content`), `${at}.content`);
}

function decodeContent(content: Json | undefined, at: string): Part[] | undefined {
  if (content === undefined) return undefined;
  if (typeof content === "string") return [{ type: "text", text: content }];
  if (!Array.isArray(content)) throw wrongType(at, "a string or an array of parts", content);
  return content.map((part, index) => decodePart(part, `${at}[${index}]`));
}

function decodePart(item: Json, at: string): Part {
  if (typeof item === "string") return { type: "text", text: item };
  const part = asObject(item, at);
  const type = required(readString(part, "type", at), `${at}.type`);
  switch (type) {
    case "text":
      return { type, text: required(readString(part, "text", at), `${at}.text`) };
    case "refusal":
      return { type: "text", text: readString(part, "refusal", at) ?? "" };
    case "image_url": {
      // Some clients give the URL itself where OpenAI has an object around it.
      if (typeof part.image_url === "string") return decodeImageUrl(part.image_url, `${at}.image_url`);
      const image = required(readObject(part, "image_url", at), `${at}.image_url`);
      const param = `${at}.image_url.url`;
      return decodeImageUrl(required(readString(image, "url", `${at}.image_url`), param), param);
    }
    case "input_audio":
    case "file":
    case "video_url":
      throw unsupportedParameter(`${at}.type`, `${type} is not supported; text and image_url are`);
    default:
      throw invalidValue(`${at}.type`, `must be text or image_url, not ${quoted(type)}`);
  }
}

function decodeAssistant(item: JsonObject, at: string): Message {
  const content = decodeContent(item.content ?? undefined, `${at}.content`) ?? [];
  const refusal = readString(item, "refusal", at);
  if (refusal !== undefined && textOf(content) === "") content.push({ type: "text", text: refusal });
  const calls = readArray(item, "tool_calls", at) ?? [];
  const toolCalls = calls.map((call, index) =>
    decodeToolCall(asObject(call, `${at}.tool_calls[${index}]`), `${at}.tool_calls[${index}]`),
  );
  const legacy = readObject(item, "function_call", at);
  if (legacy !== undefined && toolCalls.length === 0)
    toolCalls.push(decodeFunction(legacy, `${at}.function_call`, legacyId(at)));
  // Clients send thinking back under the name by which they read it; other types under these names mean nothing here.
  const reasoning = [item.reasoning_content, item.reasoning].find((value) => typeof value === "string" && value !== "");
  return { role: "assistant", content, toolCalls, ...(typeof reasoning === "string" ? { reasoning } : {}) };
}

function decodeToolCall(call: JsonObject, at: string): ToolCall {
  const id = readString(call, "id", at);
  const described = required(readObject(call, "function", at), `${at}.function`);
  return decodeFunction(described, `${at}.function`, id === undefined || id === "" ? legacyId(at) : id);
}

function decodeFunction(described: JsonObject, at: string, id: string): ToolCall {
  const name = readString(described, "name", at) ?? "";
  // Whatever text a model once wrote comes back here, broken JSON too; some clients send the object itself.
  const given = described.arguments ?? "";
  return { id, name, arguments: typeof given === "string" ? given : JSON.stringify(given) };
}

function decodeToolResult(item: JsonObject, at: string, role: "tool" | "function", before: Message[]): Message {
  const content = decodeContent(item.content ?? undefined, `${at}.content`) ?? [];
  const name = readString(item, "name", at);
  // What an interrupted turn or a trimmed conversation has lost is mended with the whole history (history.ts).
  const id = readString(item, "tool_call_id", at) ?? (role === "function" ? lastCallOf(name, before) : undefined);
  return {
    role: "tool",
    content,
    toolCallId: id ?? "",
    ...(name === undefined ? {} : { name }),
  };
}

function lastCallOf(name: string | undefined, before: Message[]): string | undefined {
  const calls = before.flatMap((message) => (message.role === "assistant" ? message.toolCalls : []));
  return calls.findLast((call) => call.name === name)?.id;
}

/** `messages[3].tool_calls[0]` → `call_3_0`: the same at every repetition of the history, as prefix caches need it. */
function legacyId(at: string): string {
  return `call_${(at.match(/\d+/g) ?? []).join("_")}`;
}

/** Canonical messages → OpenAI's. `developer` is written `system`, which every server and chat template knows. */
export function encodeMessages(messages: readonly Message[]): JsonObject[] {
  return messages.map((message) => {
    switch (message.role) {
      case "system":
      case "developer":
        return { role: "system", content: encodeContent(message.content) };
      case "user":
        return {
          role: "user",
          content: encodeContent(message.content),
          ...(message.name === undefined ? {} : { name: message.name }),
        };
      case "tool":
        return encodeToolResult(message);
      case "assistant":
        return encodeAssistant(message);
    }
  });
}

function encodeContent(content: readonly Part[]): Json {
  const [first] = content;
  if (first === undefined) return "";
  if (content.length === 1 && first.type === "text") return first.text;
  return content.map((part): JsonObject =>
    part.type === "text"
      ? { type: "text", text: part.text }
      : { type: "image_url", image_url: { url: `data:${part.mediaType};base64,${part.base64}` } },
  );
}

function encodeToolResult(message: Extract<Message, { role: "tool" }>): JsonObject {
  const name = message.name === undefined ? {} : { name: message.name };
  return { role: "tool", tool_call_id: message.toolCallId, content: encodeContent(message.content), ...name };
}

function encodeAssistant(message: Extract<Message, { role: "assistant" }>): JsonObject {
  // "" and not null: Ollama refuses null where there are no calls, and some chat templates print "None".
  const encoded: JsonObject = { role: "assistant", content: encodeContent(message.content) };
  if (message.reasoning !== undefined) encoded.reasoning_content = message.reasoning;
  if (message.toolCalls.length > 0) {
    encoded.tool_calls = message.toolCalls.map((call) => ({
      id: call.id,
      type: "function",
      function: { name: call.name, arguments: call.arguments },
    }));
  }
  return encoded;
}
