import { errorCodes, SessionError } from "./errors.ts";
import { flags, frameTypes, headSize, largestNumber, largestPayload, preface } from "./frames.ts";
import { largestHeaderBlock } from "./header-rules.ts";

/** CONTINUATION frames of one block; four hold the largest that is taken. */
const mostContinuations = 16;

/** What the frames of a peer tell. Whatever these throw ends the reading and comes out of `push`. */
export interface FrameSink {
  /** A frame of DATA begins: `size` bytes count against the windows, with padding. */
  onDataFrame(id: number, size: number): void;
  /** A part of it as it arrived. */
  onData(id: number, bytes: Buffer): void;
  /** Bytes that only padded it. */
  onPadding(id: number, size: number): void;
  /** The frame is whole. */
  onDataFrameEnd(id: number, ended: boolean): void;
  /** A whole block of headers; only until this returns. */
  onHeaders(id: number, block: Buffer, ended: boolean): void;
  /** SETTINGS, 6 bytes for each. */
  onSettings(payload: Buffer): void;
  onSettingsAck(): void;
  onPing(payload: Buffer, ack: boolean): void;
  onReset(id: number, code: number): void;
  onGoaway(lastStream: number, code: number): void;
  onWindowUpdate(id: number, increment: number): void;
  /** A frame that is of no use: a PRIORITY, or a kind that is not known. */
  onIdleFrame(): void;
}

/**
 * Bytes as they arrive, cut anywhere, → frames. DATA is passed on in the pieces in which it came, uncopied; of other
 * frames only those that a piece's end cuts are copied, once.
 */
export class FrameReader {
  readonly #sink: FrameSink;
  #stopped = false;
  #prefaceAt: number;
  #sawSettings = false;
  readonly #head = Buffer.alloc(headSize);
  #headAt = 0;
  #type = 0;
  #flags = 0;
  #id = 0;
  /** Bytes of the frame's payload that are still to come, while one is under way. */
  #left = 0;
  #padding = 0;
  #inData = false;
  /** A payload that came in several pieces. */
  #cut: Buffer | undefined;
  #cutAt = 0;
  /** Parts of a block of headers that goes on in CONTINUATION. */
  #parts: Buffer[] = [];
  #partsSize = 0;
  #blockId = 0;
  #blockEnded = false;

  constructor(sink: FrameSink, role: "client" | "server") {
    this.#sink = sink;
    this.#prefaceAt = role === "server" ? 0 : preface.length;
  }

  /** Nothing more is read, not even the rest of the piece at hand. */
  stop(): void {
    this.#stopped = true;
  }

  /** Throws `SessionError` for bytes that break the rules. */
  push(bytes: Buffer): void {
    let at = this.#prefaceAt < preface.length ? this.#readPreface(bytes) : 0;
    while (at < bytes.length && !this.#stopped) {
      if (this.#inData) at = this.#readData(bytes, at);
      else if (this.#cut !== undefined) at = this.#readCut(bytes, at);
      else at = this.#readFrame(bytes, at);
    }
  }

  #readPreface(bytes: Buffer): number {
    const size = Math.min(bytes.length, preface.length - this.#prefaceAt);
    if (preface.compare(bytes, 0, size, this.#prefaceAt, this.#prefaceAt + size) !== 0)
      throw new SessionError(errorCodes.protocolError, "the peer does not speak HTTP/2");
    this.#prefaceAt += size;
    return size;
  }

  #readFrame(bytes: Buffer, start: number): number {
    let at = start;
    if (this.#headAt === 0 && bytes.length - at >= headSize) {
      this.#startFrame(bytes, at);
      at += headSize;
    } else {
      const size = Math.min(headSize - this.#headAt, bytes.length - at);
      bytes.copy(this.#head, this.#headAt, at, at + size);
      this.#headAt += size;
      at += size;
      if (this.#headAt < headSize) return at;
      this.#headAt = 0;
      this.#startFrame(this.#head, 0);
    }
    if (this.#type === frameTypes.data) return at;
    if (bytes.length - at >= this.#left) {
      this.#endFrame(bytes.subarray(at, at + this.#left));
      return at + this.#left;
    }
    this.#cut = Buffer.allocUnsafe(this.#left);
    this.#cutAt = 0;
    return at;
  }

  #startFrame(head: Buffer, at: number): void {
    this.#left = (head[at]! << 16) | (head[at + 1]! << 8) | head[at + 2]!;
    this.#type = head[at + 3]!;
    this.#flags = head[at + 4]!;
    this.#id = ((head[at + 5]! << 24) | (head[at + 6]! << 16) | (head[at + 7]! << 8) | head[at + 8]!) & largestNumber;
    if (this.#left > largestPayload)
      throw new SessionError(errorCodes.frameSizeError, "the peer sent too large a frame");
    if (!this.#sawSettings && (this.#type !== frameTypes.settings || (this.#flags & flags.ack) !== 0))
      throw broken("something before its SETTINGS");
    this.#sawSettings = true;
    if (this.#blockId !== 0 && (this.#type !== frameTypes.continuation || this.#id !== this.#blockId))
      throw broken("something between the parts of its headers");
    if (this.#type === frameTypes.data) this.#startData();
  }

  #startData(): void {
    if (this.#id === 0) throw broken("DATA of no stream");
    this.#inData = true;
    this.#padding = (this.#flags & flags.padded) === 0 ? 0 : -1;
    if (this.#padding === -1 && this.#left === 0) throw sized("DATA");
    this.#sink.onDataFrame(this.#id, this.#left);
    if (this.#left === 0) this.#endData();
  }

  #readData(bytes: Buffer, start: number): number {
    let at = start;
    if (this.#padding === -1) {
      this.#padding = bytes[at++]!;
      this.#left--;
      if (this.#padding > this.#left) throw broken("more padding than frame");
      this.#sink.onPadding(this.#id, this.#padding + 1);
    }
    const size = Math.min(this.#left - this.#padding, bytes.length - at);
    this.#left -= size;
    if (size > 0) this.#sink.onData(this.#id, bytes.subarray(at, at + size));
    at += size;
    if (this.#left === this.#padding) {
      const skipped = Math.min(this.#padding, bytes.length - at);
      this.#padding -= skipped;
      this.#left -= skipped;
      at += skipped;
      if (this.#left === 0 && !this.#stopped) this.#endData();
    }
    return at;
  }

  #endData(): void {
    this.#inData = false;
    this.#sink.onDataFrameEnd(this.#id, (this.#flags & flags.endStream) !== 0);
  }

  #readCut(bytes: Buffer, at: number): number {
    const payload = this.#cut!;
    const size = Math.min(payload.length - this.#cutAt, bytes.length - at);
    bytes.copy(payload, this.#cutAt, at, at + size);
    this.#cutAt += size;
    if (this.#cutAt === payload.length) {
      this.#cut = undefined;
      this.#endFrame(payload);
    }
    return at + size;
  }

  #endFrame(payload: Buffer): void {
    const id = this.#id;
    switch (this.#type) {
      case frameTypes.headers:
        return this.#endHeaders(payload);
      case frameTypes.continuation:
        return this.#endContinuation(payload);
      case frameTypes.windowUpdate:
        return this.#sink.onWindowUpdate(id, number(payload, 4, "WINDOW_UPDATE"));
      case frameTypes.reset:
        if (id === 0) throw broken("RST_STREAM of no stream");
        return this.#sink.onReset(id, number(payload, 4, "RST_STREAM", 0xffffffff));
      case frameTypes.ping:
        this.#expect(id === 0, payload.length === 8, "PING");
        return this.#sink.onPing(payload, (this.#flags & flags.ack) !== 0);
      case frameTypes.settings:
        return this.#endSettings(payload);
      case frameTypes.goaway:
        this.#expect(id === 0, payload.length >= 8, "GOAWAY");
        return this.#sink.onGoaway(payload.readUInt32BE(0) & largestNumber, payload.readUInt32BE(4));
      case frameTypes.pushPromise:
        throw broken("PUSH_PROMISE, which was refused");
      case frameTypes.priority:
        this.#expect(id !== 0, payload.length === 5, "PRIORITY");
        return this.#sink.onIdleFrame();
      default:
        return this.#sink.onIdleFrame();
    }
  }

  #endSettings(payload: Buffer): void {
    const ack = (this.#flags & flags.ack) !== 0;
    this.#expect(this.#id === 0, ack ? payload.length === 0 : payload.length % 6 === 0, "SETTINGS");
    if (ack) this.#sink.onSettingsAck();
    else this.#sink.onSettings(payload);
  }

  #endHeaders(payload: Buffer): void {
    if (this.#id === 0) throw broken("HEADERS of no stream");
    const padded = (this.#flags & flags.padded) !== 0;
    const start = (padded ? 1 : 0) + ((this.#flags & flags.priority) !== 0 ? 5 : 0);
    const end = payload.length - (padded ? (payload[0] ?? 0) : 0);
    if (start > end) throw broken("more padding than frame");
    const block = start === 0 && end === payload.length ? payload : payload.subarray(start, end);
    const ended = (this.#flags & flags.endStream) !== 0;
    if ((this.#flags & flags.endHeaders) !== 0) return this.#sink.onHeaders(this.#id, block, ended);
    this.#blockId = this.#id;
    this.#blockEnded = ended;
    this.#parts = [Buffer.from(block)];
    this.#partsSize = block.length;
  }

  #endContinuation(payload: Buffer): void {
    if (this.#blockId === 0) throw broken("CONTINUATION of nothing");
    this.#parts.push(Buffer.from(payload));
    this.#partsSize += payload.length;
    if (this.#partsSize > largestHeaderBlock || this.#parts.length > mostContinuations)
      throw new SessionError(errorCodes.enhanceYourCalm, "the peer sent headers without end");
    if ((this.#flags & flags.endHeaders) === 0) return;
    const block = Buffer.concat(this.#parts);
    const id = this.#blockId;
    this.#parts = [];
    this.#blockId = 0;
    this.#sink.onHeaders(id, block, this.#blockEnded);
  }

  #expect(rightStream: boolean, rightSize: boolean, what: string): void {
    if (!rightSize) throw sized(what);
    if (!rightStream) throw broken(`${what} of the wrong stream`);
  }
}

function number(payload: Buffer, size: number, what: string, mask = largestNumber): number {
  if (payload.length !== size) throw sized(what);
  return (payload.readUInt32BE(0) & mask) >>> 0;
}

function sized(what: string): SessionError {
  return new SessionError(errorCodes.frameSizeError, `the peer sent ${what} of a wrong size`);
}

function broken(what: string): SessionError {
  return new SessionError(errorCodes.protocolError, `the peer sent ${what}`);
}
