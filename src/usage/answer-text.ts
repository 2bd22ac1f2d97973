import { estimateTokens } from "../dialects/estimate.ts";
import { valueBehind } from "./told-usage.ts";

/** Bytes of an answer's text that are kept. */
const longestKept = 64 * 1024;
/** A chunk of more bytes may hold several events of different kinds. */
const oneEvent = 1024;

const chatFields = ['"content"', '"reasoning_content"', '"reasoning"', '"arguments"'];
/** Where each path's answers hold what the model says. */
const fields: Readonly<Record<string, readonly string[]>> = {
  "/v1/completions": ['"text"'],
  "/v1/messages": ['"text"', '"thinking"', '"partial_json"'],
  "/api/chat": ['"content"', '"thinking"'],
  "/api/generate": ['"response"', '"thinking"'],
};
const responseStream = ['"delta"'];
const responseWhole = ['"text"', '"arguments"'];

/**
 * What the model says in an answer on its way, found by the names of the fields that hold it. It is there for answers
 * of which no usage was told: its length, and its first 64 KB where somebody is to count them.
 */
export class AnswerText {
  /** Pieces of text: for most servers, a piece is a token. */
  pieces = 0;
  /** Bytes of text as the JSON has them. */
  length = 0;
  readonly #keep: boolean;
  #fields: readonly string[];
  #kept: Buffer | undefined;
  #size = 0;
  /** The chunk before ended inside of a text. */
  #inside = false;
  /** … right behind a backslash. */
  #escaping = false;

  constructor(path: string, streamed: boolean, keep: boolean) {
    this.#keep = keep;
    this.#fields =
      path === "/v1/responses" ? (streamed ? responseStream : responseWhole) : (fields[path] ?? chatFields);
  }

  /** The next chunk, each character one byte. */
  read(text: string): void {
    let from = 0;
    if (this.#inside) {
      from = this.#take(text, 0);
      if (this.#inside) return;
    }
    let twin = false;
    for (const field of this.#fields) {
      // Servers that write both names write the same text.
      if ((twin && field === '"reasoning"') || !this.#find(field, text, from)) continue;
      if (text.length <= oneEvent) return this.#prefer(field);
      twin ||= field === '"reasoning_content"';
    }
  }

  /** Tokens by rule of thumb; 0 when nothing was said. */
  estimate(): number {
    return this.length === 0 ? 0 : Math.max(this.pieces, estimateTokens(this.length));
  }

  /** What was kept, in its own characters; "" when nothing was, or was to be. */
  text(): string {
    const kept = this.#kept?.toString("utf8", 0, this.#size) ?? "";
    try {
      return JSON.parse(`"${kept}"`) as string;
    } catch {
      return kept;
    }
  }

  /** How much longer the whole is than what was kept. */
  get scale(): number {
    return this.#size === 0 ? 1 : this.length / this.#size;
  }

  #find(field: string, text: string, from: number): boolean {
    let found = false;
    for (let at = text.indexOf(field, from); at !== -1 && !this.#inside; at = text.indexOf(field, at)) {
      const value = valueBehind(text, at + field.length) ?? -1;
      at += field.length;
      if (value === -1 || text.charCodeAt(value) !== 0x22) continue;
      at = this.#take(text, value + 1);
      found = true;
    }
    return found;
  }

  /** Reads a text that goes on at `from`, to its closing quote; returns what comes after it. */
  #take(text: string, from: number): number {
    const start = this.#escaping ? from + 1 : from;
    let close = text.indexOf('"', start);
    while (close !== -1 && isEscaped(text, close, start)) close = text.indexOf('"', close + 1);
    this.#inside = close === -1;
    const end = close === -1 ? text.length : close;
    this.#escaping = this.#inside && isEscaped(text, end, start);
    if (end === from) return end + 1;
    this.pieces++;
    this.length += end - from;
    if (this.#keep && this.#size < longestKept) this.#copy(text.slice(from, end));
    return end + 1;
  }

  #copy(text: string): void {
    const size = Math.min(this.#size + text.length, longestKept);
    let kept = this.#kept ?? Buffer.allocUnsafe(1024);
    if (size > kept.length) {
      const larger = Buffer.allocUnsafe(Math.max(size, kept.length * 2));
      kept.copy(larger, 0, 0, this.#size);
      kept = larger;
    }
    kept.write(text, this.#size, size - this.#size, "latin1");
    this.#kept = kept;
    this.#size = size;
  }

  /** What a stream has said last it mostly says next. */
  #prefer(field: string): void {
    if (this.#fields[0] !== field) this.#fields = [field, ...this.#fields.filter((one) => one !== field)];
  }
}

function isEscaped(text: string, at: number, from: number): boolean {
  let slashes = 0;
  while (at - 1 - slashes >= from && text.charCodeAt(at - 1 - slashes) === 0x5c) slashes++;
  return slashes % 2 === 1;
}
