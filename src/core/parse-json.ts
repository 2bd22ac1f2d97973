import { ApiError } from "./errors.ts";
import type { Json } from "./json.ts";

/** Deepest nesting of arrays and objects that is taken in; real tool schemas stay below 30. */
const maxDepth = 256;
/** Most arrays, objects and strings: far more than any conversation has. 64 MB of `[],` would take 10 s and a gigabyte. */
const mostParts = 2_000_000;
/** Fewer bytes than this cannot hold too many parts by much. */
const mostUncounted = 4 * 1024 * 1024;

/**
 * Bytes → value. Throws `invalid_json`: not UTF-8, nested too deep, of too many parts, or no JSON; the message says where
 * but never repeats content.
 */
export function parseJson(bytes: Buffer): Json {
  const text = bytes.toString("utf8");
  // U+FFFD is legal text; only bytes that are no UTF-8 make the decoder put in one that was not there.
  if (text.includes("\ufffd") && !Buffer.from(text).equals(bytes)) {
    throw new ApiError("invalid_json", "the request body is not valid UTF-8");
  }
  return parseText(bytes, text);
}

/** The same for bytes whose text is known. */
export function parseText(bytes: Buffer, text: string): Json {
  if (bytes.length > mostUncounted || isNested(bytes)) checkShape(text);
  try {
    return JSON.parse(text) as Json;
  } catch (error) {
    const at = /at position (\d+)/.exec(String(error))?.[1];
    const where = text.trim() === "" ? ": it is empty" : at === undefined ? "" : ` (it breaks at character ${at})`;
    throw new ApiError("invalid_json", `the request body is not valid JSON${where}`);
  }
}

/** Whether it could be deep enough to hurt: the parser's own memory grows with depth, and so does every recursion. */
function isNested(bytes: Buffer): boolean {
  let openers = 0;
  for (let at = bytes.indexOf(0x5b); at !== -1 && openers <= maxDepth; at = bytes.indexOf(0x5b, at + 1)) openers++;
  for (let at = bytes.indexOf(0x7b); at !== -1 && openers <= maxDepth; at = bytes.indexOf(0x7b, at + 1)) openers++;
  return openers > maxDepth;
}

function checkShape(text: string): void {
  let depth = 0;
  let parts = 0;
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at);
    if (code === 0x22) {
      at = endOfString(text, at);
      if (at === -1) return;
      parts++;
    } else if (code === 0x7b || code === 0x5b) {
      parts++;
      if (++depth > maxDepth)
        throw new ApiError("invalid_json", `the request body is nested deeper than ${maxDepth} levels`);
    } else if (code === 0x7d || code === 0x5d) depth--;
    if (parts > mostParts)
      throw new ApiError("invalid_json", `the request body has more than ${mostParts} texts, lists and objects`);
  }
}

/** Index of the quote that closes the string opened at `open`; −1 when nothing closes it. */
export function endOfString(text: string, open: number): number {
  for (let at = text.indexOf('"', open + 1); at !== -1; at = text.indexOf('"', at + 1)) {
    let slashes = 0;
    while (text.charCodeAt(at - 1 - slashes) === 0x5c) slashes++;
    if (slashes % 2 === 0) return at;
  }
  return -1;
}
