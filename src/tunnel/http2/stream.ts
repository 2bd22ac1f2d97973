import type { Headers } from "../../core/call.ts";
import { ByteQueue } from "./byte-queue.ts";
import { errorCodes, nameOfCode } from "./errors.ts";
import { contentLength } from "./header-rules.ts";
import { ReceiveWindow } from "./receive-window.ts";
import { SendHalf, type Sender, type SendOwner } from "./sender.ts";

/** What one end of a stream is told. Nothing more comes after `onReset`, nor after our own `reset`. */
export interface StreamHandler {
  /** Client: the response's head. `ended`: it has no body; `onEnd` follows all the same. */
  onHead?(headers: Headers, ended: boolean): void;
  /** A piece of the body; it may be kept. */
  onData(chunk: Buffer): void;
  /** Complete, proven by END_STREAM. Comes exactly once for every complete message, also for one without a body. */
  onEnd(): void;
  /** Instead of `onEnd`; also after it, when our own sending half is cut. */
  onReset(reason: StreamReset): void;
  /** After a `write` that gave false: there is room again. */
  onDrain?(): void;
}

/** Why a stream ended before its time. */
export interface StreamReset {
  /** One of `errorCodes`, or another that the peer made up. */
  readonly code: number;
  /** The connection is gone. */
  readonly lost: boolean;
  /** Certainly not processed by the peer: REFUSED_STREAM, above GOAWAY's last stream, or never sent. */
  readonly refused: boolean;
  readonly message: string;
}

/** What a stream needs of its session. */
export interface StreamHost {
  readonly sender: Sender;
  /** Milliseconds. */
  readonly roundTrip: number;
  /** Both halves are over. */
  leave(stream: Http2Stream): void;
  /** So much more (or less) waits to be read. */
  countUnread(bytes: number): void;
  /** The stream's handler has thrown. */
  onFault(stream: Http2Stream, error: unknown): void;
}

/** One request and its response. After its end or reset, every method does nothing. */
export class Http2Stream implements SendOwner {
  readonly id: number;
  /** This and what follows up to `respond` are the session's own. */
  readonly sending: SendHalf;
  handler: StreamHandler | undefined;
  /** The next in the same row of the table of streams. */
  next: Http2Stream | undefined;
  /** Nothing more is told or taken. */
  over = false;
  /** The peer's END_STREAM has come. */
  peerEnded = false;
  sawHead = false;
  /** Client: asked by HEAD, so that the response's content-length announces nothing. */
  bodiless = false;
  readonly #host: StreamHost;
  readonly #window = new ReceiveWindow();
  #isRequest = false;
  #expected = -1;
  #received = 0;
  #paused = false;
  #delivering = false;
  #unread: ByteQueue | undefined;
  #toldEnd = false;
  /** Told when the complete message has been read. */
  #laterReset: StreamReset | undefined;

  constructor(id: number, host: StreamHost) {
    this.id = id;
    this.#host = host;
    this.sending = new SendHalf(id, this, host.sender.streamWindow);
  }

  /** Bytes that came and wait to be read. */
  get unread(): number {
    return this.#unread?.size ?? 0;
  }

  /** The peer's head has come. */
  takeHead(headers: Headers): void {
    this.sawHead = true;
    this.#isRequest ||= headers[":method"] !== undefined;
    const status = headers[":status"];
    this.#expected = this.bodiless || status === "304" || status === "204" ? -1 : contentLength(headers);
  }

  /** A frame of DATA begins. */
  takeFrame(size: number): void {
    if (this.over) return;
    if (this.peerEnded) this.fail(errorCodes.streamClosed, "the peer sent more after its end");
    else if (!this.sawHead) this.fail(errorCodes.protocolError, "the peer sent a body before its head");
    else if (!this.#window.take(size))
      this.fail(errorCodes.flowControlError, "the peer sent more than it was allowed to");
  }

  /** A part of it. */
  takeData(bytes: Buffer): void {
    if (this.over) return;
    this.#received += bytes.length;
    if (this.#expected >= 0 && this.#received > this.#expected) return this.#failLength();
    if (!this.#paused && !this.#delivering && this.unread === 0) return this.#deliver(bytes);
    this.#unread ??= new ByteQueue();
    this.#unread.push(bytes);
    this.#host.countUnread(bytes.length);
  }

  /** Bytes that no reader sees. */
  takePadding(size: number): void {
    if (!this.over) this.#credit(size);
  }

  /** The peer's END_STREAM. */
  takeEnd(): void {
    if (this.over) return;
    if (this.#expected >= 0 && this.#received !== this.#expected) return this.#failLength();
    this.peerEnded = true;
    this.#flow();
  }

  /** The stream is broken off by the peer, by the loss of the link, or by us for the peer's fault. */
  break(reason: StreamReset): void {
    if (this.over) return;
    const sent = this.sending.over;
    this.#host.sender.cut(this.sending);
    // A response that is here as a whole is not taken away from its reader; a request whose caller is gone is of no use.
    if (!this.#isRequest && this.peerEnded && !this.#toldEnd && reason.code !== errorCodes.enhanceYourCalm) {
      if (!sent) this.#laterReset ??= reason;
      return;
    }
    this.#close();
    try {
      this.handler?.onReset(reason);
    } catch {
      // It was the last that it is told.
    }
  }

  /** Resets it for a fault, and tells. */
  fail(code: number, message: string): void {
    if (this.over) return;
    this.#host.sender.reset(this.id, code);
    this.break({ code, lost: false, refused: false, message });
  }

  onRoom(): void {
    try {
      if (!this.over) this.handler?.onDrain?.();
    } catch (error) {
      this.#host.onFault(this, error);
    }
  }

  onSent(): void {
    if (this.#toldEnd) this.#close();
  }

  /** Server: the head of the response. Throws `Error` for headers that cannot be sent, and when it was sent before. */
  respond(headers: Headers, ended: boolean): void {
    if (this.sending.begun) throw new Error("the head of the response was sent before");
    if (!this.over && !this.sending.over) this.#host.sender.head(this.sending, headers, ended);
  }

  /** Sends a piece of the body, a string as UTF-8; a chunk must not be changed afterwards. False: wait for `onDrain`. */
  write(chunk: Uint8Array | string): boolean {
    if (this.sending.ending || this.sending.over) return true;
    if (!this.sending.begun) throw new Error("a body cannot be sent before its head");
    return this.#host.sender.write(this.sending, chunk);
  }

  /**
   * Ends our half: END_STREAM, which alone becomes `onEnd` at the peer. A server that has no use for the rest of the
   * request resets it with `noError` then.
   */
  end(): void {
    if (this.sending.ending || this.sending.over) return;
    if (!this.sending.begun) throw new Error("a message cannot end before its head");
    this.#host.sender.end(this.sending);
  }

  /** Ends both halves at once with one of `errorCodes`; nothing more is told to the handler. */
  reset(code: number): void {
    if (this.over) return;
    const complete = this.peerEnded && this.sending.over;
    if (!complete) this.#host.sender.reset(this.id, code);
    this.#close();
  }

  /** Reads no more: `onData` and `onEnd` wait, and the peer gets no credit. */
  pause(): void {
    this.#paused = true;
  }

  /** Reads on; what has come meanwhile is delivered before it returns. */
  resume(): void {
    if (!this.#paused) return;
    this.#paused = false;
    this.#flow();
  }

  /** Delivers what waits, until the reader pauses. */
  #flow(): void {
    if (this.#delivering) return;
    while (!this.#paused && !this.over && this.unread > 0) {
      const bytes = this.#unread!.take(64 * 1024);
      this.#host.countUnread(-bytes.length);
      this.#deliver(bytes);
    }
    if (this.peerEnded && !this.#paused && !this.over && !this.#toldEnd) this.#deliverEnd();
  }

  #deliver(bytes: Buffer): void {
    this.#delivering = true;
    try {
      this.handler?.onData(bytes);
    } catch (error) {
      this.#host.onFault(this, error);
    } finally {
      this.#delivering = false;
    }
    if (!this.over) this.#credit(bytes.length);
  }

  #deliverEnd(): void {
    this.#toldEnd = true;
    if (this.sending.over && this.#laterReset === undefined) this.#close();
    try {
      this.handler?.onEnd();
    } catch (error) {
      this.#host.onFault(this, error);
    }
    if (this.#laterReset !== undefined) this.break(this.#laterReset);
  }

  #credit(size: number): void {
    if (this.peerEnded) return;
    const credit = this.#window.consume(size, this.#host.roundTrip);
    if (credit > 0) this.#host.sender.windowUpdate(this.id, credit);
  }

  #failLength(): void {
    this.fail(errorCodes.protocolError, `the peer sent ${this.#received} bytes where it announced ${this.#expected}`);
  }

  #close(): void {
    if (this.over) return;
    this.over = true;
    if (this.unread > 0) this.#host.countUnread(-this.unread);
    this.#unread = undefined;
    this.#host.sender.cut(this.sending);
    this.#host.leave(this);
  }
}

/** What a stream's reader is told of a peer's RST_STREAM. */
export function resetByPeer(code: number): StreamReset {
  const message = `the peer reset the stream (${nameOfCode(code)})`;
  return { code, lost: false, refused: code === errorCodes.refusedStream, message };
}
