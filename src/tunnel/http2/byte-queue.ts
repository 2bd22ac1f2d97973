import { toBuffer } from "../../core/bytes.ts";
const leastJoined = 1024;
const mostJoined = 16 * 1024;

/**
 * Bytes that wait, in order. Large pieces are kept as they are; small ones, and those that would keep alive a far larger
 * memory which they are a part of, are copied together: what waits costs about what it counts.
 */
export class ByteQueue {
  /** Bytes that wait. */
  size = 0;
  readonly #pieces: Buffer[] = [];
  /** The first piece that waits, and where in it. */
  #first = 0;
  #offset = 0;
  /** Where small pieces are copied to; what waits of it comes behind all pieces. */
  #joined: Buffer | undefined;
  #joinedFrom = 0;
  #joinedEnd = 0;

  push(bytes: Uint8Array): void {
    if (bytes.length === 0) return;
    this.size += bytes.length;
    if (bytes.length >= leastJoined && bytes.length * 4 >= bytes.buffer.byteLength) return this.#append(bytes);
    if (bytes.length > mostJoined) return this.#append(Buffer.from(bytes));
    const room = this.#joined === undefined ? 0 : this.#joined.length - this.#joinedEnd;
    if (room < bytes.length) this.#join(bytes.length);
    this.#joined!.set(bytes, this.#joinedEnd);
    this.#joinedEnd += bytes.length;
  }

  /** The next bytes, at least one and at most `most`; only when there are any. They are not changed any more. */
  take(most: number): Buffer {
    if (this.#first === this.#pieces.length) return this.#takeJoined(most);
    const piece = this.#pieces[this.#first]!;
    const end = Math.min(piece.length, this.#offset + most);
    const taken = piece.subarray(this.#offset, end);
    this.size -= taken.length;
    this.#offset = end;
    if (end === piece.length) this.#dropFirst();
    return taken;
  }

  clear(): void {
    this.size = 0;
    this.#pieces.length = 0;
    this.#first = 0;
    this.#offset = 0;
    this.#joined = undefined;
    this.#joinedFrom = 0;
    this.#joinedEnd = 0;
  }

  #takeJoined(most: number): Buffer {
    const from = this.#joinedFrom;
    this.#joinedFrom = Math.min(this.#joinedEnd, from + most);
    const taken = this.#joined!.subarray(from, this.#joinedFrom);
    this.size -= taken.length;
    if (this.size === 0) this.clear();
    return taken;
  }

  #dropFirst(): void {
    this.#offset = 0;
    // The place is emptied at once, and the list moved up now and then: `shift` of a long list costs its length.
    this.#pieces[this.#first++] = Buffer.of();
    if (this.#first === this.#pieces.length) this.#pieces.length = 0;
    else if (this.#first < 64) return;
    else this.#pieces.splice(0, this.#first);
    this.#first = 0;
  }

  #append(bytes: Uint8Array): void {
    this.#closeJoined();
    this.#pieces.push(toBuffer(bytes));
  }

  #join(size: number): void {
    const before = this.#joined?.length ?? leastJoined / 2;
    this.#closeJoined();
    this.#joined = Buffer.allocUnsafeSlow(Math.max(size, Math.min(before * 2, mostJoined)));
  }

  #closeJoined(): void {
    if (this.#joinedEnd > this.#joinedFrom)
      this.#pieces.push(this.#joined!.subarray(this.#joinedFrom, this.#joinedEnd));
    this.#joined = undefined;
    this.#joinedFrom = 0;
    this.#joinedEnd = 0;
  }
}
