import type { Message, Tool } from "../../core/chat.ts";

/**
 * Tools for models (or servers) whose template knows none: they are described in the system prompt in the words of
 * Hermes and Qwen, and calls and results are written into the conversation as text. `promptedParser` reads the answers.
 */
export function withToolPrompt(messages: readonly Message[], tools: readonly Tool[]): Message[] {
  const written = messages.map(writeToolUse);
  if (tools.length === 0) return written;
  const prompt = toolPrompt(tools);
  const [first] = written;
  if (first === undefined || (first.role !== "system" && first.role !== "developer")) {
    return [{ role: "system", content: [{ type: "text", text: prompt }] }, ...written];
  }
  return [{ ...first, content: [...first.content, { type: "text", text: `\n\n${prompt}` }] }, ...written.slice(1)];
}

/** The part of the system prompt that describes the tools. */
function toolPrompt(tools: readonly Tool[]): string {
  const signatures = tools.map((tool) =>
    JSON.stringify({
      type: "function",
      function: { name: tool.name, description: tool.description ?? "", parameters: tool.parameters },
    }),
  );
  return [
    "# Tools",
    "",
    "You may call one or more functions to assist with the user query.",
    "",
    "You are provided with function signatures within <tools></tools> XML tags:",
    "<tools>",
    ...signatures,
    "</tools>",
    "",
    "For each function call, return a json object with function name and arguments within <tool_call></tool_call> XML tags:",
    "<tool_call>",
    '{"name": <function-name>, "arguments": <args-json-object>}',
    "</tool_call>",
  ].join("\n");
}

function writeToolUse(message: Message): Message {
  if (message.role === "tool") {
    const text = message.content.map((part) => (part.type === "text" ? part.text : "")).join("");
    return { role: "user", content: [{ type: "text", text: `<tool_response>\n${text}\n</tool_response>` }] };
  }
  if (message.role !== "assistant" || message.toolCalls.length === 0) return message;
  const calls = message.toolCalls.map(
    (call) =>
      `<tool_call>\n{"name": ${JSON.stringify(call.name)}, "arguments": ${call.arguments || "{}"}}\n</tool_call>`,
  );
  return { ...message, content: [...message.content, { type: "text", text: calls.join("\n") }], toolCalls: [] };
}
