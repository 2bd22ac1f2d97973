import type { Terminal } from "./command.ts";

/**
 * One line at the bottom of a terminal that is rewritten in place. The cursor rests at its begin: where a terminal that
 * was made narrower folds the line, what is erased from there on is all of it.
 */
export class LiveLine {
  readonly #terminal: Terminal;
  #text = "";

  constructor(terminal: Terminal) {
    this.#terminal = terminal;
  }

  /** Columns that a line may have; the last one stays free, for some terminals begin a new line after it. */
  get room(): number {
    return Math.max((this.#terminal.output.columns ?? 80) - 1, 1);
  }

  /** The text in place of what was there. It must hold no control characters but those of colours. */
  draw(text: string): void {
    this.#text = `${clipped}${text}${folded}\r`;
    this.#terminal.write(`${erase}${this.#text}`);
  }

  /** Whole lines, above. In one write, so that nobody sees one without the other. */
  above(lines: string): void {
    this.#terminal.write(this.#text === "" ? lines : `${erase}${lines}${this.#text}`);
  }

  /** Takes the line away. */
  clear(): void {
    if (this.#text !== "") this.#terminal.write(erase);
    this.#text = "";
  }
}

/** To the begin of the line, and everything from there on is gone (ECMA-48: CR, ED 0). */
const erase = "\r\u001b[J";
/** What is too wide after all, for some letters take two columns, is cut off rather than folded (DECAWM off, on). */
const clipped = "\u001b[?7l";
const folded = "\u001b[?7h";
