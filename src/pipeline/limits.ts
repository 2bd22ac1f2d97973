import type { ByteSink, ByteStream } from "../core/bytes.ts";
import type { Handler, Middleware, Reply } from "../core/call.ts";
import { ApiError } from "../core/errors.ts";

/** At most `most` calls under way at a time, streams counted until they end; 0: no limit. */
export function limits(most: number): Middleware {
  if (most === 0) return (call, next: Handler) => next(call);
  let busy = 0;
  return async (call, next) => {
    if (call.method !== "POST") return next(call);
    if (busy >= most)
      throw new ApiError("concurrency_limit", `${most} calls are under way, and no more are allowed at a time`);
    busy++;
    const release = (): void => void busy--;
    let reply: Reply;
    try {
      reply = await next(call);
    } catch (error) {
      release();
      throw error;
    }
    const { body } = reply;
    if (body === null || typeof body === "string" || Buffer.isBuffer(body)) {
      release();
      return reply;
    }
    return { ...reply, body: new Watched(body, release) };
  };
}

/** A stream that says once when it is over, however it ends. */
class Watched implements ByteStream {
  readonly #stream: ByteStream;
  readonly #over: () => void;
  #told = false;

  constructor(stream: ByteStream, over: () => void) {
    this.#stream = stream;
    this.#over = over;
  }

  start(sink: ByteSink): void {
    this.#stream.start({
      write: (chunk) => sink.write(chunk),
      end: (problem) => {
        this.#tell();
        sink.end(problem);
      },
      fail: (error) => {
        this.#tell();
        sink.fail(error);
      },
    });
  }

  resume(): void {
    this.#stream.resume();
  }

  cancel(): void {
    this.#tell();
    this.#stream.cancel();
  }

  #tell(): void {
    if (!this.#told) this.#over();
    this.#told = true;
  }
}
