import type { Answer } from "./answer.ts";
import { type Input, type Reading, Unreadable } from "./input.ts";
import type { ParserOptions } from "./parser.ts";

/** The tags around a model's reasoning. */
export interface ReasoningTags {
  readonly open: string;
  readonly close: string;
}

/** The tags of most models. */
export const thinkTags: ReasoningTags = { open: "<think>", close: "</think>" };

/** Reads a call, or several, of which `opener` has been consumed. Throws `Unreadable` when it is none. */
export type CallReading = (input: Input, answer: Answer, opener: string, options: ParserOptions) => Reading;

/** What an output consists of. */
export interface OutputSyntax {
  readonly reasoning: ReasoningTags;
  /** Texts at which a call may begin. */
  readonly openers: readonly string[];
  /** A call of one of the tools may also begin where the answer does, without an opener: at one of these. */
  readonly bare: readonly string[];
  readonly readCalls: CallReading;
  /** Frames of messages, which are not said: each from its opening to its closing text; "" where the opening is all. */
  readonly frames: readonly (readonly [open: string, close: string])[];
}

/** After so many calls that were none, the rest of an output is text: each may cost a second reading. */
const mostUnreadable = 100;

/** Reads an output: reasoning, if it opens with such, then text and calls in any order. */
export function* readOutput(input: Input, answer: Answer, options: ParserOptions, syntax: OutputSyntax): Reading {
  const { reasoning } = syntax;
  if (!answer.inReasoning) {
    const space = yield* input.space();
    if (yield* input.accept(reasoning.open)) answer.inReasoning = true;
    // Closed without having been opened: a template has opened and closed it, or a model skips it.
    else if (yield* input.accept(reasoning.close)) answer.endReasoning();
    else answer.text(space);
  }
  if (answer.inReasoning) yield* readReasoning(input, answer, reasoning);
  yield* readContent(input, answer, options, syntax);
}

/** Reads on to the closing tag of reasoning, or to the end. */
function* readReasoning(input: Input, answer: Answer, tags: ReasoningTags): Reading {
  answer.inReasoning = true;
  // A model whose prompt opened the reasoning often opens it once more.
  yield* input.space();
  yield* input.accept(tags.open);
  const close = yield* input.until([tags.close], (text) => answer.reasoning(text));
  if (close !== null) answer.endReasoning();
}

function* readContent(input: Input, answer: Answer, options: ParserOptions, syntax: OutputSyntax): Reading {
  const looksForCalls = options.tools.length > 0;
  if (looksForCalls && syntax.bare.length > 0) {
    answer.text(yield* input.space());
    const opens = (yield* input.comesNext(syntax.bare)) !== null;
    if (opens) yield* attempt(input, answer, "", syntax.readCalls(input, answer, "", options));
  }
  const frames = new Map(syntax.frames);
  const all = [...frames.keys(), ...(looksForCalls ? syntax.openers : [])];
  for (let unreadable = 0; ;) {
    const marker = yield* input.until(unreadable < mostUnreadable ? all : [], (text) => answer.text(text));
    if (marker === null) return;
    const close = frames.get(marker);
    const reading = close === undefined ? syntax.readCalls(input, answer, marker, options) : skipFrame(input, close);
    if (!(yield* attempt(input, answer, marker, reading))) unreadable += 1;
  }
}

/** Follows a reading that may turn out to be none; what it had consumed without telling of a call is text then. */
function* attempt(input: Input, answer: Answer, opener: string, reading: Reading): Reading<boolean> {
  const calls = answer.calls;
  input.mark();
  try {
    yield* reading;
    input.unmark();
    return true;
  } catch (error) {
    if (!(error instanceof Unreadable)) throw error;
  }
  if (input.marked) input.rewind();
  if (answer.calls === calls) answer.text(opener);
  return false;
}

function* skipFrame(input: Input, close: string): Reading {
  if (close === "") return;
  yield* input.all(/[^<\n]+/y, 200);
  yield* input.expect(close);
}
