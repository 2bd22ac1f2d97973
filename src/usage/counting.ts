import { type ByteSink, type ByteStream, isStream, toBuffer } from "../core/bytes.ts";
import type { Reply } from "../core/call.ts";
import type { Demand, TokenCount } from "../core/demand.ts";
import { workOf } from "../dialects/demand.ts";
import { AnswerText } from "./answer-text.ts";
import { readEnding, type ToldUsage } from "./told-usage.ts";
import { UsageScan } from "./usage-scan.ts";

/** How an answer ended, as far as it went to the client. */
export type Ending = "complete" | "left" | "failed";

/** Longer than the last event of any dialect but Responses, whose usage is found before. */
const endingLength = 8192;

/** Reads an answer as it passes, and changes nothing of it. */
export class AnswerReader {
  /** Bytes of the answer so far. */
  bytes = 0;
  /** On `performance.now`'s clock, when the first of the answer's content came; 0: none has. */
  firstToken = 0;
  readonly text: AnswerText;
  readonly #streamed: boolean;
  readonly #usage = new UsageScan();
  /** The first chunk with anything but comments. */
  #firstEvent = 0;
  /** Texts, not chunks: these may be small parts of large reads. */
  #last = "";
  #beforeLast = "";

  constructor(path: string, streamed: boolean, keep: boolean) {
    this.#streamed = streamed;
    this.text = new AnswerText(path, streamed, keep);
  }

  /** The next chunk of a stream. */
  read(chunk: Uint8Array | string): void {
    const bytes = toBuffer(chunk);
    const text = bytes.toString("latin1");
    this.bytes += bytes.length;
    this.#beforeLast = this.#last;
    this.#last = text;
    this.text.read(text);
    this.#usage.read(text);
    if (this.firstToken !== 0) return;
    if (this.text.pieces > 0) this.firstToken = performance.now();
    else if (this.#firstEvent === 0 && !isComment(text)) this.#firstEvent = performance.now();
  }

  /** All of an answer, each character one byte. */
  readWhole(text: string): void {
    this.bytes = text.length;
    this.#last = text;
    this.firstToken = performance.now();
    if (!this.#usage.read(text)) this.text.read(text);
  }

  /** The same as `firstToken`, for an answer that is over: content of a kind that is not known counts too. */
  get began(): number {
    return this.firstToken === 0 ? this.#firstEvent : this.firstToken;
  }

  /** Whether the stream said that it is over, though nobody has heard its end. */
  get finished(): boolean {
    return (
      this.#streamed &&
      /\[DONE\]|"done":true|"(?:response\.(?:completed|incomplete)|message_stop)"/.test(this.#ending())
    );
  }

  /** What was told. Of an answer that broke off, a count of fewer tokens than came does not count: it was told before them. */
  told(ending: Ending): ToldUsage | undefined {
    const told = this.#usage.told() ?? readEnding(this.#ending());
    if (told === undefined || ending === "complete" || (told.completion ?? 0) >= this.text.pieces) return told;
    return { prompt: told.prompt, cached: told.cached };
  }

  /** Where an answer's last event stands, in whatever pieces it came. */
  #ending(): string {
    return this.#beforeLast.slice(-endingLength) + this.#last.slice(-endingLength);
  }
}

/** The reply, read as it passes; `over` is told how it ended before its last bytes go on: at once when it is whole. */
export function counted(reply: Reply, reader: AnswerReader, over: (ending: Ending, problem?: Error) => void): Reply {
  const { body } = reply;
  if (isStream(body)) return { ...reply, body: new CountedStream(body, reader, over) };
  if (body !== null)
    reader.readWhole(reply.encoding === "latin1" ? (body as string) : toBuffer(body).toString("latin1"));
  over("complete");
  return reply;
}

/** What an answer has used: as it was told, or estimated where it was not. Errors have used nothing. */
export function toTokenCount(demand: Demand, told: ToldUsage | undefined, estimate: number): TokenCount {
  const work = workOf(demand.endpoint);
  if (work === "nothing") return nothing;
  const completion = work === "generates" ? told?.completion : 0;
  const promptTokens = told?.prompt ?? demand.promptTokens;
  return {
    promptTokens,
    cachedTokens: Math.min(told?.cached ?? 0, promptTokens),
    completionTokens: completion ?? estimate,
    counted: told?.prompt === undefined || completion === undefined ? "estimated" : "reported",
  };
}

/** What a call has used that nobody worked for. */
export const nothing: TokenCount = { promptTokens: 0, cachedTokens: 0, completionTokens: 0, counted: "reported" };

class CountedStream implements ByteStream, ByteSink {
  readonly #source: ByteStream;
  readonly #reader: AnswerReader;
  readonly #over: (ending: Ending, problem?: Error) => void;
  #sink: ByteSink | undefined;
  #isOver = false;

  constructor(source: ByteStream, reader: AnswerReader, over: (ending: Ending, problem?: Error) => void) {
    this.#source = source;
    this.#reader = reader;
    this.#over = over;
  }

  start(sink: ByteSink): void {
    this.#sink = sink;
    this.#source.start(this);
  }

  resume(): void {
    this.#source.resume();
  }

  cancel(): void {
    this.#tell(this.#reader.finished ? "complete" : "left");
    this.#source.cancel();
  }

  write(chunk: Uint8Array | string): boolean {
    const room = this.#sink?.write(chunk) ?? true;
    if (!this.#isOver) this.#reader.read(chunk);
    return room;
  }

  end(problem?: Error): void {
    this.#tell(problem === undefined ? "complete" : "failed", problem);
    this.#sink?.end(problem);
  }

  fail(error: Error): void {
    this.#tell("failed", error);
    this.#sink?.fail(error);
  }

  #tell(ending: Ending, problem?: Error): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#over(ending, problem);
  }
}

/** Heartbeats are chunks of comments alone. */
function isComment(text: string): boolean {
  return text.charCodeAt(0) === 0x3a && !text.includes("\ndata:") && !text.includes("\nevent:");
}
