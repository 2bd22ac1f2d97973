/** A rule of a grammar as a tree. `max` null: without end. */
export type GrammarNode =
  | { readonly type: "characters"; readonly negated: boolean; readonly ranges: readonly (readonly [number, number])[] }
  | { readonly type: "reference"; readonly name: string }
  | { readonly type: "sequence"; readonly parts: readonly GrammarNode[] }
  | { readonly type: "choice"; readonly ways: readonly GrammarNode[] }
  | { readonly type: "repeat"; readonly body: GrammarNode; readonly min: number; readonly max: number | null }
  | { readonly type: "token"; readonly text: string };

/** What is wrong with a grammar; the message names the line where there is one. */
export class GrammarError extends Error {}

const deepestGroups = 200;
/** llama.cpp reads a larger upper bound as none, and refuses a larger lower one. */
const mostRepetitions = 2000;

/** GBNF → rules by name, as llama.cpp reads it. Throws `GrammarError`. */
export function readGrammar(text: string): Map<string, GrammarNode> {
  return new GrammarReader(text).rules();
}

class GrammarReader {
  readonly #text: string;
  #at = 0;
  #depth = 0;

  constructor(text: string) {
    this.#text = text;
  }

  rules(): Map<string, GrammarNode> {
    const rules = new Map<string, GrammarNode>();
    if (this.#text.includes("\0")) throw new GrammarError("it holds a NUL character");
    this.#space(true);
    while (this.#at < this.#text.length) {
      const name = this.#name();
      this.#space(false);
      this.#expect("::=");
      this.#space(true);
      rules.set(name, this.#choice(false));
      if (this.#at < this.#text.length && !/[\r\n]/.test(this.#peek()))
        throw this.#problem("expected the end of the rule");
      this.#space(true);
    }
    return rules;
  }

  #choice(nested: boolean): GrammarNode {
    if (++this.#depth > deepestGroups) throw this.#problem(`more than ${deepestGroups} parentheses in one another`);
    const ways = [this.#sequence(nested)];
    while (this.#take("|")) {
      this.#space(true);
      ways.push(this.#sequence(nested));
    }
    this.#depth--;
    return ways.length === 1 ? (ways[0] as GrammarNode) : { type: "choice", ways };
  }

  #sequence(nested: boolean): GrammarNode {
    const parts: GrammarNode[] = [];
    for (;;) {
      const part = this.#part();
      if (part === null) return parts.length === 1 ? (parts[0] as GrammarNode) : { type: "sequence", parts };
      this.#space(nested);
      parts.push(this.#repeated(part, nested));
    }
  }

  #part(): GrammarNode | null {
    const next = this.#peek();
    if (this.#take('"')) return this.#literal();
    if (this.#take("[")) return this.#class();
    if (this.#take(".")) return { type: "characters", negated: true, ranges: [] };
    if (this.#take("(")) {
      this.#space(true);
      const group = this.#choice(true);
      this.#expect(")");
      return group;
    }
    if (next === "<" || next === "!") return this.#token();
    return /[a-zA-Z0-9-]/.test(next) ? { type: "reference", name: this.#name() } : null;
  }

  #repeated(part: GrammarNode, nested: boolean): GrammarNode {
    let body = part;
    for (;;) {
      const bounds = this.#bounds();
      if (bounds === null) return body;
      this.#space(nested);
      body = { type: "repeat", body, min: bounds[0], max: bounds[1] };
    }
  }

  #bounds(): [number, number | null] | null {
    if (this.#take("*")) return [0, null];
    if (this.#take("+")) return [1, null];
    if (this.#take("?")) return [0, 1];
    if (this.#peek() !== "{") return null;
    const match = /^\{[ \t\r\n]*(\d+)[ \t\r\n]*(?:(,)[ \t\r\n]*(\d*)[ \t\r\n]*)?\}/.exec(
      this.#text.slice(this.#at, this.#at + 100),
    );
    if (match === null) throw this.#problem("a repetition is written {2}, {2,} or {2,5}");
    const min = Number(match[1]);
    const max = match[2] === undefined ? min : match[3] === "" ? null : Number(match[3]);
    if (Math.max(min, max ?? 0) > mostRepetitions) throw this.#problem(`more than ${mostRepetitions} repetitions`);
    if (max !== null && max < min) throw this.#problem("a repetition whose bounds are the wrong way round");
    this.#at += match[0].length;
    return [min, max];
  }

  #literal(): GrammarNode {
    const parts: GrammarNode[] = [];
    while (!this.#take('"')) {
      const code = this.#character();
      parts.push({ type: "characters", negated: false, ranges: [[code, code]] });
    }
    return { type: "sequence", parts };
  }

  #class(): GrammarNode {
    const negated = this.#take("^");
    const ranges: [number, number][] = [];
    while (!this.#take("]")) {
      const low = this.#character();
      if (this.#peek() === "-" && this.#text[this.#at + 1] !== "]") {
        this.#at++;
        ranges.push([low, this.#character()]);
      } else ranges.push([low, low]);
    }
    return { type: "characters", negated, ranges };
  }

  #character(): number {
    const code = this.#text.codePointAt(this.#at);
    if (code === undefined) throw this.#problem("it breaks off");
    if (code !== 0x5c) {
      this.#at += code > 0xffff ? 2 : 1;
      return code;
    }
    const letter = this.#text[this.#at + 1] ?? "";
    const length = { x: 2, u: 4, U: 8 }[letter];
    if (length !== undefined) {
      const hex = this.#text.slice(this.#at + 2, this.#at + 2 + length);
      if (hex.length !== length || !/^[0-9a-fA-F]+$/.test(hex))
        throw this.#problem(`\\${letter} takes ${length} hex digits`);
      this.#at += 2 + length;
      return parseInt(hex, 16);
    }
    const plain = { t: 9, r: 13, n: 10 }[letter];
    if (plain === undefined && !/^[\\"[\]-]$/.test(letter)) throw this.#problem(`unknown escape \\${letter}`);
    this.#at += 2;
    return plain ?? letter.charCodeAt(0);
  }

  #token(): GrammarNode {
    const match = /^!?<(\[\d{1,9}\]|[^>\n[][^>\n]*)>/.exec(this.#text.slice(this.#at, this.#at + 200));
    if (match === null) throw this.#problem("a token is written <text> or <[id]>");
    this.#at += match[0].length;
    return { type: "token", text: match[0] };
  }

  #name(): string {
    const match = /^[a-zA-Z0-9-]+/.exec(this.#text.slice(this.#at, this.#at + 1000));
    if (match === null) throw this.#problem("expected the name of a rule");
    this.#at += match[0].length;
    return match[0];
  }

  #space(lines: boolean): void {
    for (;;) {
      const next = this.#text[this.#at];
      if (next === "#") {
        while (this.#at < this.#text.length && !/[\r\n]/.test(this.#peek())) this.#at++;
      } else if (next === " " || next === "\t" || (lines && (next === "\n" || next === "\r"))) this.#at++;
      else return;
    }
  }

  #peek(): string {
    return this.#text[this.#at] ?? "";
  }

  #take(text: string): boolean {
    if (!this.#text.startsWith(text, this.#at)) return false;
    this.#at += text.length;
    return true;
  }

  #expect(text: string): void {
    if (!this.#take(text)) throw this.#problem(`expected ${text}`);
  }

  #problem(what: string): GrammarError {
    const line = this.#text.slice(0, this.#at).split("\n").length;
    const here = this.#text.slice(this.#at, this.#at + 20).split("\n", 1)[0] ?? "";
    return new GrammarError(`line ${line}: ${what}${here === "" ? "" : ` before ${JSON.stringify(here)}`}`);
  }
}
