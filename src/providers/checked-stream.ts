import { type ByteSink, type ByteStream, toIterable } from "../core/bytes.ts";
import type { ChatRequest } from "../core/chat.ts";
import { ApiError, toApiError } from "../core/errors.ts";
import type { Json } from "../core/json.ts";
import { decodeStream } from "../dialects/openai-chat/client.ts";
import { openaiChat } from "../dialects/openai-chat.ts";
import { asOnlyChoice, type CallChecks, headIn, readRequest, toldFailure, withSoundCalls } from "./checked-calls.ts";

const mark = '"tool_calls"';
/** Bytes at the beginning of a stream that are kept to see whether they said anything. */
const openingSize = 4096;

/**
 * A chat stream, put right already, whose bytes pass until its first tool call. From there on it is read as events, and
 * written with sound calls: an id and an index each, arguments that fit. A stream without calls costs one search for a
 * word in each chunk.
 */
export class CheckedStream implements ByteStream, ByteSink {
  readonly #source: ByteStream;
  readonly #checks: CallChecks;
  #sink: ByteSink | undefined;
  #opening: string | null = "";
  #rest: Rest | undefined;
  #passes = false;

  constructor(source: ByteStream, checks: CallChecks) {
    this.#source = source;
    this.#checks = checks;
  }

  start(sink: ByteSink): void {
    this.#sink = sink;
    this.#source.start(this);
  }

  resume(): void {
    if (this.#rest === undefined) this.#source.resume();
    else this.#rest.resume();
  }

  cancel(): void {
    this.#source.cancel();
    this.#rest?.cancel();
  }

  write(chunk: Uint8Array | string): boolean {
    if (this.#rest !== undefined) return this.#rest.push(chunk);
    const bytes = Buffer.isBuffer(chunk) ? chunk : Buffer.from(chunk);
    const at = this.#passes ? -1 : findCall(bytes);
    if (at === -1) {
      if (this.#opening !== null) this.#note(bytes.toString("latin1"));
      return this.#sink?.write(bytes) ?? true;
    }
    const text = bytes.toString("latin1");
    const begin = text.lastIndexOf("\n\n", at) + 2;
    const before = begin === 1 ? "" : text.slice(0, begin);
    return this.#readOn(before, text.slice(before.length));
  }

  end(problem?: Error): void {
    if (this.#rest === undefined) this.#sink?.end(problem);
    else this.#rest.close(problem);
  }

  fail(error: Error): void {
    if (this.#rest === undefined) this.#sink?.fail(error);
    else this.#rest.close(error);
  }

  #note(text: string): void {
    const opening = (this.#opening ?? "") + text;
    this.#opening = opening.length > openingSize ? null : opening;
  }

  /** Passes on what was before the first call, and reads all else. */
  #readOn(before: string, rest: string): boolean {
    const request = readRequest(this.#checks);
    const sink = this.#sink;
    if (request === undefined || sink === undefined) {
      this.#passes = true;
      return sink?.write(Buffer.from(before + rest, "latin1")) ?? true;
    }
    this.#note(before);
    if (before !== "") sink.write(Buffer.from(before, "latin1"));
    const said = this.#opening === null || saidSomething.test(this.#opening);
    this.#rest = new Rest(this.#source, sink, { checks: this.#checks, request, said });
    this.#rest.begin(rest);
    return this.#rest.push(Buffer.from(rest, "latin1"));
  }
}

const saidSomething = /"(?:content|reasoning|reasoning_content|refusal)"\s*:\s*"[^"]/;

interface Reading {
  readonly checks: CallChecks;
  readonly request: ChatRequest;
  readonly said: boolean;
}

/** What comes from the first call on: bytes in, checked frames out. */
class Rest {
  readonly #sink: ByteSink;
  readonly #reading: Reading;
  readonly #left = new AbortController();
  readonly #bytes: Pipe;
  #timer: NodeJS.Timeout | undefined;
  #quiet = true;
  #room: (() => void) | undefined;
  #blocked = false;
  #over = false;

  constructor(source: ByteStream, sink: ByteSink, reading: Reading) {
    this.#bytes = new Pipe(source);
    this.#sink = sink;
    this.#reading = reading;
  }

  /** `first` is the text of the event that begins the first call. */
  begin(first: string): void {
    const { checks } = this.#reading;
    if (checks.heartbeat > 0) this.#timer = setInterval(() => this.#beat(), checks.heartbeat);
    void this.#write(firstData(first));
  }

  push(chunk: Uint8Array | string): boolean {
    return this.#bytes.write(chunk);
  }

  /** `problem`: what the bytes tell of at their end, or broke off with. */
  close(problem?: Error): void {
    if (problem === undefined) this.#bytes.end();
    else this.#bytes.fail(problem);
  }

  resume(): void {
    this.#blocked = false;
    this.#room?.();
    this.#room = undefined;
  }

  cancel(): void {
    this.#finish();
    this.resume();
    this.#left.abort();
    this.#bytes.fail(new ApiError("client_closed_request", "the client closed the connection"));
  }

  async #write(first: Json): Promise<void> {
    const { checks, request, said } = this.#reading;
    const read = decodeStream(toIterable(this.#bytes), request, { failureIn: toldFailure });
    const signal = AbortSignal.any([this.#left.signal, checks.call.signal]);
    const events = withSoundCalls(read, checks, { request, said, signal });
    let problem: Error | undefined;
    try {
      const frames = openaiChat.encodeStream(asOnlyChoice(events), request, checks.body, headIn(first, checks));
      for await (const frame of frames) {
        if (this.#over) return;
        this.#quiet = false;
        this.#blocked = !this.#sink.write(frame);
        if (this.#blocked) await new Promise<void>((resolve) => (this.#room = resolve));
      }
    } catch (thrown) {
      problem = toApiError(thrown);
    }
    if (this.#over) return;
    this.#finish();
    this.#sink.end(problem);
  }

  #beat(): void {
    if (this.#quiet && !this.#blocked) this.#sink.write(": ping\n\n");
    this.#quiet = true;
  }

  #finish(): void {
    this.#over = true;
    clearInterval(this.#timer);
  }
}

/** What is pushed before anybody reads, kept until somebody does. */
class Pipe implements ByteStream, ByteSink {
  readonly #source: ByteStream;
  readonly #early: ((sink: ByteSink) => void)[] = [];
  #sink: ByteSink | undefined;
  #over = false;

  constructor(source: ByteStream) {
    this.#source = source;
  }

  start(sink: ByteSink): void {
    this.#sink = sink;
    for (const say of this.#early) say(sink);
  }

  resume(): void {
    this.#source.resume();
  }

  /** A source that has ended may go on with its connection. */
  cancel(): void {
    if (!this.#over) this.#source.cancel();
  }

  write(chunk: Uint8Array | string): boolean {
    if (this.#sink !== undefined) return this.#sink.write(chunk);
    this.#early.push((sink) => sink.write(chunk));
    return true;
  }

  end(): void {
    this.#over = true;
    this.#tell((sink) => sink.end());
  }

  fail(error: Error): void {
    this.#over = true;
    this.#tell((sink) => sink.fail(error));
  }

  #tell(say: (sink: ByteSink) => void): void {
    if (this.#sink === undefined) this.#early.push(say);
    else say(this.#sink);
  }
}

/** Where a chunk names a list of calls that is not empty; -1 where it does not. */
function findCall(chunk: Buffer): number {
  for (let at = chunk.indexOf(mark); at !== -1; at = chunk.indexOf(mark, at + mark.length)) {
    const begin = at + mark.length;
    if (/^\s*:\s*\[\s*[^\]\s]/.test(chunk.toString("latin1", begin, begin + 16))) return at;
  }
  return -1;
}

function firstData(events: string): Json {
  const data = events.slice(events.indexOf("{"), (events.indexOf("\n\n") + 1 || events.length + 1) - 1);
  try {
    return JSON.parse(Buffer.from(data, "latin1").toString()) as Json;
  } catch {
    return null;
  }
}
