import { TemplateError } from "./budget.ts";
import type { Token, TokenType } from "./lexer.ts";

/** Deeper nesting than this would exhaust the stack of whoever walks the tree. */
const deepest = 150;

/** Tokens, read one after the other. */
export class TokenStream {
  readonly #tokens: readonly Token[];
  #at = 0;
  #depth = 0;

  constructor(tokens: readonly Token[]) {
    this.#tokens = tokens;
  }

  get current(): Token {
    return this.#tokens[this.#at] ?? { type: "end", value: "", line: 0 };
  }

  /** Tokens read so far. */
  get position(): number {
    return this.#at;
  }

  next(): Token {
    const token = this.current;
    this.#at += 1;
    return token;
  }

  /** Whether the current token (or the one `ahead` of it) is this one. */
  is(type: TokenType, value?: string, ahead = 0): boolean {
    const token = this.#tokens[this.#at + ahead];
    return token?.type === type && (value === undefined || token.value === value);
  }

  skip(type: TokenType, value?: string): boolean {
    const found = this.is(type, value);
    if (found) this.#at += 1;
    return found;
  }

  expect(type: TokenType, value?: string): Token {
    if (this.is(type, value)) return this.next();
    return this.fail(`expected ${value ?? type}, got ${describe(this.current)}`);
  }

  /** Runs a rule that may contain itself. */
  nested<Result>(rule: () => Result): Result {
    this.#depth += 1;
    if (this.#depth > deepest) this.fail("it is nested too deeply");
    const result = rule();
    this.#depth -= 1;
    return result;
  }

  fail(reason: string): never {
    throw new TemplateError(`line ${this.current.line}: ${reason}`);
  }
}

function describe(token: Token): string {
  return token.value === "" ? `the ${token.type}` : JSON.stringify(token.value);
}
