import type { Headers } from "../../core/call.ts";
import { errorCodes, SessionError } from "./errors.ts";
import { FloodBudget } from "./flood-budget.ts";
import type { FrameSink } from "./frame-reader.ts";
import { problemOfRequest, problemOfResponse } from "./header-rules.ts";
import { HeaderDecoder } from "./hpack-decoder.ts";
import type { Pings } from "./pings.ts";
import { sessionWindow } from "./receive-window.ts";
import type { StreamTable } from "./stream-table.ts";
import { type Http2Stream, resetByPeer } from "./stream.ts";

/** What the receiving side asks of its session. */
export interface ReceiverHost {
  readonly role: "client" | "server";
  readonly streams: StreamTable;
  readonly pings: Pings;
  /** Client: whether we have opened a stream of that id. */
  hasOpened(id: number): boolean;
  /** Server: a request, or undefined when it may not be opened. */
  openByPeer(id: number): Http2Stream | undefined;
  /** Server: tells of a request. */
  onRequest(stream: Http2Stream, headers: Headers, ended: boolean): void;
  onSettings(payload: Buffer): void;
  onGoaway(lastStream: number, code: number): void;
  /** The peer takes more: on a stream, or over all. */
  onCredit(stream: Http2Stream | undefined, bytes: number): void;
  writeSessionCredit(bytes: number): void;
  onPing(payload: Buffer): void;
  onFault(stream: Http2Stream, error: unknown): void;
}

/** The peer's frames → its streams. Throws `SessionError` for what the session cannot survive. */
export class Receiver implements FrameSink {
  /** The highest stream that the peer has opened. */
  lastPeerId = 0;
  readonly #host: ReceiverHost;
  readonly #budget = new FloodBudget();
  readonly #decoder = new HeaderDecoder();
  #left = sessionWindow;
  #owed = 0;
  #current: Http2Stream | undefined;
  #empty = false;

  constructor(host: ReceiverHost) {
    this.#host = host;
  }

  onDataFrame(id: number, size: number): void {
    this.#current = this.#find(id, "DATA");
    this.#empty = size === 0;
    this.#left -= size;
    if (this.#left < 0)
      throw new SessionError(errorCodes.flowControlError, "the peer sent more than it was allowed to over all streams");
    this.#owed += size;
    if (this.#owed >= sessionWindow / 4) {
      this.#host.writeSessionCredit(this.#owed);
      this.#left += this.#owed;
      this.#owed = 0;
    }
    this.#current?.takeFrame(size);
  }

  onData(_id: number, bytes: Buffer): void {
    this.#current?.takeData(bytes);
  }

  onPadding(_id: number, size: number): void {
    this.#current?.takePadding(size);
  }

  onDataFrameEnd(_id: number, ended: boolean): void {
    if (ended) this.#current?.takeEnd();
    else if (this.#empty) this.#budget.spend();
  }

  onHeaders(id: number, block: Buffer, ended: boolean): void {
    const headers = this.#decoder.decode(block);
    const known = this.#host.streams.get(id);
    if (known !== undefined) return this.#onLaterHeaders(known, headers, ended);
    if (this.#host.role === "client" || id <= this.lastPeerId) {
      this.#find(id, "HEADERS");
      return this.#budget.spend();
    }
    if (id % 2 === 0) throw new SessionError(errorCodes.protocolError, "the peer opened a stream with an even id");
    this.lastPeerId = id;
    const stream = this.#host.openByPeer(id);
    if (stream === undefined) return this.#budget.spend();
    const problem = this.#decoder.problem ?? problemOfRequest(headers);
    if (problem !== undefined) {
      this.#budget.spend();
      return stream.fail(errorCodes.protocolError, `the peer sent ${problem}`);
    }
    stream.takeHead(headers);
    this.#host.onRequest(stream, headers, ended);
    if (ended) stream.takeEnd();
  }

  onSettings(payload: Buffer): void {
    // A change of the windows visits every stream.
    this.#budget.spend(1 + this.#host.streams.size / 32);
    this.#host.onSettings(payload);
  }

  onSettingsAck(): void {
    this.#budget.spend();
    this.#decoder.boundTable(0);
  }

  onPing(payload: Buffer, ack: boolean): void {
    this.#budget.spend();
    if (ack) return this.#host.pings.answer(payload);
    this.#host.onPing(payload);
  }

  onReset(id: number, code: number): void {
    this.#budget.spend();
    this.#find(id, "RST_STREAM")?.break(resetByPeer(code));
  }

  onGoaway(lastStream: number, code: number): void {
    this.#budget.spend();
    this.#host.onGoaway(lastStream, code);
  }

  onWindowUpdate(id: number, increment: number): void {
    const stream = id === 0 ? undefined : this.#find(id, "WINDOW_UPDATE");
    if (increment === 0) {
      if (id === 0) throw new SessionError(errorCodes.protocolError, "the peer sent a WINDOW_UPDATE of nothing");
      stream?.fail(errorCodes.protocolError, "the peer sent a WINDOW_UPDATE of nothing");
    } else if (id === 0 || stream !== undefined) this.#host.onCredit(stream, increment);
  }

  onIdleFrame(): void {
    this.#budget.spend();
  }

  /** The response's head, or trailers of either side, which nobody asks for. */
  #onLaterHeaders(stream: Http2Stream, headers: Headers, ended: boolean): void {
    if (stream.over) return;
    if (stream.peerEnded) return stream.fail(errorCodes.streamClosed, "the peer sent more after its end");
    const problem = this.#decoder.problem ?? this.#problemOfHead(stream, headers, ended);
    if (problem !== undefined) return stream.fail(errorCodes.protocolError, `the peer sent ${problem}`);
    if (!stream.sawHead) {
      if (headers[":status"]!.startsWith("1")) return this.#budget.spend();
      stream.takeHead(headers);
      try {
        stream.handler?.onHead?.(headers, ended);
      } catch (error) {
        this.#host.onFault(stream, error);
      }
    }
    if (ended) stream.takeEnd();
  }

  #problemOfHead(stream: Http2Stream, headers: Headers, ended: boolean): string | undefined {
    if (stream.sawHead) return ended ? undefined : "headers in the middle of a body";
    if (ended && headers[":status"]?.startsWith("1") === true) return "an end without a head";
    return problemOfResponse(headers);
  }

  /** The stream, unless it is over; one that never was is a fault. */
  #find(id: number, what: string): Http2Stream | undefined {
    const stream = this.#host.streams.get(id);
    if (stream !== undefined) return stream;
    const begun = id % 2 === 1 && (this.#host.role === "client" ? this.#host.hasOpened(id) : id <= this.lastPeerId);
    if (!begun) throw new SessionError(errorCodes.protocolError, `the peer sent ${what} of a stream that never was`);
    return undefined;
  }
}
