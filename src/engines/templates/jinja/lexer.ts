import { TemplateError } from "./budget.ts";

export type TokenType =
  | "text"
  | "name"
  | "string"
  | "number"
  | "float"
  | "operator"
  | "block"
  | "block-end"
  | "variable"
  | "variable-end"
  | "end";

export interface Token {
  readonly type: TokenType;
  readonly value: string;
  readonly line: number;
}

/** Cuts a template into tokens, with `trim_blocks` and `lstrip_blocks` as transformers sets them. */
export function tokenize(template: string): Token[] {
  return new Lexer(template.replace(/\r\n?/g, "\n").replace(/\n$/, "")).run();
}

const opening = /\{[{%#]/g;
const rawBegin = /\{%[-+]?\s*raw\s*(?:-%\}\s*|%\})/y;
const rawEnd = /\{%([-+]?)\s*endraw\s*(?:\+%\}|-%\}\s*|%\}\n?)/g;
const commentEnd = /\+#\}|-#\}\s*|#\}\n?/g;
const blockEnd = /\+%\}|-%\}\s*|%\}\n?/y;
const variableEnd = /-\}\}\s*|\}\}/y;
const space = /\s+/y;
const float = /\d+(?:_\d+)*(?:\.\d+(?:_\d+)*(?:[eE][+-]?\d+(?:_\d+)*)?|[eE][+-]?\d+(?:_\d+)*)/y;
const integer = /0[bB](?:_?[01])+|0[oO](?:_?[0-7])+|0[xX](?:_?[\da-fA-F])+|\d+(?:_?\d+)*/y;
const name = /[\p{ID_Start}_][\p{ID_Continue}]*/uy;
const text = /'[^'\\]*(?:\\[\s\S][^'\\]*)*'|"[^"\\]*(?:\\[\s\S][^"\\]*)*"/y;
const operator = /\/\/|\*\*|==|!=|>=|<=|[-+/*%~[\](){}><=.:|,;]/y;

const closers: Readonly<Record<string, string>> = { "(": ")", "[": "]", "{": "}" };

class Lexer {
  readonly #source: string;
  readonly #tokens: Token[] = [];
  #at = 0;
  #line = 1;
  #countedTo = 0;
  /** Whether what came last ended a line, so that a tag that follows stands at the start of one. */
  #lineStarts = true;

  constructor(source: string) {
    this.#source = source;
  }

  run(): Token[] {
    while (this.#at < this.#source.length) {
      opening.lastIndex = this.#at;
      const found = opening.exec(this.#source);
      if (found === null) {
        this.#add("text", this.#source.slice(this.#at));
        this.#at = this.#source.length;
        break;
      }
      this.#readTag(found.index);
    }
    this.#add("end", "");
    return this.#tokens;
  }

  #readTag(start: number): void {
    const kind = this.#source[start + 1];
    const sign = this.#source[start + 2] ?? "";
    const control = sign === "-" || sign === "+" ? sign : "";
    this.#addText(this.#source.slice(this.#at, start), control, kind !== "{");
    rawBegin.lastIndex = start;
    const raw = rawBegin.exec(this.#source);
    if (raw !== null) return this.#readRaw(start + raw[0].length);
    this.#at = start;
    if (kind === "#") return this.#skipComment(start);
    this.#add(kind === "%" ? "block" : "variable", "");
    this.#at = start + 2 + control.length;
    this.#readCode(kind === "%" ? blockEnd : variableEnd, kind === "%" ? "block-end" : "variable-end");
  }

  #addText(value: string, control: string, strips: boolean): void {
    let kept = value;
    if (control === "-") kept = value.trimEnd();
    else if (control === "" && strips) {
      const line = value.lastIndexOf("\n") + 1;
      if ((line > 0 || this.#lineStarts) && value.slice(line).trim() === "") kept = value.slice(0, line);
    }
    if (kept !== "") this.#add("text", kept);
  }

  #readRaw(start: number): void {
    rawEnd.lastIndex = start;
    const end = rawEnd.exec(this.#source);
    if (end === null) this.#fail("{% raw %} is not closed");
    this.#addText(this.#source.slice(start, end.index), end[1] ?? "", true);
    this.#pass(end.index + end[0].length);
  }

  #skipComment(start: number): void {
    commentEnd.lastIndex = start + 2;
    const end = commentEnd.exec(this.#source);
    if (end === null) this.#fail("a comment is not closed");
    this.#pass(end.index + end[0].length);
  }

  #readCode(end: RegExp, endType: TokenType): void {
    const open: string[] = [];
    for (;;) {
      this.#match(space);
      if (this.#at >= this.#source.length) this.#fail("a tag is not closed");
      if (open.length === 0) {
        end.lastIndex = this.#at;
        const closing = end.exec(this.#source);
        if (closing !== null) {
          this.#add(endType, "");
          return this.#pass(this.#at + closing[0].length);
        }
      }
      this.#readToken(open);
    }
  }

  #readToken(open: string[]): void {
    for (const [type, form] of [
      ["float", float],
      ["number", integer],
      ["name", name],
      ["string", text],
    ] as const) {
      const value = this.#match(form);
      if (value === null) continue;
      this.#add(type, type === "string" ? unescape(value.slice(1, -1)) : value);
      return;
    }
    const value = this.#match(operator);
    if (value === null) this.#fail(`unexpected ${JSON.stringify(this.#source[this.#at])}`);
    const closer = closers[value];
    if (closer !== undefined) open.push(closer);
    else if (value === ")" || value === "]" || value === "}") {
      if (open.pop() !== value) this.#fail(`unexpected ${value}`);
    }
    this.#add("operator", value);
  }

  #match(form: RegExp): string | null {
    form.lastIndex = this.#at;
    const found = form.exec(this.#source);
    if (found === null) return null;
    this.#at += found[0].length;
    return found[0];
  }

  #pass(to: number): void {
    this.#lineStarts = this.#source[to - 1] === "\n";
    this.#at = to;
  }

  #add(type: TokenType, value: string): void {
    while (this.#countedTo < this.#at) if (this.#source[this.#countedTo++] === "\n") this.#line += 1;
    this.#tokens.push({ type, value, line: this.#line });
  }

  #fail(reason: string): never {
    this.#add("end", "");
    throw new TemplateError(`line ${this.#line}: ${reason}`);
  }
}

const simpleEscapes: Readonly<Record<string, string>> = {
  "\n": "",
  "\\": "\\",
  "'": "'",
  '"': '"',
  a: "\x07",
  b: "\b",
  f: "\f",
  n: "\n",
  r: "\r",
  t: "\t",
  v: "\v",
};

/** Python's escapes; unknown ones stay as they are. */
function unescape(value: string): string {
  if (!value.includes("\\")) return value;
  const escapes = /\\(?:x([\da-fA-F]{2})|u([\da-fA-F]{4})|U([\da-fA-F]{8})|([0-7]{1,3})|([\s\S]))/g;
  return value.replace(escapes, (whole: string, ...found: (string | undefined)[]) => {
    const [hex, short, long, octal, one = ""] = found;
    const digits = hex ?? short ?? long;
    if (digits !== undefined) return String.fromCodePoint(Math.min(Number.parseInt(digits, 16), 0x10ffff));
    if (octal !== undefined) return String.fromCodePoint(Number.parseInt(octal, 8));
    return Object.hasOwn(simpleEscapes, one) ? (simpleEscapes[one] ?? whole) : whole;
  });
}
