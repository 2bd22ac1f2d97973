import type { Headers } from "../../src/core/call.ts";
import { preface } from "../../src/tunnel/http2/frames.ts";
import { encodeHeaders, sizeOfHeaders } from "../../src/tunnel/http2/hpack-encoder.ts";
import { Http2Session, type SessionOptions } from "../../src/tunnel/http2/session.ts";
import type { Http2Stream, StreamHandler, StreamReset } from "../../src/tunnel/http2/stream.ts";
import type { Link, LinkHandler } from "../../src/tunnel/links/link.ts";

/** One frame as it was read from, or goes onto, the wire. */
export interface Frame {
  readonly type: number;
  readonly flags: number;
  readonly id: number;
  readonly payload: Buffer;
}

/** A frame's bytes. */
export function frame(type: number, flags: number, id: number, payload: Uint8Array | string = ""): Buffer {
  const body = Buffer.from(payload as string);
  const head = Buffer.alloc(9);
  head.writeUIntBE(body.length, 0, 3);
  head[3] = type;
  head[4] = flags;
  head.writeUInt32BE(id, 5);
  return Buffer.concat([head, body]);
}

/** A whole number as 32 bits. */
export function number32(...values: number[]): Buffer {
  const bytes = Buffer.alloc(values.length * 4);
  values.forEach((value, index) => bytes.writeUInt32BE(value >>> 0, index * 4));
  return bytes;
}

/** SETTINGS with these names and values. */
export function settingsFrame(...entries: [name: number, value: number][]): Buffer {
  const bytes = Buffer.alloc(entries.length * 6);
  entries.forEach(([name, value], index) => {
    bytes.writeUInt16BE(name, index * 6);
    bytes.writeUInt32BE(value, index * 6 + 2);
  });
  return frame(4, 0, 0, bytes);
}

/** Headers as a block. */
export function block(headers: Headers): Buffer {
  const bytes = Buffer.alloc(sizeOfHeaders(headers));
  return bytes.subarray(0, encodeHeaders(headers, bytes, 0));
}

/** The head of an ordinary request. */
export const request: Headers = { ":method": "POST", ":path": "/x", ":scheme": "http", ":authority": "a" };

/** HEADERS that are whole. */
export function headersFrame(id: number, headers: Headers, ended: boolean): Buffer {
  return frame(1, 4 | (ended ? 1 : 0), id, block(headers));
}

/** Bytes → the frames that are whole. */
function readFrames(bytes: Buffer): Frame[] {
  const frames: Frame[] = [];
  for (let at = 0; at + 9 <= bytes.length;) {
    const end = at + 9 + bytes.readUIntBE(at, 3);
    if (end > bytes.length) break;
    const payload = bytes.subarray(at + 9, end);
    frames.push({ type: bytes[at + 3]!, flags: bytes[at + 4]!, id: bytes.readUInt32BE(at + 5), payload });
    at = end;
  }
  return frames;
}

/** A link whose other end is the test itself. */
export class BareLink implements Link {
  readonly remoteAddress = "127.0.0.1";
  /** Each piece is copied. */
  readonly idle = true;
  /** What the session has written, each write a piece. */
  readonly written: Buffer[] = [];
  /** What `write` gives. */
  room = true;
  ended = false;
  destroyed = false;
  #handler: LinkHandler | undefined;

  start(handler: LinkHandler): void {
    this.#handler = handler;
  }

  write(bytes: Buffer): boolean {
    this.written.push(Buffer.from(bytes));
    return this.room;
  }

  pause(): void {}

  resume(): void {}

  end(): void {
    this.ended = true;
  }

  destroy(): void {
    this.destroyed = true;
  }

  feed(...pieces: Uint8Array[]): void {
    for (const piece of pieces) this.#handler?.onBytes(Buffer.from(piece));
  }

  drain(): void {
    this.room = true;
    this.#handler?.onDrain();
  }

  lose(error?: Error): void {
    this.#handler?.onClose(error);
  }

  /** What was written since the last time, without a client's preface, as frames. */
  take(): Frame[] {
    const bytes = Buffer.concat(this.written.splice(0));
    return readFrames(bytes.subarray(0, 3).toString() === "PRI" ? bytes.subarray(preface.length) : bytes);
  }
}

/** What the handler of one stream was told, in order. */
export class Told implements StreamHandler {
  readonly words: string[] = [];
  readonly body: Buffer[] = [];
  stream: Http2Stream | undefined;
  head: Headers | undefined;
  resetReason: StreamReset | undefined;
  drains = 0;
  readonly over: Promise<this>;
  #finish!: (told: this) => void;

  constructor() {
    this.over = new Promise((resolve) => {
      this.#finish = resolve;
    });
  }

  /** Bytes of the body so far. */
  get size(): number {
    return this.body.reduce((sum, chunk) => sum + chunk.length, 0);
  }

  get text(): string {
    return Buffer.concat(this.body).toString();
  }

  onHead(headers: Headers, ended: boolean): void {
    this.head = headers;
    this.words.push(ended ? "head without a body" : "head");
  }

  onData(chunk: Buffer): void {
    this.body.push(chunk);
  }

  onEnd(): void {
    this.words.push("end");
    this.#finish(this);
  }

  onReset(reason: StreamReset): void {
    this.resetReason = reason;
    this.words.push(`reset ${reason.code}`);
    this.#finish(this);
  }

  onDrain(): void {
    this.drains++;
  }
}

/** A server session at the other end of a `BareLink`, past the greeting; its requests are told to `requests`. */
export function bareServer(options: Partial<SessionOptions> = {}): {
  link: BareLink;
  session: Http2Session;
  requests: Told[];
  closed: (Error | undefined)[];
} {
  const link = new BareLink();
  const requests: Told[] = [];
  const closed: (Error | undefined)[] = [];
  const session = new Http2Session(link, {
    role: "server",
    onStream: (stream, headers) => {
      const told = new Told();
      told.stream = stream;
      told.head = headers;
      requests.push(told);
      return told;
    },
    onClose: (error) => closed.push(error),
    ...options,
  });
  link.feed(preface, settingsFrame());
  return { link, session, requests, closed };
}

/** A client session at the other end of a `BareLink`, past the greeting. */
export function bareClient(options: Partial<SessionOptions> = {}): {
  link: BareLink;
  session: Http2Session;
  closed: (Error | undefined)[];
} {
  const link = new BareLink();
  const closed: (Error | undefined)[] = [];
  const session = new Http2Session(link, { role: "client", onClose: (error) => closed.push(error), ...options });
  link.feed(settingsFrame());
  return { link, session, closed };
}

/** The end of this turn of the event loop, when everything written in it has left. */
export function turn(): Promise<void> {
  return new Promise((resolve) => {
    setImmediate(() => setImmediate(resolve));
  });
}
