import type { Tool } from "../../core/chat.ts";
import type { GrammarBuilder } from "../grammar/json-schema.ts";
import { anyOf, type CallSyntax } from "./call-syntax.ts";
import { gemmaCalls } from "./gemma-calls.ts";
import { harmonyCalls, readHarmony } from "./harmony.ts";
import { type JsonCalls, jsonCalls } from "./json-calls.ts";
import { llamaCalls } from "./llama-calls.ts";
import { mistralCalls } from "./mistral-calls.ts";
import { namedCalls } from "./named-calls.ts";
import { type AnswerParser, createParser, type OutputParser, type ParserOptions } from "./parser.ts";
import { pythonCalls } from "./python-calls.ts";
import { type OutputSyntax, readOutput, type ReasoningTags, thinkTags } from "./reading.ts";
import { recipientCalls } from "./recipient-calls.ts";
import { type XmlCalls, xmlCalls } from "./xml-calls.ts";

/** How one family of models writes reasoning and tool calls. */
export interface Family {
  readonly name: string;
  /** Whether a chat template comes from this family. */
  readonly matches: (template: string) => boolean;
  /** Control tokens that are part of the syntax. */
  readonly preserved: readonly string[];
  /** The tags around the reasoning that an answer may open with. */
  readonly reasoning: ReasoningTags;
  /** GBNF of what stands before an answer in text, after the reasoning. */
  readonly textHead: string;
  /** Texts with which calls begin when the model is free to choose. */
  readonly triggers: readonly string[];
  readonly createParser: (options: ParserOptions) => AnswerParser;
  /** Adds rules for the whole text of one call of one of the tools, or of any number of calls; returns the rule's name. */
  readonly addCalls: (builder: GrammarBuilder, tools: readonly Tool[], options: { parallel: boolean }) => string;
}

interface Definition {
  readonly name: string;
  readonly matches: (template: string) => boolean;
  readonly calls: CallSyntax;
  readonly reasoning?: ReasoningTags;
  readonly frames?: OutputSyntax["frames"];
  readonly textHead?: string;
}

/** The family of a chat template; the generic one, which follows Hermes, for those that no family claims. */
export function detectFamily(template: string | null): Family {
  return families.find((family) => template !== null && family.matches(template)) ?? generic;
}

/** Reads what models write that were told of tools by our own prompt. */
export function promptedParser(options: Pick<ParserOptions, "tools" | "newId">): OutputParser {
  return generic.createParser({ ...options, opened: false });
}

/** A family by its name; undefined for none. */
export function findFamily(name: string): Family | undefined {
  return [...families, generic].find((family) => family.name === name);
}

/** Whether a prompt ends inside the reasoning that it opened. */
export function opensReasoning(family: Family, prompt: string): boolean {
  return prompt.trimEnd().endsWith(family.reasoning.open.trimEnd());
}

function define(definition: Definition): Family {
  const { name, matches, calls } = definition;
  const reasoning = definition.reasoning ?? thinkTags;
  const frames = definition.frames ?? [];
  const syntax: OutputSyntax = { reasoning, frames, ...calls };
  return {
    name,
    matches,
    preserved: [
      ...new Set([reasoning.open, reasoning.close, ...calls.preserved, ...frames.flat().filter((tag) => tag !== "")]),
    ],
    reasoning,
    textHead: definition.textHead ?? "",
    triggers: calls.triggers,
    createParser: (options) => createParser(options, (input, answer) => readOutput(input, answer, options, syntax)),
    addCalls: (builder, tools, { parallel }) => calls.addCalls(builder, tools, parallel),
  };
}

const has =
  (...texts: readonly string[]) =>
  (template: string): boolean =>
    texts.every((text) => template.includes(text));

const toolCall: JsonCalls = {
  openers: ["<tool_call>"],
  close: "</tool_call>",
  several: "each",
  inside: ["\n", "\n"],
};

/** `<function=name>{arguments}</function>`: Functionary 3.1, and Llama 3 asked for custom tools. */
const functionTags = namedCalls({ open: "<function=", headEnd: ">", close: "</function>", knownOnly: true });

const qwenCoder: XmlCalls = {
  section: { open: "<tool_call>", close: "</tool_call>" },
  call: { open: "<function=", end: ">", close: "</function>" },
  parameter: { open: "<parameter=", end: ">", close: "</parameter>" },
  lines: true,
  newline: `"\\n"`,
  knownOnly: true,
};

function invokeCalls(prefix: string, section: string, attributes?: XmlCalls["parameter"]["attributes"]): CallSyntax {
  return xmlCalls({
    section: { open: `<${prefix}${section}>`, close: `</${prefix}${section}>` },
    call: { open: `<${prefix}invoke name="`, end: `">`, close: `</${prefix}invoke>` },
    parameter: {
      open: `<${prefix}parameter name="`,
      end: attributes === undefined ? `">` : ">",
      close: `</${prefix}parameter>`,
      ...(attributes === undefined ? {} : { attributes }),
    },
    newline: `"\\n"`,
  });
}

function argumentCalls(suffix: string, end: string): XmlCalls {
  return {
    call: { open: `<tool_call${suffix}>`, end, close: `</tool_call${suffix}>` },
    parameter: {
      open: `<arg_key${suffix}>`,
      end: `</arg_key${suffix}>`,
      valueOpen: `<arg_value${suffix}>`,
      close: `</arg_value${suffix}>`,
    },
    newline: `"\\n"?`,
  };
}

function deepseekCalls(fenced: boolean): CallSyntax {
  return namedCalls({
    section: {
      open: "<｜tool▁calls▁begin｜>",
      close: "<｜tool▁calls▁end｜>",
      // Distilled models tokenize the tag in these ways.
      variants: ["<｜tool_calls_begin｜>", "<｜tool calls begin｜>", "<｜tool\\_calls\\_begin｜>", "<｜tool▁calls｜>"],
    },
    open: "<｜tool▁call▁begin｜>",
    headEnd: "<｜tool▁sep｜>",
    close: "<｜tool▁call▁end｜>",
    between: fenced ? "\n" : "",
    lineName: fenced,
  });
}

const dsml = "｜DSML｜";
const dsmlAttributes = [`"\\" string=\\"true\\""`, `"\\" string=\\"false\\""`] as const;

/** In the order in which they are tried: the more peculiar a tag, the earlier. */
const families: readonly Family[] = [
  {
    name: "harmony",
    matches: has("<|channel|>", "<|message|>", "analysis"),
    preserved: harmonyCalls.preserved,
    reasoning: { open: "<|channel|>analysis<|message|>", close: "<|end|>" },
    textHead: `"<|start|>assistant"? "<|channel|>final<|message|>"`,
    triggers: harmonyCalls.triggers,
    createParser: (options) => createParser(options, readHarmony),
    addCalls: (builder, tools, { parallel }) => harmonyCalls.addCalls(builder, tools, parallel),
  },
  define({
    name: "muse",
    matches: has("<atem:function_calls>"),
    calls: invokeCalls("atem:", "function_calls"),
    reasoning: { open: "to=self<|message|>", close: "<|eom|>" },
    frames: [
      ["<|start|>assistant to=", "<|message|>"],
      [" to=", "<|message|>"],
      ["<|eom|>", ""],
    ],
    textHead: `("<|start|>assistant")? " to=user<|message|>"`,
  }),
  define({
    name: "kimi-k3",
    matches: has("<|open|>", "<|close|>", "<|sep|>"),
    calls: xmlCalls({
      section: { open: "<|open|>tools<|sep|>", close: "<|close|>tools<|sep|>" },
      call: {
        open: `<|open|>call tool="`,
        more: `"\\" index=\\"" [1-9] [0-9]{0,2} "\\""`,
        end: "<|sep|>",
        close: "<|close|>call<|sep|>",
      },
      parameter: {
        open: `<|open|>argument key="`,
        end: "<|sep|>",
        close: "<|close|>argument<|sep|>",
        attributes: [
          `"\\" type=\\"string\\""`,
          `"\\" type=\\"" ("number" | "boolean" | "object" | "array" | "null") "\\""`,
        ],
      },
      newline: "",
      tokens: ["<|open|>", "<|close|>"],
    }),
    reasoning: { open: "<|open|>think<|sep|>", close: "<|close|>think<|sep|>" },
    frames: [
      ["<|open|>response<|sep|>", ""],
      ["<|close|>response<|sep|>", ""],
      ["<|close|>message<|sep|>", ""],
    ],
    textHead: `"<|open|>response<|sep|>"`,
  }),
  define({
    name: "solar",
    matches: has("<|tool_call:begin|>"),
    calls: namedCalls({
      section: { open: "<|tool_calls|>", close: "<|calls|>" },
      open: "<|tool_call:begin|>",
      headEnd: "<|tool_call:args|>",
      close: "<|tool_call:end|>",
      readName: (head) => head.split("<|tool_call:name|>").at(-1) ?? head,
      writeHead: (name) => `call<|tool_call:name|>${name}`,
      tokens: ["<|tool_call:name|>"],
    }),
    reasoning: { open: "<|think|>", close: "<|end|>" },
    frames: [
      ["<|begin|>assistant", ""],
      ["<|content|>", ""],
      ["<|end|>", ""],
    ],
    textHead: `("<|begin|>assistant")? "<|content|>"`,
  }),
  define({
    name: "deepseek-v4",
    matches: has(dsml, "tool_calls>"),
    calls: anyOf(invokeCalls(dsml, "tool_calls", dsmlAttributes), invokeCalls(dsml, "function_calls", dsmlAttributes)),
  }),
  define({
    name: "deepseek-v3.2",
    matches: has(dsml),
    calls: anyOf(invokeCalls(dsml, "function_calls", dsmlAttributes), invokeCalls(dsml, "tool_calls", dsmlAttributes)),
  }),
  define({ name: "deepseek-r1", matches: has("<｜tool▁call▁begin｜>", "```json"), calls: deepseekCalls(true) }),
  define({ name: "deepseek-v3.1", matches: has("<｜tool▁call▁begin｜>"), calls: deepseekCalls(false) }),
  define({
    name: "kimi-k2",
    matches: has("<|tool_call_begin|>"),
    calls: namedCalls({
      section: { open: "<|tool_calls_section_begin|>", close: "<|tool_calls_section_end|>" },
      open: "<|tool_call_begin|>",
      headEnd: "<|tool_call_argument_begin|>",
      close: "<|tool_call_end|>",
      readName: (head) =>
        head
          .trim()
          .replace(/^functions\./, "")
          .replace(/:\d+$/, ""),
      writeHead: (name) => `functions.${name}:0`,
    }),
  }),
  define({
    name: "minimax-m2",
    matches: has("<minimax:tool_call>"),
    calls: invokeCalls("", "minimax:tool_call"),
  }),
  define({
    name: "seed",
    matches: has("<seed:tool_call>"),
    calls: xmlCalls({
      ...qwenCoder,
      section: { open: "<seed:tool_call>", close: "</seed:tool_call>" },
      lines: false,
    }),
    reasoning: { open: "<seed:think>", close: "</seed:think>" },
  }),
  define({
    name: "hunyuan",
    matches: has("HYTK", ":opensource"),
    calls: xmlCalls({
      ...argumentCalls(":opensource", "<tool_sep:opensource>"),
      section: { open: "<tool_calls:opensource>", close: "</tool_calls:opensource>" },
    }),
    reasoning: { open: "<think:opensource>", close: "</think:opensource>" },
  }),
  define({ name: "glm", matches: has("<arg_key>"), calls: xmlCalls(argumentCalls("", "")) }),
  define({
    name: "qwen-coder",
    matches: has("<function=", "<parameter="),
    calls: xmlCalls(qwenCoder),
  }),
  define({
    name: "minicpm",
    matches: has('<function name="', '<param name="'),
    calls: xmlCalls({
      call: { open: '<function name="', end: '">', close: "</function>" },
      parameter: { open: '<param name="', end: '">', close: "</param>" },
      newline: "",
      cdata: true,
    }),
  }),
  define({ name: "functionary-3.1", matches: has("<function="), calls: anyOf(functionTags, llamaCalls) }),
  define({ name: "functionary-3.2", matches: has(">>>${recipient}"), calls: recipientCalls }),
  define({
    name: "gemma-4",
    matches: has("<|tool_call>", "call:"),
    calls: gemmaCalls({ open: "<|tool_call>", close: "<tool_call|>", quote: '<|"|>' }),
    reasoning: { open: "<|channel>thought", close: "<channel|>" },
  }),
  define({
    name: "function-gemma",
    matches: has("<start_function_call>"),
    calls: gemmaCalls({ open: "<start_function_call>", close: "<end_function_call>", quote: "<escape>" }),
  }),
  define({
    name: "lfm2",
    matches: (template) => /<\|tool_(?:call|list)_start\|>|List of tools: \[/.test(template),
    calls: pythonCalls({ open: "<|tool_call_start|>", close: "<|tool_call_end|>" }),
  }),
  define({
    name: "apertus",
    matches: has("<|tools_prefix|>"),
    calls: jsonCalls({ openers: ["<|tools_prefix|>"], close: "<|tools_suffix|>", several: "list", members: "named" }),
    reasoning: { open: "<|inner_prefix|>", close: "<|inner_suffix|>" },
  }),
  define({
    name: "command-r7b",
    matches: has("<|START_ACTION|>"),
    calls: jsonCalls({
      openers: ["<|START_ACTION|>"],
      close: "<|END_ACTION|>",
      several: "list",
      members: "tool_name",
    }),
    reasoning: { open: "<|START_THINKING|>", close: "<|END_THINKING|>" },
    frames: ["<|START_RESPONSE|>", "<|END_RESPONSE|>", "<|START_TEXT|>", "<|END_TEXT|>"].map(
      (tag) => [tag, ""] as const,
    ),
  }),
  define({
    name: "command-r-plus",
    matches: has("Action:", "```json", "tool_name"),
    calls: jsonCalls({
      openers: ["Action:"],
      close: "",
      several: "list",
      members: "tool_name",
      inside: ["\n```json\n", "\n```"],
    }),
  }),
  define({
    name: "gigachat-3.1",
    matches: has("<|function_call|>"),
    calls: jsonCalls({ openers: ["<|function_call|>"], close: "", several: "each" }),
  }),
  define({
    name: "gigachat-3",
    matches: has("function call", "<|role_sep|>"),
    calls: jsonCalls({
      openers: ["function call<|role_sep|>\n"],
      close: "",
      several: "each",
      tokens: ["<|role_sep|>"],
    }),
  }),
  define({
    name: "nemotron-v2",
    matches: has("<TOOLCALL>"),
    calls: jsonCalls({ openers: ["<TOOLCALL>"], close: "</TOOLCALL>", several: "list" }),
  }),
  define({
    name: "apriel-1.6",
    matches: has("<tool_calls>[", "[BEGIN FINAL RESPONSE]"),
    calls: jsonCalls({ openers: ["<tool_calls>"], close: "</tool_calls>", several: "list" }),
    reasoning: { open: "Here are my reasoning steps:", close: "[BEGIN FINAL RESPONSE]" },
  }),
  define({
    name: "apriel-1.5",
    matches: has("<tool_calls>["),
    calls: jsonCalls({ openers: ["<tool_calls>"], close: "</tool_calls>", several: "list" }),
    reasoning: { open: "<thinking>", close: "</thinking>" },
  }),
  define({
    name: "minimax-m1",
    matches: has("<tool_calls>"),
    calls: jsonCalls({
      openers: ["<tool_calls>"],
      close: "</tool_calls>",
      several: "together",
      between: "\n",
      inside: ["\n", "\n"],
    }),
  }),
  define({
    name: "phi-4",
    matches: has("<|/tool_call|>"),
    calls: jsonCalls({ openers: ["<|tool_call|>"], close: "<|/tool_call|>", several: "list" }),
  }),
  define({
    name: "granite",
    matches: has("<|tool_call|>"),
    calls: jsonCalls({ openers: ["<|tool_call|>", "<tool_call>"], close: "", several: "list" }),
    frames: [
      ["<response>", ""],
      ["</response>", ""],
    ],
  }),
  define({
    name: "functools",
    matches: has("functools["),
    calls: jsonCalls({ openers: ["functools"], close: "", several: "list" }),
  }),
  define({
    name: "mistral-reasoning",
    matches: has("[TOOL_CALLS]", "[THINK]"),
    calls: mistralCalls("named"),
    reasoning: { open: "[THINK]", close: "[/THINK]" },
  }),
  define({ name: "mistral", matches: has("[TOOL_CALLS]", "[ARGS]"), calls: mistralCalls("named") }),
  define({ name: "mistral-list", matches: has("[TOOL_CALLS]"), calls: mistralCalls("list") }),
  define({ name: "hermes", matches: has("<tool_call>"), calls: jsonCalls(toolCall) }),
  define({
    name: "llama3",
    matches: has("<|start_header_id|>", "tools"),
    calls: anyOf(llamaCalls, functionTags),
  }),
];

/** What models write that were told of tools by our own prompt, or by none that we know. */
const generic = define({
  name: "generic",
  matches: () => true,
  calls: jsonCalls({
    ...toolCall,
    bare: true,
    weak: ["```json", "```", "<function_call>", "<tools>", "<|tool_call|>"],
  }),
});
