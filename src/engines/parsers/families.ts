import type { ToolSyntax } from "../grammar/tool-calls.ts";
import { hermesParser } from "./hermes.ts";
import { llama3Parser } from "./llama3.ts";
import { mistralParser } from "./mistral.ts";
import type { OutputParser, ParserOptions } from "./parser.ts";

/** How one family of models writes tool calls. */
export interface Family {
  readonly name: string;
  /** Whether a chat template comes from this family. */
  readonly matches: (template: string) => boolean;
  /** Control tokens that are part of the syntax. */
  readonly preserved: readonly string[];
  readonly createParser: (options: ParserOptions) => OutputParser;
  /** The same syntax for a grammar that forces a call. */
  readonly syntax: ToolSyntax;
}

const hermes: Family = {
  name: "hermes",
  matches: (template) => template.includes("<tool_call>"),
  preserved: ["<tool_call>", "</tool_call>"],
  createParser: hermesParser,
  syntax: { before: "<tool_call>\n", after: "\n</tool_call>", between: "\n", list: false, argumentsKey: "arguments" },
};

/** In the order in which they are tried. */
const families: readonly Family[] = [
  hermes,
  {
    name: "mistral",
    matches: (template) => template.includes("[TOOL_CALLS]"),
    preserved: ["[TOOL_CALLS]", "[ARGS]", "[CALL_ID]"],
    createParser: mistralParser,
    syntax: { before: "[TOOL_CALLS]", after: "", between: ", ", list: true, argumentsKey: "arguments" },
  },
  {
    name: "llama3",
    matches: (template) => template.includes("<|start_header_id|>") && template.includes("tools"),
    preserved: ["<|python_tag|>"],
    createParser: llama3Parser,
    syntax: { before: "", after: "", between: "; ", list: false, argumentsKey: "parameters" },
  },
];

/** The family of a chat template; Hermes for those that no family claims, as most new models follow it. */
export function detectFamily(template: string | null): Family {
  return families.find((family) => template !== null && family.matches(template)) ?? hermes;
}
