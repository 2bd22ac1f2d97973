import { type ByteSink, type ByteStream, isStream } from "../../core/bytes.ts";
import type { Headers, Reply } from "../../core/call.ts";
import { ApiError } from "../../core/errors.ts";
import { ModelRenamer } from "../../wire/model-renamer.ts";
import { CarryFailure } from "../calls/carry.ts";
import type { AgentConnection } from "./connection.ts";
import type { RemoteAgent } from "./remote-agent.ts";

/** What a reply must be for its caller. */
export interface Answering {
  readonly agent: RemoteAgent;
  readonly connection: AgentConnection;
  /** Name of the model there, and as the caller wrote it. */
  readonly model: string;
  readonly requested: string;
  /** Whole events that tell of a failure. */
  readonly errorEvents: (error: ApiError) => string;
}

/** The agent's reply as the caller gets it: every model named as it was asked for, every byte counted. */
export function toAnswer(reply: Reply, answering: Answering): Reply {
  const { model, requested, agent, connection } = answering;
  const renamer = model === requested ? undefined : new ModelRenamer(model, requested);
  const { body } = reply;
  const headers = renamer === undefined ? reply.headers : withoutLength(reply.headers);
  if (isStream(body)) return { ...reply, headers, body: new AnswerStream(reply, body, answering, renamer) };
  connection.release();
  if (body === null) return reply;
  agent.bytesOut += body.length;
  if (renamer === undefined) return reply;
  const bytes = typeof body === "string" ? Buffer.from(body) : body;
  return { ...reply, headers, body: Buffer.concat([renamer.push(bytes), renamer.end()]) };
}

/** The error of a call that its agent left in the middle. */
export function lost(agent: RemoteAgent, cause: Error): ApiError {
  return new ApiError(
    "agent_lost",
    `the agent '${agent.name}' was lost in the middle of the call (${cause.message}); ask again, for it may have been at work already`,
    { provider: agent.name, retryAfter: 1, cause },
  );
}

const noBytes = Buffer.alloc(0);

/** A reply on its way. When it breaks, the caller is told in its stream, where that is possible, and cut: never a clean end. */
class AnswerStream implements ByteStream, ByteSink {
  readonly #source: ByteStream;
  readonly #answering: Answering;
  readonly #renamer: ModelRenamer | undefined;
  readonly #hasEvents: boolean;
  #sink!: ByteSink;
  /** The last bytes that went on, at least four of them where there were as many. */
  #tail: Uint8Array = noBytes;
  #over = false;

  constructor(reply: Reply, source: ByteStream, answering: Answering, renamer: ModelRenamer | undefined) {
    this.#source = source;
    this.#answering = answering;
    this.#renamer = renamer;
    this.#hasEvents =
      /^text\/event-stream\b/i.test(reply.headers["content-type"] ?? "") &&
      reply.headers["content-encoding"] === undefined;
  }

  start(sink: ByteSink): void {
    this.#sink = sink;
    this.#source.start(this);
  }

  resume(): void {
    this.#source.resume();
  }

  cancel(): void {
    this.#release();
    this.#source.cancel();
  }

  write(chunk: Uint8Array | string): boolean {
    const bytes = chunk as Buffer;
    this.#answering.agent.bytesOut += bytes.length;
    if (this.#renamer === undefined) return this.#send(bytes);
    const ready = this.#renamer.push(bytes);
    return ready.length === 0 ? true : this.#send(ready);
  }

  end(): void {
    this.#release();
    const held = this.#renamer?.end();
    if (held !== undefined && held.length > 0) this.#sink.write(held);
    this.#sink.end();
  }

  fail(error: Error): void {
    this.#release();
    if (!(error instanceof CarryFailure)) {
      this.#sink.fail(error);
      return;
    }
    this.#answering.agent.failures++;
    const told = lost(this.#answering.agent, error);
    const held = this.#renamer?.end();
    if (held !== undefined && held.length > 0) this.#send(held);
    if (this.#hasEvents && endsEvent(this.#tail)) this.#sink.write(this.#answering.errorEvents(told));
    this.#sink.fail(told);
  }

  #send(bytes: Buffer): boolean {
    if (this.#hasEvents) this.#tail = bytes.length >= 4 ? bytes : Buffer.concat([this.#tail.subarray(-4), bytes]);
    return this.#sink.write(bytes);
  }

  #release(): void {
    if (this.#over) return;
    this.#over = true;
    this.#answering.connection.release();
  }
}

/** Whether an event has just ended, or none has begun: another one may follow. */
function endsEvent(tail: Uint8Array): boolean {
  if (tail.length === 0) return true;
  const text = Buffer.from(tail.subarray(-4)).toString("latin1");
  return text.endsWith("\n\n") || text.endsWith("\r\n\r\n") || text.endsWith("\r\r");
}

function withoutLength(headers: Headers): Headers {
  const { "content-length": _length, ...others } = headers;
  return others;
}
