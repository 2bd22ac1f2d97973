import type { ChatEvent } from "../core/chat.ts";
import { overlap } from "../engines/parsers/overlap.ts";

/** Text inside or outside of a pair of tags; `closed`: the closing tag followed. */
export interface Piece {
  readonly inside: boolean;
  readonly text: string;
  readonly closed: boolean;
}

/** Cuts text that comes in pieces at a pair of tags. What may be the beginning of a tag is held back until that is clear. */
export class TagScanner {
  readonly #tags: readonly [open: string, close: string];
  #inside = false;
  #held = "";

  constructor(open: string, close: string) {
    this.#tags = [open, close];
  }

  push(text: string): Piece[] {
    const pieces: Piece[] = [];
    let rest = this.#held + text;
    for (;;) {
      const tag = this.#tags[this.#inside ? 1 : 0];
      const at = rest.indexOf(tag);
      if (at === -1) {
        const keep = overlap(rest, tag);
        this.#add(pieces, rest.slice(0, rest.length - keep), false);
        this.#held = rest.slice(rest.length - keep);
        return pieces;
      }
      this.#add(pieces, rest.slice(0, at), this.#inside);
      this.#inside = !this.#inside;
      rest = rest.slice(at + tag.length);
    }
  }

  /** What was held back at the end. */
  end(): Piece[] {
    const pieces: Piece[] = [];
    this.#add(pieces, this.#held, false);
    this.#held = "";
    return pieces;
  }

  #add(pieces: Piece[], text: string, closed: boolean): void {
    if (text !== "" || closed) pieces.push({ inside: this.#inside, text, closed });
  }
}

/** Thinking that a server leaves in the text as `<think>…</think>` becomes reasoning; line ends around it are dropped. */
export async function* splitThinking(events: AsyncIterable<ChatEvent>): AsyncGenerator<ChatEvent> {
  const scanner = new TagScanner("<think>", "</think>");
  let trim = true;
  const toEvents = function* (pieces: Piece[]): Generator<ChatEvent> {
    for (const piece of pieces) {
      const text = trim ? piece.text.replace(/^\s+/, "") : piece.text;
      if (text !== "") {
        trim = false;
        yield { type: piece.inside ? "reasoning" : "text", text };
      }
      if (piece.closed) trim = true;
    }
  };
  for await (const event of events) {
    if (event.type === "text") yield* toEvents(scanner.push(event.text));
    else {
      if (event.type === "finish") yield* toEvents(scanner.end());
      yield event;
    }
  }
}
