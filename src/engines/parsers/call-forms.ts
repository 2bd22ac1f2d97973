import type { CallSyntax } from "./call-syntax.ts";
import type { JsonCalls } from "./json-calls.ts";
import { namedCalls } from "./named-calls.ts";
import { type XmlCalls, xmlCalls } from "./xml-calls.ts";

export const toolCall: JsonCalls = {
  openers: ["<tool_call>"],
  close: "</tool_call>",
  several: "each",
  inside: ["\n", "\n"],
};

/** `<function=name>{arguments}</function>`: Functionary 3.1, and Llama 3 asked for custom tools. */
export const functionTags = namedCalls({ open: "<function=", headEnd: ">", close: "</function>", knownOnly: true });

export const qwenCoder: XmlCalls = {
  section: { open: "<tool_call>", close: "</tool_call>" },
  call: { open: "<function=", end: ">", close: "</function>" },
  parameter: { open: "<parameter=", end: ">", close: "</parameter>" },
  lines: true,
  newline: `"\\n"`,
  knownOnly: true,
};

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

export const dsml = "｜DSML｜";
export const dsmlAttributes = [`"\\" string=\\"true\\""`, `"\\" string=\\"false\\""`] as const;
