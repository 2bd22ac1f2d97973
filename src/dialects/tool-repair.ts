import type { ChatRequest, Tool } from "../core/chat.ts";
import { soundArguments } from "./tool-arguments.ts";

/** A call as a model wrote it. */
export interface WrittenCall {
  readonly name: string;
  /** JSON text, perhaps broken. */
  readonly arguments: string;
}

/** The call as it may go on; with `problem`, in words for the model, where it is wrong and no repair is certain. */
export interface RepairedCall extends WrittenCall {
  readonly problem?: string;
}

/** A call put right by what its tool takes; the same strings where nothing is wrong. `whole`: the model ended it by itself. */
export function repairCall(call: WrittenCall, tools: readonly Tool[], whole: boolean): RepairedCall {
  const tool = toolNamed(call.name, tools);
  if (tool === undefined) return { ...call, problem: unknownTool(tools) };
  const sound = soundArguments(call.arguments, { schema: tool.parameters, whole });
  if ("text" in sound) return { name: tool.name, arguments: sound.text };
  return { name: tool.name, arguments: call.arguments, problem: sound.problem };
}

/** Tools of which a call may be; none where calls are not to be looked at. */
export function offeredTools({ tools, toolChoice }: Pick<ChatRequest, "tools" | "toolChoice">): readonly Tool[] {
  return toolChoice === "none" ? [] : tools;
}

/**
 * The tool that a name means: the one of that name, or the only one whose name it is but for a prefix that models put
 * before names (`functions.read`, `default_api:read`), a control token behind it (gpt-oss: `read<|channel|>json`), or its case.
 */
export function toolNamed(name: string, tools: readonly Tool[]): Tool | undefined {
  const exact = tools.find((tool) => tool.name === name);
  if (exact !== undefined) return exact;
  const plain = name
    .trim()
    .replace(/^(?:functions?|tools?|default_api)[.:/]/i, "")
    .replace(/<\|.*$/s, "");
  const same = tools.filter((tool) => tool.name === plain);
  if (same.length > 0) return same[0];
  const alike = tools.filter((tool) => tool.name.toLowerCase() === plain.toLowerCase());
  return alike.length === 1 ? alike[0] : undefined;
}

function unknownTool(tools: readonly Tool[]): string {
  const names = tools.slice(0, 40).map((tool) => tool.name);
  return `there is no tool of this name; the tools are: ${names.join(", ")}`;
}
