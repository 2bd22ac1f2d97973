import type { Headers } from "../../core/call.ts";
import { flags, frameTypes, headSize, kindOf, largestPayload } from "./frames.ts";
import { largestHeaderBlock } from "./header-rules.ts";
import { encodeHeaders, sizeOfHeaders } from "./hpack-encoder.ts";

const leastBlock = 16 * 1024;
const mostBlock = 128 * 1024;

/** Frames of one session, written one behind the other into one memory until they are taken. */
export class FrameWriter {
  #block: Buffer = Buffer.alloc(0);
  #start = 0;
  #at = 0;
  /** Where the last frame stands, while it is one of DATA or HEADERS that may be continued; else -1. */
  #last = -1;
  #lastId = 0;
  #lastTaken = 0;
  #sentHeaders = false;

  /** Bytes that were written and not taken. */
  get waiting(): number {
    return this.#at - this.#start;
  }

  /** What waits; the caller's own from now on. */
  take(): Buffer {
    const bytes = this.#block.subarray(this.#start, this.#at);
    this.#lastTaken = bytes.length;
    this.#start = this.#at;
    this.#last = -1;
    return bytes;
  }

  /**
   * What was taken is needed no more: its memory is written anew. Fresh memory for each 64 KB of an upload made garbage
   * collection a quarter of a relay's work.
   */
  rewind(): void {
    if (this.waiting > 0) return;
    this.#start = 0;
    this.#at = 0;
    this.#last = -1;
  }

  /** Bytes that are no frame: the preface. */
  raw(bytes: Uint8Array): void {
    this.#reserve(bytes.length);
    this.#block.set(bytes, this.#at);
    this.#at += bytes.length;
    this.#last = -1;
  }

  /** DATA, at most 16 KB; it joins the frame before, where that is the same stream's. */
  data(id: number, bytes: Uint8Array): void {
    this.#reserve(bytes.length + headSize);
    this.#openData(id, bytes.length);
    this.#block.set(bytes, this.#at);
    this.#at += bytes.length;
  }

  /** The same for a text that takes `size` bytes as UTF-8. */
  text(id: number, text: string, size: number): void {
    this.#reserve(size + headSize);
    this.#openData(id, size);
    if (size === text.length && size < 64) this.#writeAscii(text);
    else this.#block.write(text, this.#at, "utf8");
    this.#at += size;
  }

  /** The stream's END_STREAM, on its last frame when that is still here. */
  end(id: number): void {
    if (this.#last === -1 || this.#lastId !== id) return this.#head(0, kindOf(frameTypes.data, flags.endStream), id);
    this.#block[this.#last + 4]! |= flags.endStream;
    this.#last = -1;
  }

  /** HEADERS, and CONTINUATION where one frame does not hold them. Throws `Error` for headers that cannot be sent. */
  headers(id: number, headers: Headers, ended: boolean): void {
    const most = sizeOfHeaders(headers) + 1;
    if (most > largestPayload) return this.#longHeaders(id, headers, ended);
    this.#reserve(most + headSize);
    const start = this.#at;
    const end = this.#encode(headers, this.#block, start + headSize);
    const bits = flags.endHeaders | (ended ? flags.endStream : 0);
    this.#head(end - start - headSize, kindOf(frameTypes.headers, bits), id);
    this.#at = end;
    this.#last = ended ? -1 : start;
    this.#lastId = id;
  }

  /** A frame of whole numbers of 32 bits: RST_STREAM, WINDOW_UPDATE, GOAWAY, PING. `kind`: type and flags, as `kindOf` makes it. */
  numbers(kind: number, id: number, values: readonly number[]): void {
    this.#reserve(values.length * 4 + headSize);
    this.#head(values.length * 4, kind, id);
    for (const value of values) this.#at = this.#block.writeUInt32BE(value >>> 0, this.#at);
  }

  settings(entries: readonly (readonly [name: number, value: number])[]): void {
    this.#reserve(entries.length * 6 + headSize);
    this.#head(entries.length * 6, kindOf(frameTypes.settings), 0);
    for (const [name, value] of entries) {
      this.#at = this.#block.writeUInt16BE(name, this.#at);
      this.#at = this.#block.writeUInt32BE(value, this.#at);
    }
  }

  #openData(id: number, size: number): void {
    const last = this.#last;
    if (last !== -1 && this.#lastId === id && this.#block[last + 3] === frameTypes.data) {
      const length = this.#at - last - headSize + size;
      if (length <= largestPayload) {
        this.#writeLength(last, length);
        return;
      }
    }
    const start = this.#at;
    this.#head(size, kindOf(frameTypes.data), id);
    this.#last = start;
    this.#lastId = id;
  }

  #longHeaders(id: number, headers: Headers, ended: boolean): void {
    const block = Buffer.allocUnsafe(sizeOfHeaders(headers) + 1);
    const size = this.#encode(headers, block, 0);
    if (size > largestHeaderBlock) throw new Error(`headers of ${size} bytes are more than ${largestHeaderBlock}`);
    this.#reserve(size + headSize * Math.ceil(size / largestPayload));
    for (let at = 0; at < size; at += largestPayload) {
      const type = at === 0 ? frameTypes.headers : frameTypes.continuation;
      const end = Math.min(size, at + largestPayload);
      const bits = (end === size ? flags.endHeaders : 0) | (at === 0 && ended ? flags.endStream : 0);
      this.#head(end - at, kindOf(type, bits), id);
      this.#block.set(block.subarray(at, end), this.#at);
      this.#at += end - at;
    }
    this.#last = -1;
  }

  /** The first block tells the peer that we use no table, whatever size it allows (RFC 7541, 4.2). */
  #encode(headers: Headers, target: Uint8Array, at: number): number {
    let start = at;
    if (!this.#sentHeaders) target[start++] = 0x20;
    const end = encodeHeaders(headers, target, start);
    this.#sentHeaders = true;
    return end;
  }

  /** `kind`: type and flags. */
  #head(length: number, kind: number, id: number): void {
    this.#reserve(headSize);
    const block = this.#block;
    const at = this.#at;
    this.#writeLength(at, length);
    block[at + 3] = kind >> 8;
    block[at + 4] = kind;
    block[at + 5] = id >> 24;
    block[at + 6] = id >> 16;
    block[at + 7] = id >> 8;
    block[at + 8] = id;
    this.#at = at + headSize;
    this.#last = -1;
  }

  #writeLength(at: number, length: number): void {
    this.#block[at] = length >> 16;
    this.#block[at + 1] = length >> 8;
    this.#block[at + 2] = length;
  }

  #writeAscii(text: string): void {
    for (let i = 0; i < text.length; i++) this.#block[this.#at + i] = text.charCodeAt(i);
  }

  /** What was not taken moves along, so that it leaves in one piece. What was taken is the link's and stays as it is. */
  #reserve(size: number): void {
    if (this.#block.length - this.#at >= size) return;
    const waiting = this.waiting;
    const usual = Math.min(Math.max(leastBlock, this.#lastTaken * 2), mostBlock);
    const block = Buffer.allocUnsafeSlow(Math.max(usual, (waiting + size) * 2));
    this.#block.copy(block, 0, this.#start, this.#at);
    if (this.#last !== -1) this.#last -= this.#start;
    this.#block = block;
    this.#start = 0;
    this.#at = waiting;
  }
}
