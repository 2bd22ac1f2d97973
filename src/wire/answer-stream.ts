import type { ByteSink, ByteStream } from "../core/bytes.ts";
import type { Headers } from "../core/call.ts";
import type { ApiError } from "../core/errors.ts";
import type { ModelRenamer } from "./model-renamer.ts";

/** A failure as the caller hears of it. */
export interface ToldFailure {
  readonly error: ApiError;
  /** Whole events or lines that tell of it, in the dialect of the call's path. */
  readonly events: string;
}

/** What is done with an answer beside passing it on. */
export interface AnswerCare {
  readonly renamer: ModelRenamer | undefined;
  /** Told of each piece that comes, in bytes. */
  readonly onBytes?: (count: number) => void;
  /** Told once, when it is over, however it ended. */
  readonly onOver?: () => void;
  /** What is said of a failure; undefined: it is not the answer's, and nothing is said. */
  readonly toTold: (failure: Error) => ToldFailure | undefined;
  /** What an event stream gets between two events after so many milliseconds of silence; absent: nothing. */
  readonly heartbeat?: { readonly interval: number; readonly events: () => string };
}

/** How an answer's parts are told apart: events of SSE, lines of JSON; `none` where it has no parts, or they cannot be read. */
type Framing = "events" | "lines" | "none";

const noBytes = Buffer.alloc(0);

/** An answer on its way. When it breaks, the caller is told in its stream, where that is possible, and cut: never a clean end. */
export class AnswerStream implements ByteStream, ByteSink {
  readonly #source: ByteStream;
  readonly #care: AnswerCare;
  readonly #framing: Framing;
  #sink!: ByteSink;
  /** The last bytes that went on, at least four of them where there were as many. */
  #tail: Uint8Array = noBytes;
  #over = false;
  #timer: NodeJS.Timeout | undefined;
  #isQuiet = true;
  #isBlocked = false;

  /** `headers` are those of the answer; `source` brings buffers. */
  constructor(headers: Headers, source: ByteStream, care: AnswerCare) {
    this.#source = source;
    this.#care = care;
    this.#framing = framingOf(headers);
  }

  start(sink: ByteSink): void {
    this.#sink = sink;
    const { heartbeat } = this.#care;
    if (heartbeat !== undefined && this.#framing === "events") {
      this.#timer = setInterval(() => this.#beat(heartbeat.events), heartbeat.interval);
    }
    this.#source.start(this);
  }

  resume(): void {
    this.#isBlocked = false;
    this.#source.resume();
  }

  cancel(): void {
    this.#release();
    this.#source.cancel();
  }

  write(chunk: Uint8Array | string): boolean {
    const bytes = chunk as Buffer;
    this.#care.onBytes?.(bytes.length);
    const { renamer } = this.#care;
    if (renamer === undefined) return this.#send(bytes);
    const ready = renamer.push(bytes);
    return ready.length === 0 ? true : this.#send(ready);
  }

  end(problem?: Error): void {
    this.#release();
    this.#sendHeld();
    this.#sink.end(problem);
  }

  fail(failure: Error): void {
    this.#release();
    const told = this.#care.toTold(failure);
    if (told === undefined) {
      this.#sink.fail(failure);
      return;
    }
    this.#sendHeld();
    if (this.#isBetween()) this.#sink.write(told.events);
    this.#sink.fail(told.error);
  }

  #sendHeld(): void {
    const held = this.#care.renamer?.end();
    if (held !== undefined && held.length > 0) this.#send(held);
  }

  #send(bytes: Buffer): boolean {
    if (this.#framing !== "none")
      this.#tail = bytes.length >= 4 ? bytes : Buffer.concat([this.#tail.subarray(-4), bytes]);
    this.#isQuiet = false;
    const room = this.#sink.write(bytes);
    this.#isBlocked = !room;
    return room;
  }

  /** A reader that does not keep up is not idle, and must not be given more. */
  #beat(events: () => string): void {
    if (this.#isQuiet && !this.#isBlocked && this.#isBetween()) this.#sink.write(events());
    this.#isQuiet = true;
  }

  /** Whether an event has just ended, or none has begun: another one may follow. */
  #isBetween(): boolean {
    return this.#framing === "events" ? endsEvent(this.#tail) : this.#framing === "lines" && endsLine(this.#tail);
  }

  #release(): void {
    if (this.#over) return;
    this.#over = true;
    clearInterval(this.#timer);
    this.#care.onOver?.();
  }
}

function framingOf({ "content-type": type = "", "content-encoding": encoding }: Headers): Framing {
  if (encoding !== undefined) return "none";
  if (/^application\/x-ndjson\b/i.test(type)) return "lines";
  return /^text\/event-stream\b/i.test(type) ? "events" : "none";
}

function endsLine(tail: Uint8Array): boolean {
  return tail.length === 0 || tail.at(-1) === 0x0a;
}

function endsEvent(tail: Uint8Array): boolean {
  if (tail.length === 0) return true;
  const text = Buffer.from(tail.subarray(-4)).toString("latin1");
  return text.endsWith("\n\n") || text.endsWith("\r\n\r\n") || text.endsWith("\r\r");
}
