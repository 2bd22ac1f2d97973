import type { Message, Tool, ToolCall } from "../../core/chat.ts";
import { isObject, type Json } from "../../core/json.ts";

/** Whether a template is DeepSeek V3.1's, which prints calls but leaves it to the caller to describe the tools. */
export function wantsDeepseekPrompt(template: string): boolean {
  return template.includes("<｜tool▁calls▁begin｜>") && !template.includes("```json");
}

/** The tools in the system message, in the words of DeepSeek V3.1's model card. */
export function withDeepseekPrompt(messages: readonly Message[], tools: readonly Tool[]): Message[] {
  const described = tools.map(
    ({ name, description = "", parameters }) =>
      `### ${name}\nDescription: ${description}\n\nParameters: ${JSON.stringify(parameters)}\n\n`,
  );
  const prompt = [
    "\n\n## Tools\nYou have access to the following tools:\n\n",
    ...described,
    "IMPORTANT: ALWAYS adhere to this exact format for tool use:\n",
    "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>tool_call_name<｜tool▁sep｜>tool_call_arguments<｜tool▁call▁end｜>{additional_tool_calls}<｜tool▁calls▁end｜>\n\n",
    "Where:\n\n- `tool_call_name` must be an exact match to one of the available tools\n",
    "- `tool_call_arguments` must be valid JSON that strictly follows the tool's Parameters Schema\n",
    "- For multiple tool calls, chain them directly without separators or spaces",
  ].join("");
  const [first, ...rest] = messages;
  if (first === undefined || (first.role !== "system" && first.role !== "developer")) {
    return [{ role: "system", content: [{ type: "text", text: prompt.trimStart() }] }, ...messages];
  }
  const text = first.content.map((part) => (part.type === "text" ? part.text : "")).join("\n");
  return [{ ...first, content: [{ type: "text", text: text + prompt }] }, ...rest];
}

/** For templates that print results but no calls: the calls as text, as the model (LFM2, Granite 3) says them. */
export function withWrittenCalls(messages: readonly Message[], template: string): Message[] {
  return messages.map((message) => {
    if (message.role !== "assistant" || message.toolCalls.length === 0) return message;
    const text = writeCalls(message.toolCalls, template);
    return { ...message, content: [...message.content, { type: "text", text }], toolCalls: [] };
  });
}

function writeCalls(calls: readonly ToolCall[], template: string): string {
  if (template.includes("List of tools: ")) {
    return `<|tool_call_start|>[${calls.map(writePythonCall).join(", ")}]<|tool_call_end|>`;
  }
  const list = calls.map((call) => `{"name": ${JSON.stringify(call.name)}, "arguments": ${call.arguments || "{}"}}`);
  if (template.includes("<|tool_call|>")) return `<|tool_call|>[${list.join(", ")}]`;
  return list.map((one) => `<tool_call>\n${one}\n</tool_call>`).join("\n");
}

function writePythonCall(call: ToolCall): string {
  let given: unknown;
  try {
    given = JSON.parse(call.arguments || "{}");
  } catch {
    given = null;
  }
  if (!isObject(given)) return `${call.name}(${call.arguments})`;
  const named = Object.entries(given).map(([name, value]) => `${name}=${writePython(value ?? null)}`);
  return `${call.name}(${named.join(", ")})`;
}

function writePython(value: Json): string {
  if (value === null) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (Array.isArray(value)) return `[${value.map(writePython).join(", ")}]`;
  if (!isObject(value)) return JSON.stringify(value);
  const entries = Object.entries(value).map(([key, item]) => `${JSON.stringify(key)}: ${writePython(item ?? null)}`);
  return `{${entries.join(", ")}}`;
}
