import type { Headers } from "../../core/call.ts";

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

/** One request and its response. After its end or reset, every method does nothing. */
export class Http2Stream {
  readonly id: number;

  constructor(id: number) {
    this.id = id;
  }

  /** Server: the head of the response. Throws `Error` for headers that cannot be sent. */
  respond(_headers: Headers, _ended: boolean): void {
    throw new Error("not yet");
  }

  /** Sends a piece of the body, a string as UTF-8; a large chunk must not be changed afterwards. False: wait for `onDrain`. */
  write(_chunk: Uint8Array | string): boolean {
    throw new Error("not yet");
  }

  /** Ends our half: END_STREAM, which alone becomes `onEnd` at the peer. */
  end(): void {
    throw new Error("not yet");
  }

  /** Ends both halves at once with one of `errorCodes`; nothing more is told to the handler. */
  reset(_code: number): void {
    throw new Error("not yet");
  }

  /** Reads no more: `onData` and `onEnd` wait, and the peer gets no credit. */
  pause(): void {
    throw new Error("not yet");
  }

  /** Reads on; what has come meanwhile is delivered before it returns. */
  resume(): void {
    throw new Error("not yet");
  }
}
