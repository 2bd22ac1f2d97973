import type { ChatEvent, Tool } from "../../core/chat.ts";
import { Answer } from "./answer.ts";
import { Input, type Reading } from "./input.ts";

/** What a parser says: everything of an answer but its frame. */
export type ParsedEvent = ChatEvent & { type: "text" | "reasoning" | "tool-call" };

/**
 * Reads a model's output, which comes in pieces cut anywhere, into text, reasoning and tool calls. A call is told when
 * its name is known, its arguments as they come. Nothing is ever lost: what turns out not to be a call is said as text;
 * where a call breaks off or off the rails after it was told, what was told stands and the rest is text.
 */
export interface OutputParser {
  push(text: string): ParsedEvent[];
  /** The output is over: what was held back, if anything. */
  end(): ParsedEvent[];
}

/** A parser of a whole answer. */
export interface AnswerParser extends OutputParser {
  /** Whether what came last was reasoning. */
  readonly reasoning: boolean;
}

/** What a parser must know of the request. */
export interface ParserOptions {
  /** Empty: no calls are looked for. */
  readonly tools: readonly Tool[];
  /** Makes the id of a call. */
  readonly newId: () => string;
  /** The prompt ended inside the reasoning, as that of templates does that make a model think. */
  readonly opened: boolean;
}

/** A parser that follows a reading of the whole output. */
export function createParser(
  options: ParserOptions,
  read: (input: Input, answer: Answer, options: ParserOptions) => Reading,
): AnswerParser {
  const input = new Input();
  const answer = new Answer(options, () => input.unmark());
  const reading = read(input, answer, options);
  answer.inReasoning = options.opened;
  return {
    get reasoning() {
      return answer.inReasoning;
    },
    push(text) {
      input.add(text);
      reading.next();
      return answer.take();
    },
    end() {
      input.close();
      reading.next();
      return answer.finish();
    },
  };
}
