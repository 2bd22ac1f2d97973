import type { ImagePart, Part } from "../../core/chat.ts";
import { ApiError } from "../../core/errors.ts";
import { isObject, type JsonObject } from "../../core/json.ts";
import {
  asObject,
  invalidValue,
  quoted,
  readArray,
  readObject,
  readString,
  required,
  unsupportedParameter,
} from "../fields.ts";
import { decodeImage, decodeImageUrl, textOf } from "../openai-chat/messages.ts";

/** A block that a model can read: text, an image, or a document of text. Throws `ApiError`. */
export function decodePart(block: JsonObject, at: string): Part[] {
  switch (block.type) {
    case "document":
      return decodeDocument(block, at);
    case "search_result":
      return decodeSearchResult(block, at);
    case "compaction":
      return typeof block.content === "string" ? [{ type: "text", text: block.content }] : [];
    default:
      return decodePlainPart(block, at);
  }
}

/** What may stand inside of a document, too. */
function decodePlainPart(block: JsonObject, at: string): Part[] {
  const type = required(readString(block, "type", at), `${at}.type`);
  if (type === "image") return [decodeSource(block, at)];
  if (type !== "text")
    throw invalidValue(`${at}.type`, `is ${quoted(type)}, which is not a kind of block that can be read here`);
  const text = required(readString(block, "text", at), `${at}.text`);
  return text === "" ? [] : [{ type, text }];
}

/** The text of a block that may hold nothing else. */
export function textIn(block: JsonObject, at: string): string {
  if (block.type !== "text") throw invalidValue(`${at}.type`, "must be text");
  return required(readString(block, "text", at), `${at}.text`);
}

/** What only Anthropic's own servers can read: sealed thoughts, and the calls and results of tools that run there. */
const skipped =
  /^(?:redacted_thinking|server_tool_use|mcp_tool_use|mcp_tool_listing|container_upload|fallback|tool_addition|tool_removal|tool_reference|(?!tool_result$)[a-z_]*tool_result)$/;

/** Whether a block means nothing to a local model. Tools that a search has found in it are noted in `referenced`. */
export function isSkipped(block: JsonObject, referenced: Set<string>): boolean {
  if (typeof block.type !== "string" || !skipped.test(block.type)) return false;
  const found = isObject(block.content) ? block.content.tool_references : undefined;
  for (const reference of Array.isArray(found) ? found : [block])
    if (isObject(reference) && typeof reference.tool_name === "string") referenced.add(reference.tool_name);
  return true;
}

function decodeSource(block: JsonObject, at: string): ImagePart {
  const path = `${at}.source`;
  const source = required(readObject(block, "source", at), path);
  const type = required(readString(source, "type", path), `${path}.type`);
  if (type === "url") return decodeImageUrl(required(readString(source, "url", path), `${path}.url`), `${path}.url`);
  if (type !== "base64") throw unsupportedParameter(`${path}.type`, `${quoted(type)} is not supported; base64 is`);
  const data = required(readString(source, "data", path), `${path}.data`);
  const mediaType = required(readString(source, "media_type", path), `${path}.media_type`);
  return decodeImage(mediaType.toLowerCase(), data, `${path}.data`);
}

/** Documents are read where they hold text: nothing here reads a PDF. */
function decodeDocument(block: JsonObject, at: string): Part[] {
  const path = `${at}.source`;
  const source = required(readObject(block, "source", at), path);
  const type = required(readString(source, "type", path), `${path}.type`);
  const head = [block.title, block.context].filter((text) => typeof text === "string" && text !== "");
  const title: Part[] = head.length === 0 ? [] : [{ type: "text", text: `${head.join("\n")}\n\n` }];
  if (type === "text")
    return [...title, { type: "text", text: required(readString(source, "data", path), `${path}.data`) }];
  if (type === "content") return [...title, ...partsOf(source, path)];
  throw new ApiError(
    "unsupported_parameter",
    `\`${path}.type\` ${quoted(type)} is not supported: documents are read as text only; send their text`,
    { param: `${path}.type` },
  );
}

function decodeSearchResult(block: JsonObject, at: string): Part[] {
  const head = [readString(block, "title", at), readString(block, "source", at)].filter((text) => text !== undefined);
  const text = textOf(partsOf(block, at));
  return [{ type: "text", text: [...head, text].join("\n") }];
}

function partsOf(holder: JsonObject, at: string): Part[] {
  const { content } = holder;
  if (typeof content === "string") return [{ type: "text", text: content }];
  const list = readArray(holder, "content", at) ?? [];
  return list.flatMap((item, index) => {
    const path = `${at}.content[${index}]`;
    return decodePlainPart(asObject(item, path), path);
  });
}
