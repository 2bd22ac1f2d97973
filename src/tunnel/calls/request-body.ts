import type { ByteSink, ByteStream } from "../../core/bytes.ts";
import { tooLarge } from "../../core/call.ts";
import { ApiError } from "../../core/errors.ts";
import { errorCodes } from "../http2/errors.ts";
import type { Http2Stream } from "../http2/stream.ts";

/** A body of another length than its head says. */
export const wrongLength = new ApiError(
  "invalid_request",
  "the request's body is not as long as its content-length says",
);
const left = new ApiError("client_closed_request", "the client left before its request was complete");

/** Bytes of a body that may come before anybody reads it. */
const mostEarly = 64 * 1024;

/** The bytes that the relay sends, at most `limit` and, where a length was said, no more and no fewer than that. */
export class RequestBody implements ByteStream {
  readonly #stream: Http2Stream;
  readonly #limit: number;
  readonly #length: number | undefined;
  #sink: ByteSink | undefined;
  /** What came before `start`. */
  #early: Buffer[] = [];
  #size = 0;
  #state: "open" | "ended" | "unwanted" | Error = "open";
  #answered = false;

  constructor(stream: Http2Stream, limit: number, length: number | undefined) {
    this.#stream = stream;
    this.#limit = limit;
    this.#length = length;
  }

  start(sink: ByteSink): void {
    this.#sink = sink;
    const early = this.#early;
    this.#early = [];
    let room = true;
    for (const chunk of early) room = sink.write(chunk) && room;
    const state = this.#state;
    if (state instanceof Error) sink.fail(state);
    else if (state === "ended") sink.end();
    else if (!room) this.#stream.pause();
    else if (early.length > 0) this.#stream.resume();
  }

  resume(): void {
    this.#stream.resume();
  }

  /** What still comes is read and dropped, for a caller may begin to read only when it has sent everything. */
  cancel(): void {
    if (this.#state !== "open") return;
    this.#state = "unwanted";
    this.#sink = undefined;
    this.#early = [];
    this.#stream.resume();
  }

  take(chunk: Buffer): void {
    this.#size += chunk.length;
    if (this.#state !== "open") this.#drop();
    else if (this.#size > this.#limit) this.#break(tooLarge(this.#limit));
    else if (this.#length !== undefined && this.#size > this.#length) this.#break(wrongLength);
    else if (this.#sink !== undefined) {
      if (!this.#sink.write(chunk)) this.#stream.pause();
    } else {
      this.#early.push(chunk);
      if (this.#size > mostEarly) this.#stream.pause();
    }
  }

  finish(): void {
    if (this.#state !== "open") return;
    if (this.#length !== undefined && this.#size < this.#length) return this.#break(wrongLength);
    this.#state = "ended";
    this.#sink?.end();
  }

  /** The caller is gone, or the relay is. */
  abandon(): void {
    if (this.#state === "open") this.#break(left);
  }

  /** The reply is complete: nobody will read on. */
  answered(): void {
    this.#answered = true;
    if (this.#state === "ended") return;
    this.cancel();
    this.#stream.resume();
  }

  /** A relay that goes on for ever is not waited for, but it gets its answer first. */
  #drop(): void {
    if (this.#size <= 2 * this.#limit) return;
    if (this.#answered) this.#stream.reset(errorCodes.noError);
    else this.#stream.pause();
  }

  #break(error: Error): void {
    this.#early = [];
    this.#state = error;
    this.#sink?.fail(error);
  }
}
