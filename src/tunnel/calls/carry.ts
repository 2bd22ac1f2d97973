import { type ByteSink, type ByteStream, isStream } from "../../core/bytes.ts";
import type { Call, Headers, Reply } from "../../core/call.ts";
import { ApiError } from "../../core/errors.ts";
import { replyHeaders, requestHeaders } from "../../wire/onward-headers.ts";
import { errorCodes } from "../http2/errors.ts";
import type { Http2Session } from "../http2/session.ts";
import type { Http2Stream, StreamHandler, StreamReset } from "../http2/stream.ts";

/** What of a call goes through the tunnel. */
export interface CarriedRequest {
  /** With its query. */
  readonly path: string;
  /** As the caller sent them; what may pass is chosen here. */
  readonly headers: Headers;
  readonly body: Buffer | ByteStream | null;
  /** Bytes of a body that is a stream, where that is known. */
  readonly length?: number;
}

/** Where a call was when its agent was lost to it. */
export type CarryStage = "refused" | "before-head" | "after-head";

/** A call that the tunnel could not bring to an end. `refused`: it was certainly not begun. */
export class CarryFailure extends Error {
  readonly stage: CarryStage;

  constructor(stage: CarryStage, message: string) {
    super(message);
    this.name = "CarryFailure";
    this.stage = stage;
  }
}

/**
 * Sends one call over one stream of the session. The reply's body fails with `CarryFailure` unless END_STREAM proves it
 * complete. Throws `CarryFailure`, `client_closed_request` when the caller left before the head, or what the request's
 * body fails with.
 */
export async function carry(session: Http2Session, call: Call, request: CarriedRequest): Promise<Reply> {
  if (call.leaving.aborted) throw departed();
  if (!session.accepting) throw new CarryFailure("refused", "the connection takes no more calls");
  const carriage = new Carriage(call, request);
  await carriage.send(session);
  // What came in the same turn as the head is in: most small replies are whole by now.
  return carriage.toReply();
}

/** Bytes of a reply that are held while nobody reads it yet. */
const mostHeld = 256 * 1024;

/** One call on its way: told by the stream, read as the reply's body, and the sink of the request's. */
class Carriage implements StreamHandler, ByteStream, ByteSink {
  readonly #call: Call;
  readonly #request: CarriedRequest;
  #stream!: Http2Stream;
  #settle: { resolve: () => void; reject: (error: Error) => void } | undefined;
  #status = 0;
  #headers: Headers = {};
  #held: Buffer[] = [];
  #heldSize = 0;
  #sink: ByteSink | undefined;
  #sending = false;
  #ended = false;
  #failure: Error | undefined;
  readonly #leave = (): void => this.#giveUp(departed());

  constructor(call: Call, request: CarriedRequest) {
    this.#call = call;
    this.#request = request;
  }

  /** Resolves when the reply's head has come. */
  send(session: Http2Session): Promise<void> {
    const { body } = this.#request;
    const answered = new Promise<void>((resolve, reject) => (this.#settle = { resolve, reject }));
    this.#stream = session.open(this.#toHeaders(), this, body === null);
    this.#call.leaving.addEventListener("abort", this.#leave);
    if (body === null) return answered;
    if (isStream(body)) {
      this.#sending = true;
      body.start(this);
    } else {
      this.#stream.write(body);
      this.#stream.end();
    }
    return answered;
  }

  /** Throws where the reply broke before anybody could see its head. */
  toReply(): Reply {
    if (this.#failure !== undefined) throw beforeHead(this.#failure);
    const head = { status: this.#status, headers: this.#headers };
    if (!this.#ended) return { ...head, body: this };
    const [first] = this.#held;
    if (first === undefined) return { ...head, body: null };
    return { ...head, body: this.#held.length === 1 ? first : Buffer.concat(this.#held) };
  }

  // The stream's reply.

  onHead(headers: Headers): void {
    const status = headers[":status"] ?? "";
    // 1xx, and trailers, which have no status.
    if (this.#settle === undefined || status.startsWith("1")) return;
    if (!/^[2-5]/.test(status)) {
      this.#giveUp(new CarryFailure("before-head", `the agent answered with the status ${status}`));
      return;
    }
    this.#status = Number(status);
    this.#headers = replyHeaders(headers);
    // The session holds the body to it.
    if (headers["content-length"] !== undefined) this.#headers["content-length"] = headers["content-length"];
    this.#settle.resolve();
    this.#settle = undefined;
  }

  onData(chunk: Buffer): void {
    if (this.#failure !== undefined) return;
    if (this.#sink !== undefined) {
      if (!this.#sink.write(chunk)) this.#stream.pause();
    } else {
      this.#held.push(chunk);
      this.#heldSize += chunk.length;
      if (this.#heldSize > mostHeld) this.#stream.pause();
    }
  }

  onEnd(): void {
    if (this.#settle !== undefined) this.#giveUp(new CarryFailure("before-head", "the agent sent no head"));
    if (this.#failure !== undefined) return;
    this.#ended = true;
    this.#finish();
    this.#sink?.end();
  }

  onReset(reason: StreamReset): void {
    if (this.#failure !== undefined) return;
    if (this.#ended) {
      this.#stopSending();
      return;
    }
    const stage = this.#settle === undefined ? "after-head" : reason.refused ? "refused" : "before-head";
    this.#fail(new CarryFailure(stage, reason.message));
  }

  onDrain(): void {
    if (this.#sending) (this.#request.body as ByteStream).resume();
  }

  // The reply's body.

  start(sink: ByteSink): void {
    this.#sink = sink;
    let room = true;
    for (const chunk of this.#held) room = sink.write(chunk);
    this.#held = [];
    if (this.#failure !== undefined) sink.fail(this.#failure);
    else if (this.#ended) sink.end();
    else if (!room) this.#stream.pause();
    else if (this.#heldSize > mostHeld) this.#stream.resume();
  }

  resume(): void {
    this.#stream.resume();
  }

  cancel(): void {
    this.#sink = undefined;
    this.#giveUp(departed());
  }

  // The request's body.

  write(chunk: Uint8Array | string): boolean {
    return this.#sending ? this.#stream.write(chunk) : true;
  }

  end(): void {
    if (!this.#sending) return;
    this.#sending = false;
    this.#stream.end();
  }

  fail(error: Error): void {
    if (!this.#sending) return;
    this.#sending = false;
    this.#giveUp(error);
  }

  #giveUp(error: Error): void {
    if (this.#ended || this.#failure !== undefined) return;
    this.#stream.reset(errorCodes.cancel);
    this.#fail(error);
  }

  #fail(error: Error): void {
    this.#failure = error;
    this.#finish();
    this.#settle?.reject(error);
    this.#settle = undefined;
    this.#sink?.fail(error);
  }

  #finish(): void {
    this.#call.leaving.removeEventListener("abort", this.#leave);
    // The agent has said all that it will say: what is left of the request has no reader.
    if (this.#sending && this.#ended) this.#stream.reset(errorCodes.noError);
    this.#stopSending();
  }

  #stopSending(): void {
    if (!this.#sending) return;
    this.#sending = false;
    (this.#request.body as ByteStream).cancel();
  }

  #toHeaders(): Headers {
    const { path, headers, body, length = Buffer.isBuffer(body) ? body.length : undefined } = this.#request;
    return {
      ":method": this.#call.method,
      ":scheme": "http",
      ":authority": "runtime",
      ":path": path,
      ...requestHeaders(headers),
      "x-request-id": this.#call.id,
      ...(length === undefined ? {} : { "content-length": String(length) }),
    };
  }
}

function beforeHead(failure: Error): Error {
  return failure instanceof CarryFailure ? new CarryFailure("before-head", failure.message) : failure;
}

function departed(): ApiError {
  return new ApiError("client_closed_request", "the client closed the connection");
}
