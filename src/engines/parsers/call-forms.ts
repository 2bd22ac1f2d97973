import type { CallSyntax } from "./call-syntax.ts";
import type { JsonCalls } from "./json-calls.ts";
import { namedCalls } from "./named-calls.ts";
import { type XmlCalls, xmlCalls } from "./xml-calls.ts";

/** Hermes 2 and 3, Qwen 2.5 and 3, and many others: `<tool_call>{"name": …, "arguments": …}</tool_call>`. */
export const toolCall: JsonCalls = {
  openers: ["<tool_call>"],
  close: "</tool_call>",
  several: "each",
  inside: ["\n", "\n"],
};

/** `<function=name>{arguments}</function>`: Functionary 3.1, and Llama 3 asked for custom tools. */
export const functionTags = namedCalls({ open: "<function=", headEnd: ">", close: "</function>", knownOnly: true });

/** Qwen3-Coder, Nemotron 3, StepFun: `<tool_call>`, in it `<function=name>`, in it lines of `<parameter=key>`. */
export const qwenCoder: XmlCalls = {
  section: { open: "<tool_call>", close: "</tool_call>" },
  call: { open: "<function=", end: ">", close: "</function>" },
  parameter: { open: "<parameter=", end: ">", close: "</parameter>" },
  lines: true,
  newline: `"\\n"`,
  knownOnly: true,
};

/** `<invoke name="…">` with `<parameter name="…">`, each tag with the same prefix: MiniMax M2, DeepSeek since V3.2. */
export function invokeCalls(
  prefix: string,
  section: string,
  attributes?: XmlCalls["parameter"]["attributes"],
): CallSyntax {
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

/** GLM since 4.5 and its kin: `<tool_call>name`, then `<arg_key>` and `<arg_value>` by turns. `end`: of the name. */
export function argumentCalls(suffix: string, end: string): XmlCalls {
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

/**
 * DeepSeek V3.1: `name<｜tool▁sep｜>{…}`; R1 and V3 before it (`fenced`): the name on a line, the arguments in a fence.
 * Both are read.
 */
export function deepseekCalls(fenced: boolean): CallSyntax {
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

/** What DeepSeek's tags begin with since V3.2, and how they tell text from JSON. */
export const dsml = "｜DSML｜";
export const dsmlAttributes = [`"\\" string=\\"true\\""`, `"\\" string=\\"false\\""`] as const;
