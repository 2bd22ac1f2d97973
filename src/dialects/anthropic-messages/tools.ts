import type { Tool, ToolChoice } from "../../core/chat.ts";
import type { JsonObject } from "../../core/json.ts";
import { asObject, invalidValue, quoted, readArray, readBoolean, readObject, readString, required } from "../fields.ts";
import { choose, decodeFunctionTool, type ToolSet } from "../openai-chat/tools.ts";

/**
 * `tools` and `tool_choice`. Left out are the tools that Anthropic describes and mostly runs itself, known by their
 * `type`, and those whose loading is deferred, unless a search has found them: `referenced`. Throws `ApiError`.
 */
export function decodeTools(
  body: JsonObject,
  referenced: ReadonlySet<string>,
): ToolSet & { readonly parallelToolCalls: boolean } {
  const list = (readArray(body, "tools") ?? []).map((item, index) => asObject(item, `tools[${index}]`));
  const tools = list.flatMap((tool, index) => decodeTool(tool, `tools[${index}]`, referenced) ?? []);
  const choice = readObject(body, "tool_choice") ?? {};
  const type = readString(choice, "type", "tool_choice") ?? "auto";
  const parallelToolCalls = readBoolean(choice, "disable_parallel_tool_use", "tool_choice") !== true;
  // Of tools that all run elsewhere none can be asked for here.
  if (tools.length === 0 && list.length > 0) return { tools, toolChoice: "none", parallelToolCalls };
  return { ...choose(toChoice(type, choice), "tool_choice", tools), parallelToolCalls };
}

function decodeTool(tool: JsonObject, at: string, referenced: ReadonlySet<string>): Tool | undefined {
  const type = readString(tool, "type", at) ?? "custom";
  if (type !== "custom") return undefined;
  if (readBoolean(tool, "defer_loading", at) === true && !referenced.has(String(tool.name))) return undefined;
  const { name, description, strict, input_schema: parameters } = tool;
  return decodeFunctionTool({ name, description, strict, parameters }, at);
}

/** In the words of OpenAI's `tool_choice`. */
function toChoice(type: string, choice: JsonObject): Exclude<ToolChoice, object> | JsonObject {
  switch (type) {
    case "auto":
    case "none":
      return type;
    case "any":
      return "required";
    case "tool":
      return { name: required(readString(choice, "name", "tool_choice"), "tool_choice.name") };
    default:
      throw invalidValue("tool_choice.type", `must be auto, any, tool or none, not ${quoted(type)}`);
  }
}
