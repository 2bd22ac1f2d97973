import {
  argumentCalls,
  deepseekCalls,
  dsml,
  dsmlAttributes,
  functionTags,
  invokeCalls,
  qwenCoder,
  toolCall,
} from "./call-forms.ts";
import { anyOf } from "./call-syntax.ts";
import { defineFamily, type Family, has } from "./family.ts";
import { gemmaCalls } from "./gemma-calls.ts";
import { harmonyCalls, readHarmony } from "./harmony.ts";
import { jsonCalls } from "./json-calls.ts";
import { llamaCalls } from "./llama-calls.ts";
import { namedCalls } from "./named-calls.ts";
import { nestedCalls } from "./nested-calls.ts";
import { createParser } from "./parser.ts";
import { pythonCalls } from "./python-calls.ts";
import { recipientCalls } from "./recipient-calls.ts";
import { xmlCalls } from "./xml-calls.ts";

/** Families with a markup of their own, in the order in which they are tried: the more peculiar, the earlier. */
export const markupFamilies: readonly Family[] = [
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
  defineFamily({
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
  defineFamily({
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
  defineFamily({
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
  defineFamily({
    name: "deepseek-v4",
    matches: has(dsml, "tool_calls>"),
    calls: anyOf(invokeCalls(dsml, "tool_calls", dsmlAttributes), invokeCalls(dsml, "function_calls", dsmlAttributes)),
  }),
  defineFamily({
    name: "deepseek-v3.2",
    matches: has(dsml),
    calls: anyOf(invokeCalls(dsml, "function_calls", dsmlAttributes), invokeCalls(dsml, "tool_calls", dsmlAttributes)),
  }),
  defineFamily({ name: "deepseek-r1", matches: has("<｜tool▁call▁begin｜>", "```json"), calls: deepseekCalls(true) }),
  defineFamily({ name: "deepseek-v3.1", matches: has("<｜tool▁call▁begin｜>"), calls: deepseekCalls(false) }),
  defineFamily({
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
  defineFamily({
    name: "minimax-m2",
    matches: has("<minimax:tool_call>"),
    calls: invokeCalls("", "minimax:tool_call"),
  }),
  defineFamily({
    name: "minimax-m3",
    matches: has("]<]minimax[>["),
    calls: nestedCalls("]<]minimax[>["),
    reasoning: { open: "<mm:think>", close: "</mm:think>" },
  }),
  defineFamily({
    name: "seed",
    matches: has("<seed:tool_call>"),
    calls: xmlCalls({
      ...qwenCoder,
      section: { open: "<seed:tool_call>", close: "</seed:tool_call>" },
      lines: false,
    }),
    reasoning: { open: "<seed:think>", close: "</seed:think>" },
  }),
  defineFamily({
    name: "hunyuan",
    matches: has("HYTK", ":opensource"),
    calls: xmlCalls({
      ...argumentCalls(":opensource", "<tool_sep:opensource>"),
      section: { open: "<tool_calls:opensource>", close: "</tool_calls:opensource>" },
    }),
    reasoning: { open: "<think:opensource>", close: "</think:opensource>" },
  }),
  defineFamily({ name: "glm", matches: has("<arg_key>"), calls: xmlCalls(argumentCalls("", "")) }),
  defineFamily({
    name: "qwen-coder",
    matches: has("<function=", "<parameter="),
    calls: xmlCalls(qwenCoder),
  }),
  defineFamily({
    name: "minicpm",
    matches: has('<function name="', '<param name="'),
    calls: xmlCalls({
      call: { open: '<function name="', end: '">', close: "</function>" },
      parameter: { open: '<param name="', end: '">', close: "</param>" },
      newline: "",
      cdata: true,
    }),
  }),
  defineFamily({ name: "functionary-3.1", matches: has("<function="), calls: anyOf(functionTags, llamaCalls) }),
  defineFamily({ name: "functionary-3.2", matches: has(">>>${recipient}"), calls: recipientCalls }),
  defineFamily({
    name: "gemma-4",
    matches: has("<|tool_call>", "call:"),
    calls: gemmaCalls({ open: "<|tool_call>", close: "<tool_call|>", quote: '<|"|>' }),
    reasoning: { open: "<|channel>thought", close: "<channel|>" },
  }),
  defineFamily({
    name: "function-gemma",
    matches: has("<start_function_call>"),
    calls: gemmaCalls({ open: "<start_function_call>", close: "<end_function_call>", quote: "<escape>" }),
  }),
  defineFamily({
    name: "lfm2",
    matches: (template) => /<\|tool_(?:call|list)_start\|>|List of tools: \[/.test(template),
    calls: anyOf(pythonCalls({ open: "<|tool_call_start|>", close: "<|tool_call_end|>" }), jsonCalls(toolCall)),
  }),
];
