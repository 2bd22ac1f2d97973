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
import { decodeOpaque } from "../opaque-text.ts";
import { decodeImageUrl } from "../openai-chat/messages.ts";
import type { ToolNames } from "./tool-names.ts";

/**
 * `instructions` and `input` → messages, in which tools are called by the functions' names in `names`. Throws `ApiError`
 * with the path of the field at fault.
 */
export function decodeInput(body: JsonObject, names: ToolNames): Message[] {
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
  const reader: Reader = { turns, names };
  for (const [index, item] of input.entries()) addItem(reader, asObject(item, `input[${index}]`), `input[${index}]`);
  return turns.messages;
}

interface Reader {
  readonly turns: Turns;
  readonly names: ToolNames;
}

interface AssistantDraft {
  role: "assistant";
  content: Part[];
  reasoning?: string;
  toolCalls: ToolCall[];
}

/**
 * Items are finer than messages: what a model thinks, says and calls in one turn is one message of its. Until the results
 * of its calls come, whatever it says belongs to the message of the calls, which chat templates want side by side.
 */
class Turns {
  readonly messages: Message[] = [];
  #open: AssistantDraft | undefined;

  add(message: Message): void {
    this.#open = undefined;
    this.messages.push(message);
  }

  think(text: string): void {
    if (text === "") return;
    const turn = this.#turn();
    turn.reasoning = turn.reasoning === undefined ? text : `${turn.reasoning}\n\n${text}`;
  }

  say(content: Part[]): void {
    this.#turn().content.push(...content);
  }

  call(call: ToolCall): void {
    (this.#open ?? this.#begin()).toolCalls.push(call);
  }

  #turn(): AssistantDraft {
    const open = this.#open;
    if (open === undefined) return this.#begin();
    return open.content.length === 0 || open.toolCalls.length > 0 ? open : this.#begin();
  }

  #begin(): AssistantDraft {
    this.#open = { role: "assistant", content: [], toolCalls: [] };
    this.messages.push(this.#open);
    return this.#open;
  }
}

/**
 * Items that tell of tools which only OpenAI runs, or point at what was kept there: nothing a local model could read.
 * The AI SDK refers to its messages by their ids where it does not know that nothing was kept.
 */
const skippedItems =
  /^(?:item_reference|compaction_trigger|additional_tools|tool_search_.*|program.*|mcp_.*|shell_call.*|apply_patch_call.*|(?:file_search|web_search|computer|image_generation|code_interpreter|local_shell)_call(?:_output)?)$/;

function addItem({ turns, names }: Reader, item: JsonObject, at: string): void {
  const type = readString(item, "type", at) ?? "message";
  switch (type) {
    case "message":
      return addMessage(turns, item, at);
    case "reasoning":
      return turns.think(reasoningText(item, at));
    case "function_call":
      return turns.call(decodeCall(names, item, at, readString(item, "arguments", at) ?? ""));
    case "custom_tool_call":
      return turns.call(decodeCall(names, item, at, JSON.stringify({ input: readString(item, "input", at) ?? "" })));
    case "function_call_output":
    case "custom_tool_call_output":
      return turns.add({
        role: "tool",
        toolCallId: required(readString(item, "call_id", at), `${at}.call_id`),
        content: decodeContent(required(item.output ?? undefined, `${at}.output`), `${at}.output`),
      });
    case "compaction":
      return addSummary(turns, item, at);
    default:
      if (!skippedItems.test(type))
        throw invalidValue(`${at}.type`, `is ${quoted(type)}, which is not a known kind of item`);
  }
}

function addMessage(turns: Turns, item: JsonObject, at: string): void {
  const role = required(readString(item, "role", at), `${at}.role`);
  // A turn of calls alone comes back with `content: null` from some clients.
  const given = role === "assistant" ? (item.content ?? []) : required(item.content ?? undefined, `${at}.content`);
  const content = decodeContent(given, `${at}.content`);
  if (role === "assistant") turns.say(content);
  else if (role === "system" || role === "developer" || role === "user") turns.add({ role, content });
  else throw invalidValue(`${at}.role`, `must be system, developer, user or assistant, not ${quoted(role)}`);
}

function decodeCall(names: ToolNames, item: JsonObject, at: string, text: string): ToolCall {
  const name = required(readString(item, "name", at), `${at}.name`);
  return {
    id: required(readString(item, "call_id", at), `${at}.call_id`),
    name: names.functionOf(name, readString(item, "namespace", at)),
    arguments: text,
  };
}

/** What we gave the client to keep, else the raw thinking, else its summary: Codex sends back no raw thinking. */
function reasoningText(item: JsonObject, at: string): string {
  const textsIn = (key: string): string =>
    (readArray(item, key, at) ?? [])
      .map((part, index) => readString(asObject(part, `${at}.${key}[${index}]`), "text") ?? "")
      .join("\n");
  return decodeOpaque(readString(item, "encrypted_content", at) ?? "") ?? (textsIn("content") || textsIn("summary"));
}

/** What stands for a conversation that was compacted. The model is told of one that only another server can read. */
function addSummary(turns: Turns, item: JsonObject, at: string): void {
  const sealed = required(readString(item, "encrypted_content", at), `${at}.encrypted_content`);
  const summary = decodeOpaque(sealed);
  const text =
    summary === undefined
      ? "Earlier parts of this conversation are missing: another server compacted them, and they cannot be read here."
      : `Earlier parts of this conversation were replaced by this summary of them:\n\n${summary}`;
  turns.add({ role: "user", content: [{ type: "text", text }] });
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
    case "summary_text":
    case "reasoning_text":
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
      throw unsupportedParameter(
        `${at}.type`,
        `${type} is not supported: models here read input_text and input_image; put the file's text into an input_text part`,
      );
    default:
      throw invalidValue(`${at}.type`, `must be input_text, output_text or input_image, not ${quoted(type)}`);
  }
}
