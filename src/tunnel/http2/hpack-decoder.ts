import type { Headers } from "../../core/call.ts";
import { errorCodes, SessionError } from "./errors.ts";
import { isValue, largestHeaderList, problemOfName } from "./header-rules.ts";
import { staticTable } from "./hpack-table.ts";
import { decodeHuffman } from "./huffman.ts";

/** What each entry of a table, and of a list of headers, counts beside its letters (RFC 7541, 4.1). */
const overhead = 32;
const slots = 64;
const longestKept = 1024;

interface KeptBlock {
  readonly bytes: Buffer;
  readonly headers: Headers;
}

/** Header blocks of one session, in order → headers (HPACK, RFC 7541). */
export class HeaderDecoder {
  /** What makes the last block no message, while the session may go on; undefined when nothing does. */
  problem: string | undefined;
  #block: Buffer = Buffer.alloc(0);
  #at = 0;
  #headers: Headers = {};
  #listSize = 0;
  #sawField = false;
  /** The newest entry comes last. */
  readonly #table: [name: string, value: string][] = [];
  #tableSize = 0;
  #tableLimit: number;
  #tableBound: number;
  /** Names and blocks that were seen before, each in the one slot that its bytes choose. */
  readonly #names: string[] = Array.from({ length: slots }, () => "");
  readonly #kept: (KeptBlock | undefined)[] = [];
  readonly #seen = new Int32Array(slots);

  /** `tableBound`: largest dynamic table that the peer may use, in bytes; 4096 until it has heard of another. */
  constructor(tableBound = 4096) {
    this.#tableBound = tableBound;
    this.#tableLimit = tableBound;
  }

  /** The peer has agreed to a smaller table. */
  boundTable(size: number): void {
    this.#tableBound = size;
    this.#limitTable(Math.min(this.#tableLimit, size));
  }

  /** Throws `SessionError` for a block that cannot be decoded. The headers are the caller's own. */
  decode(block: Buffer): Headers {
    const alone = this.#tableBound === 0 && block.length <= longestKept;
    const hash = alone ? hashOf(block) : 0;
    const kept = alone ? this.#kept[hash & (slots - 1)] : undefined;
    this.problem = undefined;
    if (kept !== undefined && kept.bytes.equals(block)) return { ...kept.headers };
    const headers = this.#decode(block);
    if (alone && this.problem === undefined) this.#keep(hash, block, headers);
    return headers;
  }

  /** What comes a second time is likely to come again. */
  #keep(hash: number, block: Buffer, headers: Headers): void {
    const slot = hash & (slots - 1);
    if (this.#seen[slot] === hash) this.#kept[slot] = { bytes: Buffer.from(block), headers: { ...headers } };
    this.#seen[slot] = hash;
  }

  #decode(block: Buffer): Headers {
    const headers: Headers = {};
    this.#headers = headers;
    this.#block = block;
    this.#at = 0;
    this.#listSize = 0;
    this.#sawField = false;
    while (this.#at < block.length) this.#readField(block[this.#at]!);
    return headers;
  }

  #readField(first: number): void {
    if (first >= 0x80) return this.#readIndexed();
    if (first >= 0x40) return this.#readLiteral(6, true);
    if (first < 0x20) return this.#readLiteral(4, false);
    const size = this.#readInteger(5);
    if (size > this.#tableBound) throw broken("a table larger than agreed");
    if (this.#listSize > 0) throw broken("a change of the table in the middle");
    this.#limitTable(size);
  }

  #readIndexed(): void {
    const index = this.#readInteger(7);
    if (index === 0) throw broken("the index 0");
    const fixed = staticTable[index];
    if (fixed === undefined) return this.#add(...this.#entry(index));
    this.#put(fixed[0], fixed[1]);
  }

  #readLiteral(prefix: number, remembered: boolean): void {
    const index = this.#readInteger(prefix);
    const name = index === 0 ? this.#readName() : (staticTable[index] ?? this.#entry(index))[0];
    const value = this.#readText();
    if (remembered) this.#remember(name, value);
    this.#add(name, value);
  }

  #entry(index: number): [name: string, value: string] {
    const entry = this.#table[this.#table.length - 1 - (index - staticTable.length)];
    if (entry === undefined) throw broken(`the index ${index}, which nothing has`);
    return entry;
  }

  #remember(name: string, value: string): void {
    const size = name.length + value.length + overhead;
    this.#makeRoom(this.#tableLimit - size);
    if (size > this.#tableLimit) return;
    this.#table.push([name, value]);
    this.#tableSize += size;
  }

  #limitTable(size: number): void {
    this.#tableLimit = size;
    this.#makeRoom(size);
  }

  #makeRoom(size: number): void {
    while (this.#tableSize > size && this.#table.length > 0) {
      const [name, value] = this.#table.shift()!;
      this.#tableSize -= name.length + value.length + overhead;
    }
  }

  /** Once the block is no message, what else it says is not looked at: checks cost, and an index says much in a byte. */
  #add(name: string, value: string): void {
    if (this.problem !== undefined) return;
    if (!isValue(value)) this.problem = "a header's value with characters that none may have";
    else this.problem = problemOfName(name);
    this.#put(name, value);
  }

  #put(name: string, value: string): void {
    this.#listSize += name.length + value.length + overhead;
    if (this.#listSize > largestHeaderList) this.problem ??= `headers of more than ${largestHeaderList} bytes`;
    if (this.problem !== undefined) return;
    const pseudo = name.charCodeAt(0) === 58;
    const before = this.#headers[name];
    if (pseudo && (this.#sawField || before !== undefined)) this.problem = `${name} twice, or behind other headers`;
    if (!pseudo) this.#sawField = true;
    // What an object inherits is no header.
    if (typeof before !== "string") this.#headers[name] = value;
    else this.#headers[name] = name === "cookie" ? `${before}; ${value}` : `${before}, ${value}`;
  }

  /** Names recur: one that was seen before is taken from its slot and not made anew. */
  #readName(): string {
    const at = this.#at;
    const length = this.#block[at]!;
    if (length === 0 || length >= 0x7f || at + 1 + length > this.#block.length) return this.#readText();
    const slot = (length * 31 + this.#block[at + 1]! * 7 + this.#block[at + length]!) & (slots - 1);
    const known = this.#names[slot]!;
    if (known.length === length && this.#says(known, at + 1)) {
      this.#at = at + 1 + length;
      return known;
    }
    const name = this.#readText();
    this.#names[slot] = name;
    return name;
  }

  #says(text: string, at: number): boolean {
    for (let i = 0; i < text.length; i++) if (text.charCodeAt(i) !== this.#block[at + i]) return false;
    return true;
  }

  #readText(): string {
    if (this.#at >= this.#block.length) throw broken("an end in the middle of a header");
    const packed = this.#block[this.#at]! >= 0x80;
    const length = this.#readInteger(7);
    const start = this.#at;
    const end = start + length;
    if (end > this.#block.length) throw broken("a text that is longer than its block");
    this.#at = end;
    if (!packed) return this.#block.toString("latin1", start, end);
    const text = decodeHuffman(this.#block, start, end);
    if (text === undefined) throw broken("a text that is no Huffman code");
    return text;
  }

  /** An integer whose first `prefix` bits stand in the byte at hand (RFC 7541, 5.1). */
  #readInteger(prefix: number): number {
    const most = (1 << prefix) - 1;
    let value = this.#block[this.#at++]! & most;
    if (value < most) return value;
    for (let shift = 0; shift <= 21; shift += 7) {
      const byte = this.#block[this.#at++];
      if (byte === undefined) break;
      value += (byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
    throw broken("a number without an end");
  }
}

function hashOf(block: Buffer): number {
  let hash = block.length;
  for (let at = 0; at < block.length; at++) hash = (Math.imul(hash, 31) + block[at]!) | 0;
  // Slots are chosen by the low bits, which the last bytes would rule.
  return hash ^ (hash >>> 15);
}

function broken(what: string): SessionError {
  return new SessionError(errorCodes.compressionError, `the peer's headers cannot be decoded: ${what}`);
}
