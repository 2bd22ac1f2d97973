import type { Readable } from "node:stream";
import type { ByteSink, ByteStream } from "../core/bytes.ts";
import type { Departure } from "../core/departure.ts";
import { ApiError } from "../core/errors.ts";

/** The bytes that a client sends. */
export class RequestBody implements ByteStream {
  readonly #request: Readable;
  readonly #departure: Departure;
  #sink: ByteSink | undefined;

  constructor(request: Readable, departure: Departure) {
    this.#request = request;
    this.#departure = departure;
  }

  start(sink: ByteSink): void {
    this.#sink = sink;
    this.#request.on("data", (chunk: Buffer) => {
      if (this.#sink?.write(chunk) === false) this.#request.pause();
    });
    // The request's own "close" and "error" would tell the same, at a microsecond for each listener.
    const leave = (): void =>
      this.#sink?.fail(new ApiError("client_closed_request", "the client left before its request was complete"));
    this.#departure.addEventListener("abort", leave);
    this.#request.on("end", () => {
      this.#departure.removeEventListener("abort", leave);
      this.#sink?.end();
    });
  }

  resume(): void {
    this.#request.resume();
  }

  /** What still comes is read and dropped, or the client would never come to read our answer. */
  cancel(): void {
    this.#sink = undefined;
    this.#request.resume();
  }
}
