import type { Vocabulary } from "../native/native-model.ts";

/** How far a text has come within a character of UTF-8: 0 between characters, −1 where it is no UTF-8. */
export type Utf8State = number;

/** The bytes that may follow, by state: lead bytes, then second bytes with their narrower ranges, then plain continuations. */
const between = 0;
const oneMore = 1;
const twoMore = 2;
const threeMore = 3;
const afterE0 = 4;
const afterEd = 5;
const afterF0 = 6;
const afterF4 = 7;
const broken = -1;

/** Reads one byte; the table of RFC 3629, section 4, so that overlong forms, surrogates and all beyond Unicode are broken. */
function nextState(state: Utf8State, byte: number): Utf8State {
  const within = (low: number, high: number, next: Utf8State): Utf8State =>
    byte >= low && byte <= high ? next : broken;
  switch (state) {
    case between:
      if (byte < 0x80) return between;
      if (byte >= 0xc2 && byte <= 0xdf) return oneMore;
      if (byte >= 0xe0 && byte <= 0xef) return byte === 0xe0 ? afterE0 : byte === 0xed ? afterEd : twoMore;
      return byte === 0xf0 ? afterF0 : byte === 0xf4 ? afterF4 : within(0xf1, 0xf3, threeMore);
    case oneMore:
      return within(0x80, 0xbf, between);
    case twoMore:
      return within(0x80, 0xbf, oneMore);
    case threeMore:
      return within(0x80, 0xbf, twoMore);
    case afterE0:
      return within(0xa0, 0xbf, oneMore);
    case afterEd:
      return within(0x80, 0x9f, oneMore);
    case afterF0:
      return within(0x90, 0xbf, twoMore);
    case afterF4:
      return within(0x80, 0x8f, twoMore);
    default:
      return broken;
  }
}

export function utf8After(state: Utf8State, bytes: Uint8Array): Utf8State {
  let now = state;
  for (const byte of bytes) now = nextState(now, byte);
  return now;
}

/** What a token is to a grammar. */
export const TokenKind = {
  /** Whole characters. */
  text: 0,
  /** Begins or ends within a character. */
  part: 1,
  /** Part of no text: invalid UTF-8, a NUL, at which llama.cpp stops reading, or nothing at all. */
  none: 2,
  /** A control token: not part of what is said, unless a parser wants to see it. */
  control: 3,
  /** Ends the generation. */
  end: 4,
} as const;

/** Of each token of a vocabulary, its kind and first byte: read once, when a grammar first has to look at all of them. */
export class TokenBytes {
  readonly kinds: Uint8Array;
  readonly firsts: Uint8Array;
  /** By first byte: a token that is nothing but this byte, or −1. */
  readonly singles = new Int32Array(128).fill(-1);

  constructor(vocabulary: Vocabulary) {
    this.kinds = new Uint8Array(vocabulary.size);
    this.firsts = new Uint8Array(vocabulary.size);
    for (let token = 0; token < vocabulary.size; token++) {
      const bytes = vocabulary.piece(token);
      const first = bytes[0] ?? 0;
      const kind = kindOf(vocabulary, token, bytes);
      this.kinds[token] = kind;
      this.firsts[token] = first;
      if (kind === TokenKind.text && bytes.length === 1 && first < 128) this.singles[first] = token;
    }
  }
}

/** The kind of one token, without a table of all. */
export function kindOf(vocabulary: Vocabulary, token: number, bytes = vocabulary.piece(token)): number {
  if (vocabulary.endsGeneration(token)) return TokenKind.end;
  if (vocabulary.isControl(token)) return TokenKind.control;
  if (bytes.length === 0 || bytes.includes(0)) return TokenKind.none;
  const after = utf8After(between, bytes);
  if (after === between) return TokenKind.text;
  if (after !== broken) return TokenKind.part;
  // It may still be the rest of a character that another token began.
  return [oneMore, twoMore, threeMore].some((state) => utf8After(state, bytes) !== broken)
    ? TokenKind.part
    : TokenKind.none;
}
