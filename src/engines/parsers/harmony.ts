import { literalText } from "../grammar/gbnf.ts";
import type { Answer } from "./answer.ts";
import { type Input, type Reading, type Sink, Unreadable } from "./input.ts";
import { copyArguments } from "./json-calls.ts";
import { readHead } from "./named-calls.ts";
import type { ParserOptions } from "./parser.ts";
import type { CallSyntax } from "./call-syntax.ts";

/** https://cookbook.openai.com/articles/openai-harmony: an answer is a row of messages, each on a channel. */
const ends = ["<|end|>", "<|call|>", "<|return|>"];
const heads = ["<|start|>", "<|channel|>"];

/**
 * Reads an answer in OpenAI's Harmony format: the channel `analysis` is reasoning, a message to `functions.name` a call,
 * all else text. The prompt has ended with `<|start|>assistant`.
 */
export function* readHarmony(input: Input, answer: Answer, options: ParserOptions): Reading {
  const space = yield* input.space();
  let opener = yield* input.acceptAny([...heads, "to="]);
  if (opener === null) answer.text(space);
  for (;;) {
    const head = opener === null ? null : yield* readMessageHead(input, answer, opener);
    const marker: string | null =
      head === null
        ? yield* input.until([...heads, ...ends], (text) => answer.text(text))
        : yield* readMessage(input, answer, options, head);
    if (marker === null) return;
    opener = heads.includes(marker) ? marker : null;
  }
}

/** All before the body of a message; null, and text, where it is none. */
function* readMessageHead(input: Input, answer: Answer, opener: string): Reading<string | null> {
  input.mark();
  try {
    return opener + (yield* readHead(input, "<|message|>"));
  } catch (error) {
    if (!(error instanceof Unreadable)) throw error;
    input.rewind();
    answer.text(opener);
    return null;
  }
}

/** The body of a message; returns what ended it. */
function* readMessage(input: Input, answer: Answer, options: ParserOptions, head: string): Reading<string | null> {
  const isAnalysis = /<\|channel\|>\s*analysis/.test(head);
  const name = readRecipient(head, options);
  if (name !== null) yield* readArguments(input, answer, name);
  input.unmark();
  const sink: Sink = name === null && isAnalysis ? (text) => answer.reasoning(text) : (text) => answer.text(text);
  answer.inReasoning = name === null && isAnalysis;
  const end = yield* input.until([...ends, ...heads], sink);
  if (answer.inReasoning && end !== null) answer.endReasoning();
  return end;
}

function* readArguments(input: Input, answer: Answer, name: string): Reading {
  input.mark();
  try {
    yield* input.space();
    if ((yield* input.comesNext(ends)) !== null) answer.begin(name, "{}");
    else yield* copyArguments(input, answer, name);
  } catch (error) {
    if (!(error instanceof Unreadable)) throw error;
    if (input.marked) input.rewind();
  }
}

function readRecipient(head: string, options: ParserOptions): string | null {
  const recipient = /\bto=([^\s<]+)/.exec(head)?.[1];
  if (recipient === undefined || options.tools.length === 0) return null;
  const name = recipient.replace(/^functions\./, "");
  return name !== recipient || options.tools.some((tool) => tool.name === name) ? name : null;
}

/** How Harmony writes calls; they are read with the whole answer. */
export const harmonyCalls: CallSyntax = {
  openers: [],
  bare: [],
  preserved: ["<|start|>", "<|channel|>", "<|constrain|>", "<|message|>", ...ends],
  triggers: ["<|channel|>commentary to=functions.", " to=functions."],
  readCalls() {
    throw new Unreadable("Harmony reads whole messages");
  },
  addCalls(builder, tools, parallel) {
    const ways = tools.map((tool, index) => {
      const parameters = builder.schema(tool.parameters, `tool-${index}`);
      const name = literalText(`to=functions.${tool.name}`);
      const json = `(" <|constrain|>json" | " json" | "<|constrain|>json")? "<|message|>"`;
      const channel = `"<|channel|>commentary"`;
      return builder.rule(`call-${index}`, `(${channel} " " ${name} | " " ${name} ${channel}) ${json} ${parameters}`);
    });
    const call = builder.rule("any-call", ways.join(" | "));
    const more = parallel ? `("<|call|><|start|>assistant" ${call})*` : "";
    return builder.rule("calls", `"<|start|>assistant"? ${call} ${more}`.trim());
  },
};
