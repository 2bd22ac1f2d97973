import type { ChatEvent, Tool } from "../../core/chat.ts";

/** What a parser says: everything of an answer but its frame. */
export type ParsedEvent = ChatEvent & { type: "text" | "reasoning" | "tool-call" };

/**
 * Reads a model's output, which comes in pieces cut anywhere, into text, reasoning and tool calls. Nothing is ever
 * lost: what turns out not to be a tool call is said as text.
 */
export interface OutputParser {
  push(text: string): ParsedEvent[];
  /** The output is over: what was held back, if anything. */
  end(): ParsedEvent[];
}

export interface ParserOptions {
  readonly tools: readonly Tool[];
  /** Makes the id of a call. */
  readonly newId: () => string;
}

/** Tool calls numbered in the order in which they were found. */
export class CallNumbers {
  #next = 0;
  readonly #newId: () => string;

  constructor(newId: () => string) {
    this.#newId = newId;
  }

  toEvent(call: { name: string; arguments: string }): ParsedEvent {
    return { type: "tool-call", index: this.#next++, id: this.#newId(), name: call.name, arguments: call.arguments };
  }
}

/** A parser for models without tools: all is text. */
export function textParser(): OutputParser {
  return { push: (text) => (text === "" ? [] : [{ type: "text", text }]), end: () => [] };
}
