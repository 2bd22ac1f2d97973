/** Where bytes go. Exactly one of `end` and `fail` is called, once, after the last `write`. */
export interface ByteSink {
  /** Returns false when the producer should pause until it is resumed. */
  write(chunk: Uint8Array | string): boolean;
  /** `problem`: the bytes are all there, and tell of this failure in their own format. */
  end(problem?: Error): void;
  /** The bytes broke off: a reader must be able to tell this from `end`. */
  fail(error: Error): void;
}

/**
 * Bytes on their way, pushed to one sink as they arrive.
 *
 * Not a node `Readable`: on the proxy path one event of a stream costs about as much as its two system calls, and a
 * `Readable` per reply adds tens of microseconds to every request (docs/decisions/0003-byte-streams.md).
 */
export interface ByteStream {
  /** Starts the flow; called once. Nothing is pushed before. */
  start(sink: ByteSink): void;
  /** After `write` said false: `pause` has no need to be called; call `resume` when there is room again. */
  resume(): void;
  /** The reader is gone: the producer stops, frees its connection and pushes nothing more. May be called at any time. */
  cancel(): void;
}

export function isStream(body: Uint8Array | string | ByteStream | null): body is ByteStream {
  return body !== null && typeof body === "object" && "start" in body;
}

/** How a stream was over: all of it came; it broke, or told of a failure itself; its reader left. */
export type StreamEnd = "complete" | "left" | Error;

/** The stream, with a word, said once, when it is over, however it ends. */
export function whenOver(stream: ByteStream, over: (end: StreamEnd) => void): ByteStream {
  let told = false;
  const tell = (end: StreamEnd): void => {
    if (!told) over(end);
    told = true;
  };
  return {
    start: (sink) =>
      stream.start({
        write: (chunk) => sink.write(chunk),
        end: (problem) => {
          tell(problem ?? "complete");
          sink.end(problem);
        },
        fail: (error) => {
          tell(error);
          sink.fail(error);
        },
      }),
    resume: () => stream.resume(),
    cancel: () => {
      tell("left");
      stream.cancel();
    },
  };
}

/** Everything that the stream brings, at most `limit` bytes; `tooLarge` makes the error thrown beyond. */
export function collect(stream: ByteStream, limit: number, tooLarge: () => Error): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const chunks: Uint8Array[] = [];
    let size = 0;
    stream.start({
      write(chunk) {
        const bytes = typeof chunk === "string" ? Buffer.from(chunk) : chunk;
        size += bytes.length;
        if (size > limit) {
          stream.cancel();
          reject(tooLarge());
          return false;
        }
        chunks.push(bytes);
        return true;
      },
      end: () => resolve(chunks.length === 1 && Buffer.isBuffer(chunks[0]) ? chunks[0] : Buffer.concat(chunks, size)),
      fail: reject,
    });
  });
}

/** The stream as an async iterable of chunks, for code that is not on the hot path. Leaving the loop early cancels it. */
export async function* toIterable(stream: ByteStream): AsyncGenerator<Uint8Array> {
  const queue: Uint8Array[] = [];
  let state: "open" | "ended" | Error = "open";
  let wake: (() => void) | undefined;
  const notify = (): void => {
    wake?.();
    wake = undefined;
  };
  stream.start({
    write(chunk) {
      queue.push(typeof chunk === "string" ? Buffer.from(chunk) : chunk);
      notify();
      return queue.length < 16;
    },
    end() {
      state = "ended";
      notify();
    },
    fail(error) {
      state = error;
      notify();
    },
  });
  let finished = false;
  try {
    for (;;) {
      const chunk = queue.shift();
      if (chunk !== undefined) {
        yield chunk;
        if (queue.length === 0) stream.resume();
        continue;
      }
      // Assigned by the sink's callbacks, which the compiler cannot see.
      const now = state as "open" | "ended" | Error;
      if (now === "ended") {
        finished = true;
        return;
      }
      if (now !== "open") {
        finished = true;
        throw now;
      }
      await new Promise<void>((resolve) => (wake = resolve));
    }
  } finally {
    if (!finished) stream.cancel();
  }
}

/** A body that is whole: the bytes that its text stands for. */
export function toBytes(body: Buffer | string | null, encoding: "latin1" | undefined): Buffer {
  return typeof body === "string" ? Buffer.from(body, encoding ?? "utf8") : (body ?? Buffer.alloc(0));
}

/** A chunk as bytes: a text's in UTF-8, others over the same memory. */
export function toBuffer(chunk: Uint8Array | string): Buffer {
  if (typeof chunk === "string") return Buffer.from(chunk);
  return Buffer.isBuffer(chunk) ? chunk : Buffer.from(chunk.buffer, chunk.byteOffset, chunk.length);
}

/** What a message carries, whole or on its way. */
interface Carried {
  readonly body: ByteStream | Buffer | string | null;
  /** Each character of a text is one byte; without it, a text stands for its UTF-8. */
  readonly encoding?: "latin1";
}

/** All bytes of it; those of a stream up to `limit`, beyond which what `tooLarge` makes is thrown. */
export async function readBytes({ body, encoding }: Carried, limit: number, tooLarge: () => Error): Promise<Buffer> {
  return isStream(body) ? collect(body, limit, tooLarge) : toBytes(body, encoding);
}

/** Its bytes as they come. */
export async function* iterateBytes({ body, encoding }: Carried): AsyncGenerator<Uint8Array> {
  if (isStream(body)) yield* toIterable(body);
  else if (body !== null) yield toBytes(body, encoding);
}
