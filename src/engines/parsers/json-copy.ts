import { type Input, type Reading, type Sink, Unreadable } from "./input.ts";

/** How strings and keys are written: all else is the same in the notations of models. */
export interface Notation {
  /** Copies a string as JSON; false, with nothing consumed, where none comes next. */
  readonly copyString: (input: Input, sink: Sink) => Reading<boolean>;
  /** Keys may stand without quotes. */
  readonly bareKeys: boolean;
}

/** Arguments deeper than this are none. */
const deepest = 100;
const longestScalar = 400;

/**
 * Copies one value, as JSON, to `sink` while it comes. What models get wrong often is put right: raw control characters
 * and unknown escapes in strings, a comma too many, `True`, `False` and `None`. Throws `Unreadable`: what has been
 * copied by then is the beginning of a valid text.
 */
export function* copyValue(input: Input, sink: Sink, notation: Notation = json, depth = 0): Reading {
  if (yield* notation.copyString(input, sink)) return;
  const next = yield* input.peek();
  if (next === "{" || next === "[") {
    if (depth >= deepest) throw new Unreadable(`nested deeper than ${deepest} levels`);
    yield* copyMembers(input, sink, notation, depth);
  } else sink(yield* input.whole(readScalar(input)));
}

/** Copies a value like `copyValue`, but only as a whole: the JSON text. */
export function* readValue(input: Input, notation: Notation = json): Reading<string> {
  let text = "";
  yield* copyValue(input, (part) => (text += part), notation);
  return text;
}

/** The text of a JSON string that comes next. Throws `Unreadable`. */
export function* readString(input: Input): Reading<string> {
  let text = "";
  if (!(yield* json.copyString(input, (part) => (text += part)))) throw new Unreadable("expected a string");
  return JSON.parse(text) as string;
}

/** Text as it stands inside a JSON string, without the quotes. Half a surrogate pair is kept: the other half follows. */
export function escapeJson(text: string): string {
  // oxlint-disable-next-line no-control-regex
  return text.replace(/["\\\u0000-\u001f]/g, (character) => {
    const short = shortEscapes[character];
    return short ?? `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`;
  });
}

const shortEscapes: Readonly<Record<string, string>> = {
  '"': '\\"',
  "\\": "\\\\",
  "\n": "\\n",
  "\r": "\\r",
  "\t": "\\t",
  "\b": "\\b",
  "\f": "\\f",
};

/** JSON, as most models write it. */
const json: Notation = { copyString: (input, sink) => copyQuoted(input, sink, ['"']), bareKeys: false };

/** Python's literals: strings in either kind of quotes. */
export const python: Notation = { copyString: (input, sink) => copyQuoted(input, sink, ['"', "'"]), bareKeys: false };

/** Bare keys, and strings as they are between two of `quote`, as Gemma writes them; JSON strings are understood too. */
export function quotedBy(quote: string): Notation {
  function* copyString(input: Input, sink: Sink): Reading<boolean> {
    if (!(yield* input.accept(quote))) return yield* copyQuoted(input, sink, ['"']);
    sink('"');
    const end = yield* input.until([quote], (text) => sink(escapeJson(text)));
    if (end === null) throw new Unreadable("a string without an end");
    sink('"');
    return true;
  }
  return { copyString, bareKeys: true };
}

function* copyMembers(input: Input, sink: Sink, notation: Notation, depth: number): Reading {
  const open = yield* input.character();
  const close = open === "{" ? "}" : "]";
  sink(open);
  // A comma is said when something follows it.
  let comma = "";
  for (;;) {
    const space = yield* input.space();
    if (yield* input.accept(close)) {
      sink(space + close);
      return;
    }
    sink(comma + space);
    if (open === "{") sink(yield* input.whole(readKey(input, notation)));
    yield* copyValue(input, sink, notation, depth + 1);
    sink(yield* input.space());
    if (yield* input.accept(",")) {
      comma = ",";
      continue;
    }
    yield* input.expect(close);
    sink(close);
    return;
  }
}

/** A key and the colon after it. */
function* readKey(input: Input, notation: Notation): Reading<string> {
  let key = "";
  if (!(yield* notation.copyString(input, (part) => (key += part)))) {
    const bare = notation.bareKeys ? yield* input.all(/[^\s:{}[\],"]+/y, longestScalar) : "";
    if (bare === "") throw new Unreadable("expected a key");
    key = `"${escapeJson(bare)}"`;
  }
  const space = yield* input.space();
  yield* input.expect(":");
  return `${key}${space}:${yield* input.space()}`;
}

function* readScalar(input: Input): Reading<string> {
  const word = yield* input.all(/[-+.\w]+/y, longestScalar);
  const literal = literals[word];
  if (literal !== undefined) return literal;
  if (!/^-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][-+]?\d+)?$/.test(word)) throw new Unreadable(`${word} is no value`);
  return word;
}

const literals: Readonly<Record<string, string>> = Object.assign(Object.create(null) as Record<string, string>, {
  true: "true",
  false: "false",
  null: "null",
  True: "true",
  False: "false",
  None: "null",
});

// oxlint-disable-next-line no-control-regex
const plainText = /[^"'\\\u0000-\u001f]+/y;

function* copyQuoted(input: Input, sink: Sink, quotes: readonly string[]): Reading<boolean> {
  const quote = yield* input.peek();
  if (!quotes.includes(quote)) return false;
  yield* input.character();
  sink('"');
  for (;;) {
    sink(input.run(plainText));
    const next = yield* input.character();
    if (next === quote) break;
    if (next === "\\") sink(yield* input.whole(readEscape(input)));
    else sink(escapeJson(next));
  }
  sink('"');
  return true;
}

/** What follows a backslash, as an escape of JSON. */
function* readEscape(input: Input): Reading<string> {
  const next = yield* input.character();
  if ('"\\/bfnrt'.includes(next)) return `\\${next}`;
  if (next === "'") return "'";
  if (next !== "u") return `\\\\${escapeJson(next)}`;
  let digits = "";
  while (digits.length < 4 && /^[0-9a-fA-F]?$/.test(yield* input.peek())) digits += yield* input.character();
  return digits.length === 4 ? `\\u${digits}` : `\\\\u${digits}`;
}
