import type { Tool, ToolChoice } from "../../core/chat.ts";
import type { Json, JsonObject } from "../../core/json.ts";
import {
  asObject,
  invalidValue,
  quoted,
  readArray,
  readBoolean,
  readObject,
  readString,
  required,
  unsupportedParameter,
  wrongType,
} from "../fields.ts";

/** The tools of a request and which of them the model may, must or must not call. */
export interface ToolSet {
  readonly tools: Tool[];
  readonly toolChoice: ToolChoice;
}

/**
 * `tools` and `tool_choice` in every form that clients send, among them `allowed_tools` (the others are left out) and
 * the old `functions` and `function_call`. Throws `ApiError`; a choice that names no listed tool is `invalid_value`.
 */
export function decodeTools(body: JsonObject): ToolSet {
  const tools = readArray(body, "tools")?.map(decodeTool) ?? readArray(body, "functions")?.map(decodeOldFunction) ?? [];
  if (body.tool_choice !== undefined && body.tool_choice !== null)
    return choose(body.tool_choice, "tool_choice", tools);
  if (body.function_call !== undefined && body.function_call !== null)
    return choose(body.function_call, "function_call", tools);
  return { tools, toolChoice: tools.length === 0 ? "none" : "auto" };
}

/** One function, described as in `tools[].function`, or flat as in the Responses API. */
export function decodeFunctionTool(described: JsonObject, at: string): Tool {
  const name = required(readString(described, "name", at), `${at}.name`);
  if (name === "" || name.length > 256) throw invalidValue(`${at}.name`, "must have 1 to 256 characters");
  const description = readString(described, "description", at);
  const strict = readBoolean(described, "strict", at);
  return {
    name,
    parameters: readObject(described, "parameters", at) ?? { type: "object", properties: {} },
    ...(description === undefined ? {} : { description }),
    ...(strict === undefined ? {} : { strict }),
  };
}

/** A choice in the words of `tool_choice` (or `function_call`), with the tools that it leaves. */
export function choose(choice: Json, at: string, tools: Tool[]): ToolSet {
  if (typeof choice === "string") return chooseMode(choice, at, tools);
  if (typeof choice !== "object" || choice === null || Array.isArray(choice))
    throw wrongType(at, "a string or an object", choice);
  if (choice.type === "allowed_tools") return chooseAllowed(choice, at, tools);
  if (choice.type !== undefined && choice.type !== "function") {
    throw unsupportedParameter(
      `${at}.type`,
      `${quoted(String(choice.type))} is not supported; function and allowed_tools are`,
    );
  }
  const { name, param } = nameIn(choice, at);
  if (!tools.some((tool) => tool.name === name))
    throw invalidValue(param, `names ${quoted(name)}, which is not among the tools of the request`);
  return { tools, toolChoice: { name } };
}

/** Tools as OpenAI's chat writes them. */
export function encodeTools(tools: readonly Tool[]): JsonObject[] {
  return tools.map(({ name, description, parameters, strict }) => ({
    type: "function",
    function: {
      name,
      ...(description === undefined ? {} : { description }),
      parameters,
      ...(strict === undefined ? {} : { strict }),
    },
  }));
}

/** A choice as OpenAI's chat writes it. */
export function encodeToolChoice(choice: ToolChoice): Json {
  return typeof choice === "string" ? choice : { type: "function", function: { name: choice.name } };
}

function decodeTool(item: Json, index: number): Tool {
  const at = `tools[${index}]`;
  const tool = asObject(item, at);
  const type = readString(tool, "type", at) ?? "function";
  if (type !== "function")
    throw unsupportedParameter(`${at}.type`, `${quoted(type)} is not supported; only function tools are`);
  return decodeFunctionTool(required(readObject(tool, "function", at), `${at}.function`), `${at}.function`);
}

function decodeOldFunction(item: Json, index: number): Tool {
  return decodeFunctionTool(asObject(item, `functions[${index}]`), `functions[${index}]`);
}

function chooseMode(mode: string, at: string, tools: Tool[]): ToolSet {
  if (mode === "none") return { tools, toolChoice: "none" };
  if (mode === "auto") return { tools, toolChoice: tools.length === 0 ? "none" : "auto" };
  // "any" is Mistral's and Anthropic's word for it.
  if (mode !== "required" && mode !== "any") {
    throw invalidValue(at, `must be none, auto, required or an object that names a tool, not ${quoted(mode)}`);
  }
  if (tools.length === 0) throw invalidValue(at, "asks for a tool call, but the request has no tools");
  return { tools, toolChoice: "required" };
}

/** The `tools` that the choice lists are kept: `{type: "allowed_tools", allowed_tools: {mode, tools}}`, or flat as in the Responses API. */
function chooseAllowed(choice: JsonObject, at: string, tools: Tool[]): ToolSet {
  const nested = readObject(choice, "allowed_tools", at);
  const path = nested === undefined ? at : `${at}.allowed_tools`;
  const allowed = nested ?? choice;
  const list = required(readArray(allowed, "tools", path), `${path}.tools`);
  const kept = list.map((item, index): Tool => {
    const { name, param } = nameIn(asObject(item, `${path}.tools[${index}]`), `${path}.tools[${index}]`);
    const tool = tools.find((candidate) => candidate.name === name);
    if (tool === undefined)
      throw invalidValue(param, `names ${quoted(name)}, which is not among the tools of the request`);
    return tool;
  });
  return chooseMode(readString(allowed, "mode", path) ?? "auto", `${path}.mode`, kept);
}

function nameIn(choice: JsonObject, at: string): { name: string; param: string } {
  const described = readObject(choice, "function", at);
  const path = described === undefined ? at : `${at}.function`;
  return { name: required(readString(described ?? choice, "name", path), `${path}.name`), param: `${path}.name` };
}
