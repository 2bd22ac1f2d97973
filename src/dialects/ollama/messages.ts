import type { ImagePart, Message, Part, ToolCall } from "../../core/chat.ts";
import { ApiError } from "../../core/errors.ts";
import type { Json, JsonObject } from "../../core/json.ts";
import { asObject, invalidValue, quoted, readArray, readObject, readString, required, wrongType } from "../fields.ts";
import { decodeImageUrl } from "../openai-chat/messages.ts";

/** `messages` of `/api/chat`. Throws `ApiError` with the path of the field at fault. */
export function decodeMessages(body: JsonObject): Message[] {
  const list = required(readArray(body, "messages"), "messages");
  if (list.length === 0) throw invalidValue("messages", "must hold at least one message");
  const unanswered: ToolCall[] = [];
  return list.map((item, index) => decodeMessage(asObject(item, `messages[${index}]`), index, unanswered));
}

/** A list of images, each the base64 of a file, which its first bytes tell the kind of. Throws `invalid_image`. */
export function decodeImages(holder: JsonObject, at = ""): ImagePart[] {
  const images = readArray(holder, "images", at) ?? [];
  return images.map((image, index) => decodeImage(image, `${at === "" ? "" : `${at}.`}images[${index}]`));
}

function decodeMessage(item: JsonObject, index: number, unanswered: ToolCall[]): Message {
  const at = `messages[${index}]`;
  const role = required(readString(item, "role", at), `${at}.role`);
  const text = readString(item, "content", at) ?? "";
  // Before the text, where Ollama puts them.
  const content: Part[] = decodeImages(item, at);
  if (text !== "" || (content.length === 0 && role !== "assistant")) content.push({ type: "text", text });
  switch (role) {
    case "system":
    case "developer":
    case "user":
      return { role, content };
    case "assistant": {
      const toolCalls = decodeCalls(item, index);
      unanswered.push(...toolCalls);
      const reasoning = readString(item, "thinking", at) ?? "";
      return { role, content, toolCalls, ...(reasoning === "" ? {} : { reasoning }) };
    }
    case "tool":
      return { role, content, ...answered(item, index, unanswered) };
    default:
      throw invalidValue(`${at}.role`, `must be system, user, assistant or tool, not ${quoted(role)}`);
  }
}

/** Which call a result belongs to: the one that its id names, else the first open one of its name, else the first open one. */
function answered(
  item: JsonObject,
  index: number,
  unanswered: ToolCall[],
): { readonly toolCallId: string; readonly name?: string } {
  const at = `messages[${index}]`;
  const name = readString(item, "tool_name", at) ?? readString(item, "name", at);
  const id = readString(item, "tool_call_id", at) ?? "";
  const call =
    id === ""
      ? (unanswered.find((one) => one.name === name) ?? unanswered[0])
      : unanswered.find((one) => one.id === id);
  if (call !== undefined) unanswered.splice(unanswered.indexOf(call), 1);
  const known = name ?? call?.name;
  return { toolCallId: id || (call?.id ?? `call_${index}`), ...(known === undefined ? {} : { name: known }) };
}

/** Ids were added late, and most clients do not send them back: those made up here are the same at every repetition of the history. */
function decodeCalls(item: JsonObject, message: number): ToolCall[] {
  const at = `messages[${message}]`;
  return (readArray(item, "tool_calls", at) ?? []).map((value, index) => {
    const path = `${at}.tool_calls[${index}]`;
    const call = asObject(value, path);
    const described = required(readObject(call, "function", path), `${path}.function`);
    const name = required(readString(described, "name", `${path}.function`), `${path}.function.name`);
    const given = described.arguments ?? {};
    const id = readString(call, "id", path) || `call_${message}_${index}`;
    return { id, name, arguments: typeof given === "string" ? given : JSON.stringify(given) };
  });
}

/** The first bytes of image files, in base64. */
const beginnings: readonly (readonly [string, string])[] = [
  ["iVBORw0KGgo", "image/png"],
  ["/9j/", "image/jpeg"],
  ["R0lGOD", "image/gif"],
  ["UklGR", "image/webp"],
  ["Qk", "image/bmp"],
];

function decodeImage(image: Json, at: string): ImagePart {
  if (typeof image !== "string") throw wrongType(at, "the base64 of an image", image);
  if (image.startsWith("data:")) return decodeImageUrl(image, at);
  const kind = beginnings.find(([beginning]) => image.startsWith(beginning))?.[1];
  if (kind === undefined)
    throw new ApiError("invalid_image", `\`${at}\` is not the base64 of a PNG, JPEG, GIF, WebP or BMP file`, {
      param: at,
    });
  return decodeImageUrl(`data:${kind};base64,${image}`, at);
}
