import type { ByteSink, ByteStream } from "../core/bytes.ts";
import type { Headers, Reply } from "../core/call.ts";
import { ApiError, toApiError } from "../core/errors.ts";
import type { Frames } from "./dialect.ts";

/** How a stream of events becomes a reply. */
export interface StreamReplyOptions<Event> {
  /** Aborted when the client leaves. */
  readonly signal: AbortSignal;
  /** Ends the work: called once, when the reader is gone or the reply is over. */
  readonly stop: () => void;
  /** Whether an event says only that the answer is still to come. */
  readonly isWaiting: (event: Event) => boolean;
  /** Whether a waiting event says that the request itself can not be refused any more. */
  readonly isAccepted: (event: Event) => boolean;
  /** Of the reply. */
  readonly headers: Headers;
  /** Frames of the dialect; a failure's frame is among them, before the failure is thrown. */
  readonly encode: (events: AsyncIterable<Event>) => Frames;
  /** Told of every failure after the head, which no middleware can see any more. */
  readonly onFailure: (error: ApiError) => void;
  /** How long the status line waits for the first event, in milliseconds. */
  readonly headDelay: number;
  /** Longest silence of the stream, in milliseconds. */
  readonly heartbeatInterval: number;
}

/**
 * Events → a reply that streams. The status line waits for the first event that says something, so that a failure before it is
 * thrown and becomes a real HTTP status; once the request is accepted, and past `headDelay`, the head goes out and
 * heartbeats follow.
 *
 * A failure after the head becomes the dialect's error frame, and then a clean end: the frame told the client that the
 * answer is incomplete, and a cut connection on top of it would make some clients report the cut instead of the error.
 */
export async function streamReply<Event>(
  source: AsyncIterable<Event>,
  options: StreamReplyOptions<Event>,
): Promise<Reply> {
  const ahead = new ReadAhead(source, options);
  try {
    const late = await isLate(ahead.first, options.headDelay, options.signal);
    return { status: 200, headers: options.headers, body: new FrameStream(options.encode(ahead), options, late) };
  } catch (error) {
    options.stop();
    throw error;
  }
}

/** Waits for `first`, at most `delay` milliseconds: whether the answer is still to come. */
async function isLate(first: Promise<boolean>, delay: number, signal: AbortSignal): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined;
  const deadline = new Promise<boolean>((resolve) => {
    timer = setTimeout(() => resolve(true), delay);
  });
  try {
    return await whileHere(Promise.race([first.then((spoke) => !spoke), deadline]), signal);
  } finally {
    clearTimeout(timer);
  }
}

/** The promise; or `client_closed_request` at once when the signal is aborted, even if nothing below heeds it. */
export async function whileHere<Result>(promise: Promise<Result>, signal: AbortSignal): Promise<Result> {
  let giveUp = (): void => undefined;
  const left = new Promise<never>((_, reject) => {
    giveUp = () => reject(new ApiError("client_closed_request", "the client closed the connection"));
  });
  if (signal.aborted) giveUp();
  signal.addEventListener("abort", giveUp);
  try {
    return await Promise.race([promise, left]);
  } finally {
    signal.removeEventListener("abort", giveUp);
  }
}

/** Pulls events until the first that says something, and hands them all on in their order. */
class ReadAhead<Event> implements AsyncIterable<Event> {
  /** Resolves when there is such an event, or the end (true), or the request is accepted (false); rejects when the source fails before. */
  readonly first: Promise<boolean>;
  readonly #source: AsyncIterator<Event>;
  readonly #seen: IteratorResult<Event>[] = [];
  #taken = false;

  constructor(source: AsyncIterable<Event>, words: Pick<StreamReplyOptions<Event>, "isWaiting" | "isAccepted">) {
    this.#source = source[Symbol.asyncIterator]();
    this.first = this.#pull(words);
    // Whoever iterates is told; a reply that was given up before is no unhandled rejection.
    this.first.catch(() => undefined);
  }

  async #pull({
    isWaiting,
    isAccepted,
  }: Pick<StreamReplyOptions<Event>, "isWaiting" | "isAccepted">): Promise<boolean> {
    for (;;) {
      const step = await this.#source.next();
      this.#seen.push(step);
      if (this.#taken || step.done === true || !isWaiting(step.value)) return true;
      if (isAccepted(step.value)) return false;
    }
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Event> {
    this.#taken = true;
    let ahead = true;
    try {
      for (;;) {
        for (let step = this.#seen.shift(); step !== undefined; step = this.#seen.shift()) {
          if (step.done === true) return;
          yield step.value;
        }
        if (ahead) {
          // One pull may still be under way.
          await this.first;
          ahead = false;
          continue;
        }
        const step = await this.#source.next();
        if (step.done === true) return;
        yield step.value;
      }
    } finally {
      await this.#source.return?.();
    }
  }
}

type FrameStreamOptions = Pick<StreamReplyOptions<never>, "stop" | "onFailure" | "heartbeatInterval">;

/** Frames → bytes, with a heartbeat for every interval in which nothing was said. */
class FrameStream implements ByteStream {
  readonly #frames: AsyncIterator<string>;
  readonly #heartbeat: () => string;
  readonly #options: FrameStreamOptions;
  readonly #late: boolean;
  #timer: NodeJS.Timeout | undefined;
  #quiet = true;
  #over = false;
  #blocked = false;
  #wake: (() => void) | undefined;

  constructor(frames: Frames, options: FrameStreamOptions, late: boolean) {
    this.#frames = frames[Symbol.asyncIterator]();
    this.#heartbeat = () => frames.heartbeat();
    this.#options = options;
    this.#late = late;
  }

  start(sink: ByteSink): void {
    // The head goes out with the first byte: now, unless the dialect has an opening frame of its own.
    if (this.#late) setImmediate(() => this.#quiet && !this.#over && this.#write(sink, this.#heartbeat()));
    this.#timer = setInterval(() => {
      // A reader that does not keep up is not idle, and must not be given more.
      if (this.#quiet && !this.#blocked) this.#write(sink, this.#heartbeat());
      this.#quiet = true;
    }, this.#options.heartbeatInterval);
    void this.#pump(sink);
  }

  resume(): void {
    this.#blocked = false;
    this.#wake?.();
    this.#wake = undefined;
  }

  cancel(): void {
    if (this.#over) return;
    this.#finish();
    this.resume();
    // A generator that waits ends when `stop` has ended what it waits for.
    void this.#frames.return?.().then(undefined, () => undefined);
  }

  async #pump(sink: ByteSink): Promise<void> {
    try {
      for (;;) {
        const step = await this.#frames.next();
        if (this.#over) return;
        if (step.done === true) break;
        this.#write(sink, step.value);
        if (this.#blocked) await new Promise<void>((resolve) => (this.#wake = resolve));
        if (this.#over) return;
      }
    } catch (thrown) {
      if (!this.#over) this.#fail(sink, thrown);
      return;
    }
    this.#finish();
    sink.end();
  }

  #fail(sink: ByteSink, thrown: unknown): void {
    const error = toApiError(thrown);
    this.#finish();
    this.#options.onFailure(error);
    // Nobody reads any more: what was said must not look complete.
    if (error.code === "client_closed_request") sink.fail(error);
    else sink.end(error);
  }

  #write(sink: ByteSink, frame: string): void {
    this.#quiet = false;
    if (!sink.write(frame)) this.#blocked = true;
  }

  #finish(): void {
    this.#over = true;
    clearInterval(this.#timer);
    this.#options.stop();
  }
}
