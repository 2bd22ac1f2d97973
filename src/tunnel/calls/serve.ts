import { type ByteSink, type ByteStream, isStream, toBuffer, toBytes } from "../../core/bytes.ts";
import { Call, errorReply, type Handler, type Headers, type Reply, toCallId, tooLarge } from "../../core/call.ts";
import { Departure } from "../../core/departure.ts";
import { ApiError, toApiError } from "../../core/errors.ts";
import type { Log } from "../../core/log.ts";
import type { Outcome } from "../../core/outcome.ts";
import { AnswerTokens } from "./answer-tokens.ts";
import { contentLength, replyHeaders, requestHeaders } from "../../wire/onward-headers.ts";
import { errorCodes } from "../http2/errors.ts";
import type { Http2Stream, StreamHandler, StreamReset } from "../http2/stream.ts";
import { allowedCall } from "./paths.ts";
import { RequestBody, wrongLength } from "./request-body.ts";

/** Calls under way, over all connections that share it. */
export interface Load {
  underWay: number;
  /** Bytes of replies since the start. */
  bytes: number;
  /** Beyond it, calls are refused untouched, so that the relay asks another agent. */
  readonly most: number;
}

export interface ServeSettings {
  readonly log: Log;
  /** Largest body of a call, in bytes. */
  readonly bodyLimit: number;
  readonly load: Load;
  /** Told of every call that is taken, before anything else. */
  readonly onBegin?: () => void;
  /** Told of every call when it is over. */
  readonly onOutcome?: (call: Call, outcome: ServedOutcome) => void;
}

export interface ServedOutcome extends Outcome {
  /** Tokens of the answer, as far as it tells; else 0. */
  readonly tokens: number;
}

/** Answers a session's streams with the handler's replies, each checked before it is a call: its `onStream`. */
export function serveCalls(
  handler: Handler,
  settings: ServeSettings,
): (stream: Http2Stream, headers: Headers, ended: boolean) => StreamHandler {
  return (stream, headers, ended) => {
    if (settings.load.underWay >= settings.load.most) {
      stream.reset(errorCodes.refusedStream);
      return nobody;
    }
    const served = new ServedCall(stream, headers, { ended, settings });
    served.run(handler);
    return served;
  };
}

const nobody: StreamHandler = { onData() {}, onEnd() {}, onReset() {} };

/** Of all headers that go on, in characters. */
const longestHeaders = 16 * 1024;

/** One call and its reply on one stream: the stream's handler, and the sink of the reply's body. */
class ServedCall implements StreamHandler, ByteSink {
  readonly #stream: Http2Stream;
  readonly #settings: ServeSettings;
  readonly #departure = new Departure();
  readonly #began = performance.now();
  readonly #call: Call;
  readonly #request: RequestBody | undefined;
  readonly #problem: ApiError | undefined;
  readonly #tokens: AnswerTokens;
  #reply: ByteStream | undefined;
  #status = 0;
  #firstByte = 0;
  #bytes = 0;
  /** Bytes that the reply's head has promised. */
  #promised: number | undefined;
  #over = false;

  constructor(
    stream: Http2Stream,
    headers: Headers,
    { ended, settings }: { readonly ended: boolean; readonly settings: ServeSettings },
  ) {
    this.#stream = stream;
    this.#settings = settings;
    settings.load.underWay++;
    settings.onBegin?.();
    const target = headers[":path"] ?? "";
    const mark = target.indexOf("?");
    const length = contentLength(headers);
    const onward = requestHeaders(headers);
    if (length !== undefined && !ended) onward["content-length"] = String(length);
    this.#request = ended ? undefined : new RequestBody(stream, settings.bodyLimit, length);
    this.#call = new Call({
      id: toCallId(onward["x-request-id"]),
      method: headers[":method"] ?? "",
      path: mark === -1 ? target : target.slice(0, mark),
      search: mark === -1 ? "" : target.slice(mark),
      headers: onward,
      signal: this.#departure,
      body: this.#request ?? null,
      bodyLimit: settings.bodyLimit,
    });
    this.#tokens = new AnswerTokens(this.#call.path);
    this.#problem =
      allowedCall(this.#call.method, this.#call.path, this.#call.search) ??
      headProblem(headers, onward) ??
      lengthProblem(length, ended, settings.bodyLimit);
  }

  run(handler: Handler): void {
    if (this.#problem !== undefined) return this.#send(errorReply(this.#problem));
    let pending: Promise<Reply>;
    try {
      pending = handler(this.#call);
    } catch (error) {
      return this.#refuse(error);
    }
    pending.then(
      (reply) => this.#send(reply),
      (error: unknown) => this.#refuse(error),
    );
  }

  onData(chunk: Buffer): void {
    this.#request?.take(chunk);
  }

  onEnd(): void {
    this.#request?.finish();
  }

  onReset(reason: StreamReset): void {
    if (this.#over) return;
    this.#request?.abandon();
    this.#departure.leave();
    this.#reply?.cancel();
    this.#finish("left", reason.lost ? "the connection to the relay was lost" : undefined);
  }

  onDrain(): void {
    this.#reply?.resume();
  }

  write(chunk: Uint8Array | string): boolean {
    if (this.#over) return true;
    const bytes = toBuffer(chunk);
    this.#bytes += bytes.length;
    this.#settings.load.bytes += bytes.length;
    if (this.#promised !== undefined && this.#bytes > this.#promised) {
      this.#reply?.cancel();
      this.fail(new Error(`the reply is longer than the ${this.#promised} bytes that its head promised`));
      return false;
    }
    this.#tokens.take(bytes);
    return this.#stream.write(bytes);
  }

  end(problem?: Error): void {
    if (this.#over) return;
    if (this.#promised !== undefined && this.#bytes < this.#promised)
      return this.fail(new Error(`the reply ended after ${this.#bytes} of ${this.#promised} bytes`));
    this.#stream.end();
    this.#request?.answered();
    this.#finish(problem === undefined ? "complete" : "failed", problem?.message);
  }

  /** Cut, not ended: nobody may take what came for the whole. */
  fail(error: Error): void {
    if (this.#over) return;
    this.#stream.reset(errorCodes.internalError);
    this.#request?.abandon();
    this.#finish("failed", error.message);
  }

  #refuse(thrown: unknown): void {
    const error = toApiError(thrown);
    if (error.status === 500)
      this.#settings.log.error({ id: this.#call.id, error: String(thrown) }, "a bug: unexpected failure");
    else if (error.status > 500)
      this.#settings.log.warn({ id: this.#call.id, path: this.#call.path, code: error.code }, error.message);
    this.#send(errorReply(error));
  }

  #send(reply: Reply): void {
    const { body, status } = reply;
    if (this.#over) {
      if (isStream(body)) body.cancel();
      return;
    }
    this.#status = status;
    this.#firstByte = performance.now() - this.#began;
    const headers: Headers = { ":status": String(status), ...replyHeaders(reply.headers) };
    try {
      if (isStream(body)) this.#sendStream(headers, reply.headers, body);
      else this.#sendWhole(headers, body === null ? null : toBytes(body, reply.encoding));
    } catch (error) {
      if (isStream(body)) body.cancel();
      this.fail(error as Error);
    }
  }

  #sendWhole(headers: Headers, body: Buffer | null): void {
    if (this.#status !== 204) headers["content-length"] = String(body?.length ?? 0);
    const bodiless = body === null || body.length === 0 || this.#call.method === "HEAD";
    this.#stream.respond(headers, bodiless);
    if (!bodiless) this.write(body);
    if (!bodiless) return this.end();
    this.#request?.answered();
    this.#finish("complete", undefined);
  }

  #sendStream(headers: Headers, said: Headers, body: ByteStream): void {
    const length = contentLength(said);
    if (length !== undefined && !Number.isNaN(length)) headers["content-length"] = String(length);
    if (this.#call.method === "HEAD") {
      body.cancel();
      this.#stream.respond(headers, true);
      this.#request?.answered();
      return this.#finish("complete", undefined);
    }
    this.#promised = Number.isNaN(length) ? undefined : length;
    this.#stream.respond(headers, false);
    this.#reply = body;
    body.start(this);
  }

  #finish(end: Outcome["end"], problem: string | undefined): void {
    this.#over = true;
    this.#reply = undefined;
    this.#settings.load.underWay--;
    this.#settings.onOutcome?.(this.#call, {
      status: this.#status === 0 ? 499 : this.#status,
      end,
      ...(problem === undefined ? {} : { problem }),
      firstByte: this.#firstByte,
      duration: performance.now() - this.#began,
      bytes: this.#bytes,
      tokens: this.#tokens.count,
    });
  }
}

function headProblem(headers: Headers, onward: Headers): ApiError | undefined {
  const coding = headers["content-encoding"];
  if (coding !== undefined && coding !== "identity")
    return new ApiError(
      "unsupported_media_type",
      `the request's body is compressed (${coding.slice(0, 40)}); send it as it is`,
    );
  let size = 0;
  for (const name in onward) size += name.length + (onward[name] as string).length;
  return size > longestHeaders ? new ApiError("headers_too_large", "the request's headers are too large") : undefined;
}

function lengthProblem(length: number | undefined, ended: boolean, limit: number): ApiError | undefined {
  if (length === undefined) return undefined;
  if (Number.isNaN(length)) return new ApiError("invalid_request", "the request's content-length is no number");
  if (ended && length > 0) return wrongLength;
  return length > limit ? tooLarge(limit) : undefined;
}
