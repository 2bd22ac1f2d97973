import type { Json } from "../../core/json.ts";

/** Rules of JSON that all grammars share. White space is bounded: without a bound a model may produce it forever. */
export const primitives: Record<string, string> = {
  ws: `| " " " "? | "\\n" [ \\t]{0,20}`,
  char: `[^"\\\\\\x7F\\x00-\\x1F] | "\\\\" (["\\\\/bfnrt] | "u" escape)`,
  // A character by its number: two numbers where it takes a pair, never half of one.
  escape: `([0-9a-cA-CefEF] hex | [dD] [0-7]) hex hex | [dD] [89abAB] hex hex "\\\\u" [dD] [c-fC-F] hex hex`,
  hex: `[0-9a-fA-F]`,
  string: `"\\"" char* "\\""`,
  integer: `"-"? ("0" | [1-9] [0-9]{0,15})`,
  number: `integer ("." [0-9]{1,16})? ([eE] [-+]? [0-9]{1,3})?`,
  boolean: `"true" | "false"`,
  null: `"null"`,
  value: `object | array | string | number | boolean | null`,
  object: `"{" ws (string ws ":" ws value ws ("," ws string ws ":" ws value ws)*)? "}"`,
  array: `"[" ws (value ws ("," ws value ws)*)? "]"`,
};

/** The empty text. A rule or way of no letters at all would make the next line part of it. */
export const nothing = `""`;

/** A GBNF literal of a value's JSON text. */
export function literal(value: Json): string {
  return literalText(JSON.stringify(value));
}

/** A GBNF literal of a text. */
export function literalText(text: string): string {
  const escaped = text.replace(/[\\"\n\r\t]/g, (character) => {
    const names: Record<string, string> = { "\n": "\\n", "\r": "\\r", "\t": "\\t" };
    return names[character] ?? `\\${character}`;
  });
  return `"${escaped}"`;
}

/** A character inside `[…]`. */
export function classCharacter(character: string): string {
  return /[\]\\^-]/.test(character)
    ? `\\x${character.charCodeAt(0).toString(16).padStart(2, "0").toUpperCase()}`
    : character;
}
