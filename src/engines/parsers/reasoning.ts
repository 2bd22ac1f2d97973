import { overlap } from "./overlap.ts";
import type { OutputParser, ParsedEvent } from "./parser.ts";

/** The tags around a model's reasoning. */
export interface ReasoningTags {
  readonly open: string;
  readonly close: string;
}

export const thinkTags: ReasoningTags = { open: "<think>", close: "</think>" };

/**
 * Splits the reasoning that opens an output from the rest, which goes to `inner`. `opened`: the prompt ended inside the
 * tags, as templates do that force a model to think.
 */
export class ReasoningParser implements OutputParser {
  readonly #inner: OutputParser;
  readonly #tags: ReasoningTags;
  #state: "start" | "reasoning" | "after" | "answer";
  #held = "";
  #said = false;

  constructor(inner: OutputParser, options: { readonly tags: ReasoningTags; readonly opened: boolean }) {
    this.#inner = inner;
    this.#tags = options.tags;
    this.#state = options.opened ? "reasoning" : "start";
  }

  /** Whether what came last was reasoning. */
  get reasoning(): boolean {
    return this.#state === "reasoning";
  }

  push(text: string): ParsedEvent[] {
    this.#held += text;
    const events: ParsedEvent[] = [];
    if (this.#state === "start") this.#readStart();
    if (this.#state === "reasoning") this.#readReasoning(events);
    if (this.#state === "after" && this.#held.trim() !== "") {
      // The blank lines between reasoning and answer belong to neither.
      this.#held = this.#held.trimStart();
      this.#state = "answer";
    }
    if (this.#state === "answer") {
      events.push(...this.#inner.push(this.#held));
      this.#held = "";
    }
    return events;
  }

  end(): ParsedEvent[] {
    const rest = this.#held;
    this.#held = "";
    if (this.#state === "reasoning") return rest === "" ? [] : [{ type: "reasoning", text: rest }];
    const last = this.#state === "start" ? this.#inner.push(rest) : [];
    return [...last, ...this.#inner.end()];
  }

  #readStart(): void {
    const text = this.#held.trimStart();
    if (text.startsWith(this.#tags.open)) {
      this.#held = text.slice(this.#tags.open.length);
      this.#state = "reasoning";
    } else if (!this.#tags.open.startsWith(text)) {
      this.#state = "answer";
    }
  }

  #readReasoning(events: ParsedEvent[]): void {
    if (!this.#said) this.#held = this.#held.trimStart();
    const at = this.#held.indexOf(this.#tags.close);
    // White space at the end waits: before the closing tag it belongs to the syntax.
    const end = at >= 0 ? at : this.#held.length - overlap(this.#held, this.#tags.close);
    const text = this.#held.slice(0, end).trimEnd();
    if (text !== "") events.push({ type: "reasoning", text });
    this.#said ||= text !== "";
    this.#held = at >= 0 ? this.#held.slice(at + this.#tags.close.length) : this.#held.slice(text.length);
    if (at >= 0) this.#state = "after";
  }
}
