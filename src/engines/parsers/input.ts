/** A piece of reading: it yields wherever it wants more of the output, and is resumed when there is more. */
export type Reading<Result = void> = Generator<undefined, Result, undefined>;

/** Takes text as it is read. */
export type Sink = (text: string) => void;

/** Thrown by a reading when the output is not what its syntax says. */
export class Unreadable extends Error {
  override readonly name = "Unreadable";
}

/**
 * A model's output as it comes, in pieces cut anywhere, for readings that are written as if it lay there whole. What is
 * consumed is let go, but for what follows a mark; so that the whole takes time in proportion to the output's length.
 */
export class Input {
  #text = "";
  #at = 0;
  #closed = false;
  /** Where in `#text` the mark is; null: none is set. */
  #markAt: number | null = null;
  /** What was consumed since the mark and before `#text`: a rope, put together only when it is rewound. */
  #behind = "";

  add(piece: string): void {
    if (this.#markAt !== null) {
      this.#behind += this.#text.slice(this.#markAt, this.#at);
      this.#markAt = 0;
    }
    this.#text = this.#text.slice(this.#at) + piece;
    this.#at = 0;
  }

  /** No more is to come. */
  close(): void {
    this.#closed = true;
  }

  /** From here on everything can be had again. */
  mark(): void {
    this.#markAt = this.#at;
    this.#behind = "";
  }

  get marked(): boolean {
    return this.#markAt !== null;
  }

  unmark(): void {
    this.#markAt = null;
    this.#behind = "";
  }

  /** Back to the mark, which is taken away. */
  rewind(): void {
    if (this.#markAt === null) throw new Error("there is no mark to go back to");
    this.#text = this.#behind + this.#text.slice(this.#markAt);
    this.#at = 0;
    this.unmark();
  }

  /** Follows a reading that tells nothing before it is done: where it fails, all that it consumed can be had again. */
  *whole<Result>(reading: Reading<Result>): Reading<Result> {
    if (this.marked) return yield* reading;
    this.mark();
    const result = yield* reading;
    this.unmark();
    return result;
  }

  /** Waits until there is more than now; false when the output is over. */
  *more(): Reading<boolean> {
    const seen = this.#text.length - this.#at;
    while (!this.#closed && this.#text.length - this.#at <= seen) yield;
    return this.#text.length - this.#at > seen;
  }

  /** The next character, not consumed; "" at the end. */
  *peek(): Reading<string> {
    if (this.#at >= this.#text.length) yield* this.more();
    return this.#text.charAt(this.#at);
  }

  /** Consumes `literal` where it comes next. */
  *accept(literal: string): Reading<boolean> {
    return (yield* this.acceptAny([literal])) !== null;
  }

  /** Consumes and returns the longest of `literals` that comes next; null when none does. */
  *acceptAny(literals: readonly string[]): Reading<string | null> {
    const found = yield* this.comesNext(literals);
    if (found !== null) this.#at += found.length;
    return found;
  }

  /** The longest of `literals` that comes next, not consumed. */
  *comesNext(literals: readonly string[]): Reading<string | null> {
    for (;;) {
      let longest: string | null = null;
      let open = false;
      const left = this.#text.length - this.#at;
      for (const literal of literals) {
        if (this.#text.startsWith(literal, this.#at)) {
          if (longest === null || literal.length > longest.length) longest = literal;
        } else if (left < literal.length && literal.startsWith(this.#text.slice(this.#at))) open = true;
      }
      if (!open || !(yield* this.more())) return longest;
    }
  }

  /** Consumes `literal`, or throws `Unreadable`. */
  *expect(literal: string): Reading {
    if (!(yield* this.accept(literal))) throw new Unreadable(`expected ${literal}`);
  }

  /** Consumes all that matches now, without waiting; `pattern` is sticky. */
  run(pattern: RegExp): string {
    pattern.lastIndex = this.#at;
    const found = pattern.exec(this.#text)?.[0] ?? "";
    this.#at += found.length;
    return found;
  }

  /** Consumes all that matches, across pieces, as long as it is at most `limit` characters. */
  *all(pattern: RegExp, limit: number): Reading<string> {
    let found = "";
    while ((yield* this.peek()) !== "") {
      const part = this.run(pattern);
      if (part === "") break;
      found += part;
      if (found.length > limit) throw new Unreadable(`more than ${limit} characters`);
    }
    return found;
  }

  /** White space, consumed. */
  *space(): Reading<string> {
    let found = "";
    while ((yield* this.peek()) !== "") {
      const part = this.run(whiteSpace);
      if (part === "") break;
      found += part;
    }
    return found;
  }

  /** The next character, consumed. Throws `Unreadable` at the end. */
  *character(): Reading<string> {
    const next = yield* this.peek();
    if (next === "") throw new Unreadable("the output is over");
    this.#at += 1;
    return next;
  }

  /**
   * Gives `sink` all text before the first of `markers` and consumes that marker; null when the output ends before one.
   * Held back is only what may be the beginning of a marker.
   */
  *until(markers: readonly string[], sink: Sink): Reading<string | null> {
    for (;;) {
      const found = this.#first(markers);
      const end = found?.at ?? this.#held(markers);
      if (end > this.#at) sink(this.#text.slice(this.#at, end));
      this.#at = end;
      if (found !== null) {
        // A longer marker may begin as this one does.
        const marker = (yield* this.comesNext(markers)) ?? found.marker;
        this.#at += marker.length;
        return marker;
      }
      if (yield* this.more()) continue;
      if (this.#at < this.#text.length) sink(this.#text.slice(this.#at));
      this.#at = this.#text.length;
      return null;
    }
  }

  /**
   * Whether, after white space, one of `literals` comes next, or the output ends before
   * that could be told and `orEnd` says so. Nothing is consumed.
   */
  *isFollowedBy(literals: readonly string[], orEnd: boolean): Reading<boolean> {
    for (;;) {
      // Who writes more white space than this before a tag does not mean the tag.
      const rest = this.#text.slice(this.#at, this.#at + 200).trimStart();
      if (literals.some((literal) => rest.startsWith(literal))) return true;
      const open = rest === "" || literals.some((literal) => literal.startsWith(rest));
      if (!open || this.#text.length - this.#at >= 200) return false;
      if (!(yield* this.more())) return orEnd;
    }
  }

  #first(markers: readonly string[]): { at: number; marker: string } | null {
    let first: { at: number; marker: string } | null = null;
    for (const marker of markers) {
      const at = this.#text.indexOf(marker, this.#at);
      if (at >= 0 && (first === null || at < first.at)) first = { at, marker };
    }
    return first;
  }

  /** Where the longest end of the text begins that may be the beginning of a marker. */
  #held(markers: readonly string[]): number {
    let held = this.#text.length;
    for (const marker of markers) {
      const earliest = Math.max(this.#at, this.#text.length - marker.length + 1);
      for (let at = earliest; at < held; at++) {
        if (marker.startsWith(this.#text.slice(at))) held = at;
      }
    }
    return held;
  }
}

const whiteSpace = /\s+/y;
