import { afterPoll } from "../../core/after-poll.ts";
import type { Headers } from "../../core/call.ts";
import type { Link } from "../links/link.ts";
import { ByteQueue } from "./byte-queue.ts";
import { FrameWriter } from "./frame-writer.ts";
import { flags, frameTypes, kindOf, largestNumber, largestPayload, standardWindow } from "./frames.ts";

/** Bytes that leave at once, without waiting for the turn's end. */
const fullWrite = 64 * 1024;
/** Bytes of one stream that may wait before its `write` says false, and those at which it may go on. */
const mostWaiting = 256 * 1024;
const fewWaiting = 64 * 1024;

/** Whoever sends by a `SendHalf`. */
export interface SendOwner {
  /** There is room again, after `write` said false. */
  onRoom(): void;
  /** END_STREAM was written. */
  onSent(): void;
}

/** The sending half of one stream. */
export class SendHalf {
  readonly id: number;
  readonly owner: SendOwner;
  /** Bytes that the peer takes; negative after it has made its windows smaller. */
  window: number;
  waiting: ByteQueue | undefined;
  /** HEADERS were written. */
  begun = false;
  /** `end` was called; then END_STREAM was written, or the half was cut. */
  ending = false;
  over = false;
  wantsRoom = false;
  /** The next in the round of those that have something to send and may. */
  next: SendHalf | undefined;
  inRound = false;

  constructor(id: number, owner: SendOwner, window: number) {
    this.id = id;
    this.owner = owner;
    this.window = window;
  }
}

/**
 * What one session sends. Frames of one turn of the event loop leave in one write; streams that have more to send than
 * fits take turns of a frame each; while the link is full, only heads and small frames are added.
 */
export class Sender {
  readonly frames = new FrameWriter();
  /** Bytes that the peer takes over all streams. */
  window = standardWindow;
  /** What a new stream may send. */
  streamWindow = standardWindow;
  /** The highest stream whose HEADERS the link was given. */
  sentStream = 0;
  #openedStream = 0;
  readonly #link: Link;
  readonly #flush: () => void;
  #first: SendHalf | undefined;
  #last: SendHalf | undefined;
  #full = false;
  #closed = false;
  #scheduled = false;
  #flushing = false;

  /** `onBroken`: something was thrown while sending. */
  constructor(link: Link, onBroken: (error: unknown) => void) {
    this.#link = link;
    this.#flush = () => {
      this.#scheduled = false;
      try {
        this.flush();
      } catch (error) {
        onBroken(error);
      }
    };
  }

  /** Whether the link takes nothing more for now. */
  get full(): boolean {
    return this.#full;
  }

  /** HEADERS. Throws `Error` for headers that cannot be sent. */
  head(half: SendHalf, headers: Headers, ended: boolean): void {
    this.frames.headers(half.id, headers, ended);
    half.begun = true;
    this.#openedStream = Math.max(this.#openedStream, half.id);
    this.soon();
    if (ended) this.#finish(half);
  }

  /** A piece of the body, in order. False: enough of the stream waits. */
  write(half: SendHalf, chunk: Uint8Array | string): boolean {
    const size = typeof chunk === "string" ? Buffer.byteLength(chunk) : chunk.length;
    if (size === 0) return true;
    if (this.#mayWriteNow(half, size)) {
      half.window -= size;
      this.window -= size;
      if (typeof chunk === "string") this.frames.text(half.id, chunk, size);
      else this.frames.data(half.id, chunk);
      this.soon();
      return true;
    }
    half.waiting ??= new ByteQueue();
    half.waiting.push(typeof chunk === "string" ? Buffer.from(chunk) : chunk);
    this.#enterRound(half);
    if (half.waiting.size >= fullWrite) this.flush();
    if (half.waiting.size < mostWaiting) return true;
    half.wantsRoom = true;
    return false;
  }

  end(half: SendHalf): void {
    half.ending = true;
    if (half.waiting !== undefined && half.waiting.size > 0) return;
    this.frames.end(half.id);
    this.soon();
    this.#finish(half);
  }

  /** RST_STREAM. */
  reset(id: number, code: number): void {
    this.frames.numbers(kindOf(frameTypes.reset), id, [code]);
    this.soon();
  }

  /** Lets the peer send more: on a stream, or over all (0). */
  windowUpdate(id: number, bytes: number): void {
    this.frames.numbers(kindOf(frameTypes.windowUpdate), id, [bytes]);
    this.soon();
  }

  goaway(lastStream: number, code: number): void {
    this.frames.numbers(kindOf(frameTypes.goaway), 0, [lastStream, code]);
    this.soon();
  }

  settingsAck(): void {
    this.frames.numbers(kindOf(frameTypes.settings, flags.ack), 0, []);
    this.soon();
  }

  /** Nothing more is sent of it. */
  cut(half: SendHalf): void {
    half.over = true;
    half.waiting = undefined;
  }

  /** The peer takes more. False: more than a window may be. */
  credit(half: SendHalf | undefined, bytes: number): boolean {
    if (half === undefined) {
      this.window += bytes;
      if (this.#first !== undefined) this.soon();
      return this.window <= largestNumber;
    }
    half.window += bytes;
    if (half.waiting !== undefined && half.waiting.size > 0) this.#enterRound(half);
    return half.window <= largestNumber;
  }

  /** The link takes more. */
  drained(): void {
    this.#full = false;
    this.flush();
  }

  close(): void {
    this.#closed = true;
    this.#first = undefined;
    this.#last = undefined;
  }

  /** What waits leaves when this turn of the event loop has read what there was to read. */
  soon(): void {
    if (!this.#full && !this.#flushing && this.frames.waiting >= fullWrite) return this.flush();
    if (this.#scheduled || this.#full) return;
    this.#scheduled = true;
    afterPoll(this.#flush);
  }

  /** Sends what may be sent now. */
  flush(): void {
    if (this.#flushing) return;
    this.#flushing = true;
    try {
      while (!this.#full && !this.#closed) {
        this.#fill();
        if (this.frames.waiting === 0 || this.#closed) return;
        this.sentStream = this.#openedStream;
        if (!this.#link.write(this.frames.take())) this.#full = true;
        else if (this.#link.idle) this.frames.rewind();
      }
    } finally {
      this.#flushing = false;
    }
  }

  #mayWriteNow(half: SendHalf, size: number): boolean {
    // Those in the round come first.
    if (this.#full || this.#first !== undefined) return false;
    if (size > largestPayload || size > half.window || size > this.window) return false;
    return (half.waiting === undefined || half.waiting.size === 0) && this.frames.waiting < fullWrite;
  }

  #fill(): void {
    while (this.frames.waiting < fullWrite && this.window > 0) {
      const half = this.#first;
      if (half === undefined) return;
      this.#first = half.next;
      if (this.#first === undefined) this.#last = undefined;
      half.next = undefined;
      half.inRound = false;
      if (!half.over) this.#sendFrame(half);
    }
  }

  /** One frame's worth of what waits; whoever has more takes its place at the end of the round. */
  #sendFrame(half: SendHalf): void {
    const waiting = half.waiting!;
    let left = Math.min(largestPayload, half.window, this.window, waiting.size);
    half.window -= left;
    this.window -= left;
    while (left > 0) {
      const piece = waiting.take(left);
      this.frames.data(half.id, piece);
      left -= piece.length;
    }
    this.#enterRound(half);
    if (waiting.size === 0 && half.ending) {
      this.frames.end(half.id);
      this.#finish(half);
    } else if (half.wantsRoom && waiting.size <= fewWaiting) {
      half.wantsRoom = false;
      half.owner.onRoom();
    }
  }

  #enterRound(half: SendHalf): void {
    if (half.inRound || half.window <= 0 || half.waiting!.size === 0) return;
    half.inRound = true;
    if (this.#last === undefined) this.#first = half;
    else this.#last.next = half;
    this.#last = half;
    this.soon();
  }

  #finish(half: SendHalf): void {
    half.ending = true;
    half.over = true;
    half.waiting = undefined;
    half.owner.onSent();
  }
}
