import type { Socket } from "node:net";
import { afterPoll } from "../core/after-poll.ts";
import type { ByteSink, ByteStream } from "../core/bytes.ts";

/** What is known of a body that is sent as it comes. */
export interface UploadSource {
  readonly body: ByteStream;
  /** Bytes; undefined: nobody knows yet, so it goes in chunks (RFC 9112, 7.1). */
  readonly length: number | undefined;
}

/** Bytes that may wait in the socket before the source has to. */
const mostWaiting = 256 * 1024;

/** One request's body on its way into a socket, as fast as the peer takes it. */
export class Upload implements ByteSink {
  /** Whether all of it was written, or it was given up. */
  over = false;
  readonly #socket: Socket;
  readonly #source: UploadSource;
  readonly #onBytes: () => void;
  readonly #onFail: (error: Error) => void;
  #sent = 0;
  #corked = false;
  #waiting = false;
  readonly #drained = (): void => {
    if (!this.#waiting) return;
    this.#waiting = false;
    this.#source.body.resume();
  };

  constructor(
    socket: Socket,
    source: UploadSource,
    on: { readonly bytes: () => void; readonly fail: (error: Error) => void },
  ) {
    this.#socket = socket;
    this.#source = source;
    this.#onBytes = on.bytes;
    this.#onFail = on.fail;
  }

  start(): void {
    if (this.over) return;
    this.#socket.on("drain", this.#drained);
    this.#source.body.start(this);
  }

  write(chunk: Uint8Array | string): boolean {
    const bytes = typeof chunk === "string" ? Buffer.from(chunk) : chunk;
    // An empty chunk would be the last one.
    if (this.over || bytes.length === 0) return true;
    const { length } = this.#source;
    this.#sent += bytes.length;
    if (length !== undefined && this.#sent > length) {
      this.#break(new Error(`the request's body is longer than the ${length} bytes that it was to have`));
      return false;
    }
    this.#cork();
    if (length === undefined) this.#socket.write(`${bytes.length.toString(16)}\r\n`, "latin1");
    this.#socket.write(bytes);
    if (length === undefined) this.#socket.write("\r\n", "latin1");
    this.#onBytes();
    this.#waiting = this.#socket.writableLength > mostWaiting;
    return !this.#waiting;
  }

  end(problem?: Error): void {
    if (this.over) return;
    const { length } = this.#source;
    if (problem !== undefined) this.#break(problem);
    else if (length !== undefined && this.#sent < length)
      this.#break(new Error(`the request's body ended after ${this.#sent} of ${length} bytes`));
    else {
      if (length === undefined) this.#socket.write("0\r\n\r\n", "latin1");
      this.#finish();
    }
  }

  fail(error: Error): void {
    if (!this.over) this.#break(error);
  }

  /** Gives it up: the peer wants no more of it, or is gone. */
  stop(): void {
    if (this.over) return;
    this.#finish();
    this.#source.body.cancel();
  }

  #break(error: Error): void {
    this.stop();
    this.#onFail(error);
  }

  /** What one turn brings goes out in one write. */
  #cork(): void {
    if (this.#corked) return;
    this.#corked = true;
    this.#socket.cork();
    afterPoll(() => {
      this.#corked = false;
      this.#socket.uncork();
    });
  }

  #finish(): void {
    this.over = true;
    this.#socket.off("drain", this.#drained);
  }
}
