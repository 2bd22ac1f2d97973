import { deepseekCalls, functionTags, toolCall } from "./call-forms.ts";
import { anyOf } from "./call-syntax.ts";
import { defineFamily, type Family, has } from "./family.ts";
import { jsonCalls } from "./json-calls.ts";
import { llamaCalls } from "./llama-calls.ts";
import { mistralCalls } from "./mistral-calls.ts";

/** Families whose calls are JSON objects, with this or that around them, in the order in which they are tried. */
export const jsonFamilies: readonly Family[] = [
  defineFamily({
    name: "apertus",
    matches: has("<|tools_prefix|>"),
    calls: jsonCalls({ openers: ["<|tools_prefix|>"], close: "<|tools_suffix|>", several: "list", members: "named" }),
    reasoning: { open: "<|inner_prefix|>", close: "<|inner_suffix|>" },
  }),
  defineFamily({
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
  defineFamily({
    name: "command-r-plus",
    matches: has("Action:", "```json", "tool_name"),
    calls: jsonCalls({
      openers: ["Action:"],
      trigger: "Action:\n```json",
      close: "",
      several: "list",
      members: "tool_name",
      inside: ["\n```json\n", "\n```"],
    }),
  }),
  defineFamily({
    name: "gigachat-3.1",
    matches: has("<|function_call|>"),
    calls: jsonCalls({ openers: ["<|function_call|>"], close: "", several: "each" }),
  }),
  defineFamily({
    name: "gigachat-3",
    matches: has("function call", "<|role_sep|>"),
    calls: jsonCalls({
      openers: ["function call<|role_sep|>\n"],
      close: "",
      several: "each",
      tokens: ["<|role_sep|>"],
    }),
    frames: [["<|message_sep|>", ""]],
  }),
  defineFamily({
    name: "nemotron-v2",
    matches: has("<TOOLCALL>"),
    calls: jsonCalls({ openers: ["<TOOLCALL>"], close: "</TOOLCALL>", several: "list" }),
  }),
  defineFamily({
    name: "apriel-1.6",
    matches: has("<tool_calls>[", "[BEGIN FINAL RESPONSE]"),
    calls: jsonCalls({ openers: ["<tool_calls>"], close: "</tool_calls>", several: "list" }),
    reasoning: { open: "Here are my reasoning steps:", close: "[BEGIN FINAL RESPONSE]" },
  }),
  defineFamily({
    name: "apriel-1.5",
    matches: has("<tool_calls>["),
    calls: jsonCalls({ openers: ["<tool_calls>"], close: "</tool_calls>", several: "list" }),
    reasoning: { open: "<thinking>", close: "</thinking>" },
  }),
  defineFamily({
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
  defineFamily({
    name: "phi-4",
    matches: has("<|/tool_call|>"),
    calls: jsonCalls({ openers: ["<|tool_call|>"], close: "<|/tool_call|>", several: "list" }),
  }),
  defineFamily({
    name: "granite",
    matches: has("<|tool_call|>"),
    calls: anyOf(jsonCalls({ openers: ["<|tool_call|>"], close: "", several: "list" }), jsonCalls(toolCall)),
    frames: [
      ["<response>", ""],
      ["</response>", ""],
    ],
  }),
  defineFamily({
    name: "functools",
    matches: has("functools["),
    calls: jsonCalls({ openers: ["functools"], trigger: "functools[", close: "", several: "list" }),
  }),
  defineFamily({
    name: "mistral-reasoning",
    matches: has("[TOOL_CALLS]", "[THINK]"),
    calls: mistralCalls("named"),
    reasoning: { open: "[THINK]", close: "[/THINK]" },
  }),
  defineFamily({ name: "mistral", matches: has("[TOOL_CALLS]", "[ARGS]"), calls: mistralCalls("named") }),
  defineFamily({ name: "mistral-list", matches: has("[TOOL_CALLS]"), calls: mistralCalls("list") }),
  defineFamily({ name: "hermes", matches: has("<tool_call>"), calls: jsonCalls(toolCall) }),
  defineFamily({
    name: "llama3",
    matches: has("<|start_header_id|>", "tools"),
    calls: anyOf(llamaCalls, functionTags),
  }),
];

/** What models write that were told of tools by our own prompt, or by none that we know. */
export const genericFamily = defineFamily({
  name: "generic",
  matches: () => true,
  calls: anyOf(
    jsonCalls({
      ...toolCall,
      bare: true,
      weak: ["```json", "```", "<function_call>", "<tools>", "<|tool_call|>"],
    }),
    // Models distilled from DeepSeek R1 have its tokens, though not its prompt.
    deepseekCalls(true),
  ),
});
