import type { Message, Part, ToolCall } from "../../core/chat.ts";
import type { Json, JsonObject } from "../../core/json.ts";
import {
  asObject,
  invalidValue,
  quoted,
  readArray,
  readString,
  required,
  unsupportedParameter,
  wrongType,
} from "../fields.ts";
import { decodeImageUrl } from "../openai-chat/messages.ts";

/** `instructions` and `input` → messages. Throws `ApiError` with the path of the field at fault. */
export function decodeInput(body: JsonObject): Message[] {
  const turns = new Turns();
  const instructions = readString(body, "instructions");
  if (instructions !== undefined && instructions !== "")
    turns.add({ role: "system", content: [{ type: "text", text: instructions }] });
  const input = required(body.input ?? undefined, "input");
  if (typeof input === "string") {
    turns.add({ role: "user", content: [{ type: "text", text: input }] });
    return turns.messages;
  }
  if (!Array.isArray(input)) throw wrongType("input", "a string or an array of items", input);
  if (input.length === 0) throw invalidValue("input", "must hold at least one item");
  for (const [index, item] of input.entries()) addItem(turns, asObject(item, `input[${index}]`), `input[${index}]`);
  return turns.messages;
}

interface AssistantDraft {
  role: "assistant";
  content: Part[];
  reasoning?: string;
  toolCalls: ToolCall[];
}

/** Items are finer than messages: what a model thinks, says and calls in one turn is one message of its. */
class Turns {
  readonly messages: Message[] = [];
  #open: AssistantDraft | undefined;

  add(message: Message): void {
    this.#open = undefined;
    this.messages.push(message);
  }

  think(text: string): void {
    // Thinking comes first: it opens a turn unless one has only thought so far.
    const thoughtOnly =
      this.#open !== undefined && this.#open.content.length === 0 && this.#open.toolCalls.length === 0;
    const turn = thoughtOnly && this.#open !== undefined ? this.#open : this.#begin();
    turn.reasoning = (turn.reasoning ?? "") + text;
  }

  say(content: Part[]): void {
    const fresh = this.#open !== undefined && this.#open.content.length === 0 && this.#open.toolCalls.length === 0;
    (fresh && this.#open !== undefined ? this.#open : this.#begin()).content.push(...content);
  }

  call(call: ToolCall): void {
    (this.#open ?? this.#begin()).toolCalls.push(call);
  }

  #begin(): AssistantDraft {
    this.#open = { role: "assistant", content: [], toolCalls: [] };
    this.messages.push(this.#open);
    return this.#open;
  }
}

/** Items that tell of tools which only OpenAI runs, or point at what was kept there: nothing a local model could read. */
const skippedItems =
  /^(?:item_reference|compaction|additional_tools|tool_search_.*|program.*|mcp_.*|custom_tool_call.*|shell_call.*|apply_patch_call.*|(?:file_search|web_search|computer|image_generation|code_interpreter|local_shell)_call(?:_output)?)$/;

function addItem(turns: Turns, item: JsonObject, at: string): void {
  const type = readString(item, "type", at) ?? "message";
  switch (type) {
    case "message":
      return addMessage(turns, item, at);
    case "reasoning":
      return turns.think(reasoningText(item, at));
    case "function_call":
      return turns.call({
        id: required(readString(item, "call_id", at), `${at}.call_id`),
        name: required(readString(item, "name", at), `${at}.name`),
        arguments: readString(item, "arguments", at) ?? "",
      });
    case "function_call_output":
      return turns.add({
        role: "tool",
        toolCallId: required(readString(item, "call_id", at), `${at}.call_id`),
        content: decodeContent(required(item.output ?? undefined, `${at}.output`), `${at}.output`),
      });
    default:
      if (!skippedItems.test(type))
        throw invalidValue(`${at}.type`, `is ${quoted(type)}, which is not a known kind of item`);
  }
}

function addMessage(turns: Turns, item: JsonObject, at: string): void {
  const role = required(readString(item, "role", at), `${at}.role`);
  const content = decodeContent(required(item.content ?? undefined, `${at}.content`), `${at}.content`);
  if (role === "assistant") turns.say(content);
  else if (role === "system" || role === "developer" || role === "user") turns.add({ role, content });
  else throw invalidValue(`${at}.role`, `must be system, developer, user or assistant, not ${quoted(role)}`);
}

/** The raw thinking where it is given, else its summary. */
function reasoningText(item: JsonObject, at: string): string {
  const textsIn = (key: string): string =>
    (readArray(item, key, at) ?? [])
      .map((part, index) => readString(asObject(part, `${at}.${key}[${index}]`), "text") ?? "")
      .join("\n");
  return textsIn("content") || textsIn("summary");
}

function decodeContent(content: Json, at: string): Part[] {
  if (typeof content === "string") return [{ type: "text", text: content }];
  if (!Array.isArray(content)) throw wrongType(at, "a string or an array of parts", content);
  return content.map((part, index) => decodePart(asObject(part, `${at}[${index}]`), `${at}[${index}]`));
}

function decodePart(part: JsonObject, at: string): Part {
  const type = required(readString(part, "type", at), `${at}.type`);
  switch (type) {
    case "input_text":
    case "output_text":
    case "text":
      return { type: "text", text: required(readString(part, "text", at), `${at}.text`) };
    case "refusal":
      return { type: "text", text: readString(part, "refusal", at) ?? "" };
    case "input_image": {
      const url = readString(part, "image_url", at);
      if (url === undefined)
        throw unsupportedParameter(at, "must bring its image as a data URL in `image_url`; files are not kept here");
      return decodeImageUrl(url, `${at}.image_url`);
    }
    case "input_file":
    case "input_audio":
      throw unsupportedParameter(`${at}.type`, `${type} is not supported; input_text and input_image are`);
    default:
      throw invalidValue(`${at}.type`, `must be input_text, output_text or input_image, not ${quoted(type)}`);
  }
}
