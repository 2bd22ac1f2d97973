import type { Headers } from "../../core/call.ts";
import { problemOfName } from "./header-rules.ts";
import { staticNames, staticTable } from "./hpack-table.ts";

/** Where a secret may stand: no cache on the way may learn it (RFC 7541, 7.1.3). */
const secretNames = ["authorization", "cookie", "set-cookie", "proxy-authorization"];
const mostNames = 256;

/** How a header of this name begins on the wire. */
interface NameCode {
  readonly bytes: Uint8Array;
  /** Value → the one byte that says name and value. */
  readonly whole: ReadonlyMap<string, number> | undefined;
}

/** Names are few, and always the same. */
const names = new Map<string, NameCode>();

/**
 * Writes headers as an HPACK block at `at` into `target`, which has room for `sizeOfHeaders`, and gives the end of it.
 * Neither a table nor Huffman: nothing is kept between blocks. Throws `Error` for headers that cannot be sent.
 */
export function encodeHeaders(headers: Headers, target: Uint8Array, at: number): number {
  let end = at;
  let behind = 0;
  for (const name in headers) {
    if (name.charCodeAt(0) === 58) end = encodeField(name, headers[name]!, target, end);
    else behind++;
  }
  if (behind === 0) return end;
  for (const name in headers) if (name.charCodeAt(0) !== 58) end = encodeField(name, headers[name]!, target, end);
  return end;
}

/** Most bytes that the headers can take as a block. */
export function sizeOfHeaders(headers: Headers): number {
  let size = 0;
  for (const name in headers) size += name.length + headers[name]!.length + 12;
  return size;
}

function encodeField(name: string, text: string, target: Uint8Array, at: number): number {
  const code = names.get(name) ?? learn(name);
  const index = code.whole?.get(text);
  if (index !== undefined) {
    target[at] = 0x80 | index;
    return at + 1;
  }
  let end = at;
  for (let i = 0; i < code.bytes.length; i++) target[end++] = code.bytes[i]!;
  const value = text.trim();
  end = encodeInteger(value.length, 7, target, end);
  for (let i = 0; i < value.length; i++) {
    const letter = value.charCodeAt(i);
    if ((letter < 32 && letter !== 9) || letter === 127 || letter > 255)
      throw new Error(`the header ${name} cannot be sent: its value has a character that none may have`);
    target[end++] = letter;
  }
  return end;
}

function learn(name: string): NameCode {
  const problem = problemOfName(name);
  if (problem !== undefined)
    throw new Error(`${JSON.stringify(name)} cannot be sent as a header: it would be ${problem}`);
  const index = staticNames.get(name) ?? 0;
  const bytes = new Uint8Array(name.length + 12);
  let end = encodeInteger(index, 4, bytes, 0);
  if (secretNames.includes(name)) bytes[0]! |= 0x10;
  if (index === 0) {
    end = encodeInteger(name.length, 7, bytes, end);
    for (let i = 0; i < name.length; i++) bytes[end++] = name.charCodeAt(i);
  }
  const code = { bytes: bytes.slice(0, end), whole: wholeEntries(name) };
  if (names.size < mostNames) names.set(name, code);
  return code;
}

function wholeEntries(name: string): ReadonlyMap<string, number> | undefined {
  const entries = new Map<string, number>();
  staticTable.forEach(([known, value], index) => {
    if (known === name && value !== "") entries.set(value, index);
  });
  return entries.size === 0 ? undefined : entries;
}

function encodeInteger(value: number, prefix: number, target: Uint8Array, at: number): number {
  const most = (1 << prefix) - 1;
  if (value < most) {
    target[at] = value;
    return at + 1;
  }
  let end = at;
  let left = value - most;
  target[end++] = most;
  for (; left >= 128; left >>>= 7) target[end++] = (left & 0x7f) | 0x80;
  target[end++] = left;
  return end;
}
