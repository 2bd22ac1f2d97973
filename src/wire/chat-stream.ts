import type { ByteSink, ByteStream } from "../core/bytes.ts";
import { ApiError } from "../core/errors.ts";
import type { Json, JsonObject } from "../core/json.ts";
import { endOfString } from "../core/parse-json.ts";

export interface ChatStreamRules {
  /** The provider's name, for errors. */
  readonly provider: string;
  /** The model's name as the client wrote it: what every chunk must say. */
  readonly model: string;
  /** Prompt tokens to report when the server never tells of its own count. */
  readonly promptEstimate: number;
  /** Milliseconds of silence after which a comment keeps the client's timers alive. */
  readonly heartbeat: number;
  /** The error that one event tells of, if it does. */
  readonly toError: (event: Json) => ApiError | undefined;
}

/** A held-back piece of an event longer than this is no chat chunk: the upstream is broken or hostile. */
const longestEvent = 16 * 1024 * 1024;
const modelField = /"model"\s*:\s*"(?:[^"\\]|\\.)*"/;
const finishField = /"finish_reason"\s*:\s*"[^"]/;
const emptyFinish = /"finish_reason"\s*:\s*""/g;
const usageField = /"usage"\s*:\s*\{/;

/**
 * An OpenAI chat or completion stream on its way through, put right on its bytes; JSON is parsed only for an event that
 * carries an error. A read of the socket is written on in one piece.
 *
 * - the model is named as the client named it;
 * - `reasoning` and `reasoning_content` stand both where either does (vLLM sends one, clients read the other);
 * - an empty `finish_reason` is null; usage and `[DONE]` are there at the end;
 * - an end without a finish reason, a broken connection and an error in the stream are one error event: opencode asks
 *   again without end when a stream just ends.
 */
export class ChatStream implements ByteStream, ByteSink {
  readonly #source: ByteStream;
  readonly #rules: ChatStreamRules;
  readonly #model: string;
  #sink: ByteSink | undefined;
  /** Latin1 view of the bytes after the last whole event. */
  #held = "";
  #modelAsSent: string | undefined;
  #events = 0;
  #finished = false;
  #counted = false;
  #over = false;
  #blocked = false;
  #timer: NodeJS.Timeout | undefined;

  constructor(source: ByteStream, rules: ChatStreamRules) {
    this.#source = source;
    this.#rules = rules;
    this.#model = `"model":${toLatin1(JSON.stringify(rules.model))}`;
  }

  start(sink: ByteSink): void {
    this.#sink = sink;
    if (this.#rules.heartbeat > 0) this.#timer = setInterval(() => this.#beat(), this.#rules.heartbeat);
    this.#source.start(this);
  }

  resume(): void {
    this.#blocked = false;
    this.#source.resume();
  }

  cancel(): void {
    this.#stop();
    this.#source.cancel();
  }

  write(chunk: Uint8Array | string): boolean {
    if (this.#over) {
      this.#source.cancel();
      return true;
    }
    this.#timer?.refresh();
    let text =
      this.#held +
      (typeof chunk === "string"
        ? toLatin1(chunk)
        : Buffer.from(chunk.buffer, chunk.byteOffset, chunk.length).toString("latin1"));
    if (text.includes("\r")) text = text.replaceAll("\r\n", "\n");
    const cut = text.lastIndexOf("\n\n") + 2;
    if (cut < 2) {
      this.#held = text;
      if (text.length > longestEvent) this.#giveUp(`${this.#rules.provider} sent an event of more than 16 MB`);
      return true;
    }
    this.#held = cut === text.length ? "" : text.slice(cut);
    return this.#pass(cut === text.length ? text : text.slice(0, cut));
  }

  end(): void {
    if (this.#over) return;
    if (this.#held.trim() !== "") this.#pass(`${this.#held}\n\n`);
    if (this.#over) return;
    if (this.#finished) this.#complete();
    else this.#giveUp(`${this.#rules.provider} ended its stream early, without a finish reason`);
  }

  fail(error: Error): void {
    if (this.#over) return;
    // All that the answer holds has come; what broke is the goodbye.
    if (this.#finished) this.#complete();
    else
      this.#report(
        error instanceof ApiError
          ? error
          : new ApiError("upstream_error", `${this.#rules.provider} broke its stream`, {
              provider: this.#rules.provider,
              cause: error,
            }),
      );
  }

  /** Whole events, put right, to the sink. */
  #pass(events: string): boolean {
    for (let at = events.indexOf("\n\n"); at !== -1; at = events.indexOf("\n\n", at + 2)) this.#events++;
    if (events.includes('"error"') && this.#reportErrorIn(events)) return true;
    let text = this.#rename(events);
    if (text.includes('"reasoning')) text = twinReasoning(text);
    if (!this.#finished && text.includes('"finish_reason"')) {
      text = text.replace(emptyFinish, '"finish_reason":null');
      this.#finished = finishField.test(text);
    }
    if (this.#finished) this.#counted ||= usageField.test(text);
    const done = text.indexOf("data: [DONE]");
    if (done === -1) return this.#send(text);
    this.#events--;
    this.#send(text.slice(0, done));
    if (this.#finished) this.#complete();
    else this.#giveUp(`${this.#rules.provider} ended its stream without a finish reason`);
    return true;
  }

  #rename(events: string): string {
    if (this.#modelAsSent === undefined || !events.includes(this.#modelAsSent))
      this.#modelAsSent = modelField.exec(events)?.[0];
    const sent = this.#modelAsSent;
    if (sent === undefined || sent === this.#model) return events;
    // As a function, for `$` in a model's name would mean something in a replacement string.
    return events.replaceAll(sent, () => this.#model);
  }

  #send(text: string): boolean {
    if (text === "") return true;
    const room = this.#sink?.write(Buffer.from(text, "latin1")) ?? true;
    this.#blocked = !room;
    return room;
  }

  /** The source is left to end by itself, so that its connection can serve again. */
  #complete(): void {
    const usage = this.#counted ? "" : `data: ${JSON.stringify(this.#usageChunk())}\n\n`;
    const sink = this.#sink;
    this.#stop();
    sink?.write(`${usage}data: [DONE]\n\n`);
    sink?.end();
  }

  /** For servers that never count: about one token an event, the finish aside. */
  #usageChunk(): JsonObject {
    const prompt = this.#rules.promptEstimate;
    const completion = Math.max(1, this.#events - 1);
    const usage = { prompt_tokens: prompt, completion_tokens: completion, total_tokens: prompt + completion };
    const created = Math.floor(Date.now() / 1000);
    return {
      id: "chatcmpl-usage",
      object: "chat.completion.chunk",
      created,
      model: this.#rules.model,
      choices: [],
      usage,
    };
  }

  /** True when one of the events told of an error and the stream is over. */
  #reportErrorIn(events: string): boolean {
    let at = 0;
    for (const event of events.split("\n\n")) {
      if (event.includes('"error"')) {
        const error = this.#rules.toError(parseEvent(event));
        if (error !== undefined) {
          if (at > 0) this.#pass(events.slice(0, at));
          if (!this.#over) this.#report(error);
          return true;
        }
      }
      at += event.length + 2;
    }
    return false;
  }

  #giveUp(message: string): void {
    this.#report(new ApiError("upstream_error", message, { provider: this.#rules.provider }));
  }

  #report(error: ApiError): void {
    const sink = this.#sink;
    this.#stop();
    this.#source.cancel();
    sink?.write(encodeErrorEvents(error));
    sink?.end(error);
  }

  #stop(): void {
    this.#over = true;
    clearInterval(this.#timer);
  }

  #beat(): void {
    if (!this.#blocked) this.#sink?.write(": ping\n\n");
  }
}

/** The end of a chat stream that failed after its head was sent. */
export function encodeErrorEvents(error: ApiError): string {
  return `data: ${JSON.stringify(error.toJson())}\n\ndata: [DONE]\n\n`;
}

/** `"reasoning":"…"` gets `"reasoning_content":"…"` beside it, and the other way round. */
function twinReasoning(events: string): string {
  if (events.includes('"reasoning_content"')) {
    return events.includes('"reasoning":') ? events : doubleField(events, '"reasoning_content":', '"reasoning":');
  }
  return doubleField(events, '"reasoning":', '"reasoning_content":');
}

function doubleField(events: string, name: string, twin: string): string {
  let result = "";
  let copied = 0;
  for (let at = events.indexOf(name); at !== -1; at = events.indexOf(name, at + name.length)) {
    let open = at + name.length;
    while (events.charCodeAt(open) === 0x20) open++;
    if (events.charCodeAt(open) !== 0x22) continue;
    const close = endOfString(events, open) + 1;
    if (close === 0) break;
    result += `${events.slice(copied, close)},${twin}${events.slice(open, close)}`;
    copied = close;
  }
  return copied === 0 ? events : result + events.slice(copied);
}

function parseEvent(event: string): Json {
  const start = event.indexOf("{");
  try {
    return JSON.parse(Buffer.from(event.slice(start), "latin1").toString("utf8")) as Json;
  } catch {
    return null;
  }
}

function toLatin1(text: string): string {
  return Buffer.from(text).toString("latin1");
}
