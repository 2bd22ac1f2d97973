import type { ChatEvent, ChatRequest, Message, Part, Tool } from "../core/chat.ts";
import { isObject } from "../core/json.ts";
import { TagScanner } from "./tag-scanner.ts";
import { newCallId } from "./tool-choice.ts";

/**
 * Tools for a server that knows none, in the words that Hermes introduced and Qwen was trained on: the tools in the
 * system message, calls as `<tool_call>{…}</tool_call>`, results as `<tool_response>…</tool_response>`.
 */
export function withToolPrompt(request: ChatRequest): ChatRequest {
  const messages = request.messages.map(toText);
  if (request.tools.length > 0) addToSystem(messages, describeTools(request.tools));
  return { ...request, messages, tools: [], toolChoice: "none" };
}

/** The calls in such a model's text → tool-call events. What is no call after all stays text. */
export async function* readPromptedCalls(
  events: AsyncIterable<ChatEvent>,
  tools: readonly Tool[],
): AsyncGenerator<ChatEvent> {
  const scanner = new TagScanner("<tool_call>", "</tool_call>");
  const names = new Set(tools.map((tool) => tool.name));
  let calls = 0;
  let written = "";
  const close = function* (): Generator<ChatEvent> {
    const call = toCall(written, names);
    if (call !== undefined) yield { type: "tool-call", index: calls++, id: newCallId(), ...call };
    else if (written.trim() !== "") yield { type: "text", text: `<tool_call>${written}</tool_call>` };
    written = "";
  };
  for await (const event of events) {
    if (event.type !== "text" && event.type !== "finish") {
      yield event;
      continue;
    }
    for (const piece of event.type === "text" ? scanner.push(event.text) : scanner.end()) {
      if (piece.inside) written += piece.text;
      // Between calls models write line ends, which are no answer.
      else if (calls === 0 || piece.text.trim() !== "") yield { type: "text", text: piece.text };
      if (piece.closed) yield* close();
    }
    if (event.type === "text") continue;
    // Small models forget the closing tag; a call cut off by the length limit does not parse.
    yield* close();
    yield calls > 0 && event.reason === "stop" ? { ...event, reason: "tool-calls" } : event;
  }
}

function toCall(text: string, names: ReadonlySet<string>): { name: string; arguments: string } | undefined {
  try {
    const json: unknown = JSON.parse(text);
    if (!isObject(json) || typeof json.name !== "string" || !names.has(json.name)) return undefined;
    const args = json.arguments ?? json.parameters ?? {};
    return { name: json.name, arguments: typeof args === "string" ? args : JSON.stringify(args) };
  } catch {
    return undefined;
  }
}

function toText(message: Message): Message {
  if (message.role === "tool") {
    return {
      role: "user",
      content: [{ type: "text", text: `<tool_response>\n${textOf(message.content)}\n</tool_response>` }],
    };
  }
  if (message.role !== "assistant" || message.toolCalls.length === 0) return message;
  const calls = message.toolCalls.map(
    (call) =>
      `<tool_call>\n{"name": ${JSON.stringify(call.name)}, "arguments": ${call.arguments || "{}"}}\n</tool_call>`,
  );
  const said = textOf(message.content);
  return {
    role: "assistant",
    content: [{ type: "text", text: [...(said === "" ? [] : [said]), ...calls].join("\n") }],
    toolCalls: [],
  };
}

function describeTools(tools: readonly Tool[]): string {
  const list = tools.map(({ name, description, parameters }) =>
    JSON.stringify({ type: "function", function: { name, description, parameters } }),
  );
  return [
    "# Tools\n\nYou may call one or more functions to assist with the user query.\n",
    `You are provided with function signatures within <tools></tools> XML tags:\n<tools>\n${list.join("\n")}\n</tools>\n`,
    "For each function call, return a json object with function name and arguments within <tool_call></tool_call> XML tags:",
    '<tool_call>\n{"name": <function-name>, "arguments": <args-json-object>}\n</tool_call>',
  ].join("\n");
}

function addToSystem(messages: Message[], text: string): void {
  const part: Part = { type: "text", text };
  const [first] = messages;
  if (first?.role === "system" || first?.role === "developer")
    messages[0] = { ...first, content: [...first.content, part] };
  else messages.unshift({ role: "system", content: [part] });
}

function textOf(content: readonly Part[]): string {
  return content.flatMap((part) => (part.type === "text" ? [part.text] : [])).join("\n");
}
