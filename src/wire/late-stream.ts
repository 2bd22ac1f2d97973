import { type ByteSink, type ByteStream, collect, isStream, toBytes } from "../core/bytes.ts";
import type { Reply } from "../core/call.ts";
import { ApiError, type ErrorCode, toApiError } from "../core/errors.ts";
import type { Json } from "../core/json.ts";
import { readToldFailure } from "./told-failure.ts";

export interface LateStreamSettings {
  /** Milliseconds between comments that keep a silent stream alive. */
  readonly heartbeat: number;
  /** A comment, first and at each heartbeat, e.g. `: ping\n\n`. */
  readonly comment: () => string;
  /** The events that tell of a failure, in the caller's dialect. */
  readonly encodeError: (error: ApiError) => string;
  /** Told when the reader is gone before the reply has come. */
  readonly onCancel?: () => void;
}

/** The body of an event stream whose head is sent before its reply is there: comments until it comes, then the reply. */
export class LateStream implements ByteStream {
  readonly #pending: Promise<Reply>;
  readonly #settings: LateStreamSettings;
  #sink: ByteSink | undefined;
  #body: ByteStream | undefined;
  #timer: NodeJS.Timeout | undefined;
  #blocked = false;
  /** The reply has come, or nobody waits for it any more. */
  #over = false;
  #cancelled = false;

  constructor(pending: Promise<Reply>, settings: LateStreamSettings) {
    this.#pending = pending;
    this.#settings = settings;
    // A reader who never comes is not told of the failure, and nobody else is to trip over it.
    pending.catch(() => undefined);
  }

  start(sink: ByteSink): void {
    this.#sink = sink;
    this.comment();
    this.#timer = setInterval(() => this.comment(), this.#settings.heartbeat);
    void this.#pending.then((reply) => this.#relay(reply, sink)).catch((error: unknown) => this.#tell(error, sink));
  }

  resume(): void {
    this.#blocked = false;
    this.#body?.resume();
  }

  cancel(): void {
    if (this.#cancelled) return;
    if (!this.#over) this.#settings.onCancel?.();
    this.#cancelled = true;
    this.#stop();
    this.#body?.cancel();
    if (this.#sink === undefined) void this.#pending.then(giveUp, () => undefined);
  }

  /** Says its comment now, unless the reader does not keep up. */
  comment(): void {
    if (this.#over || this.#blocked || this.#sink === undefined) return;
    this.#timer?.refresh();
    this.#blocked = !this.#sink.write(this.#settings.comment());
  }

  async #relay(reply: Reply, sink: ByteSink): Promise<void> {
    this.#stop();
    const { body } = reply;
    if (this.#cancelled) return giveUp(reply);
    if (isStream(body)) this.#body = body;
    if (reply.status >= 400) throw await failureOf(reply);
    if (isStream(body)) return body.start(sink);
    if (body !== null) sink.write(toBytes(body, reply.encoding));
    sink.end();
  }

  #tell(thrown: unknown, sink: ByteSink): void {
    this.#stop();
    if (this.#cancelled) return;
    const error = toApiError(thrown);
    sink.write(this.#settings.encodeError(error));
    sink.end(error);
  }

  #stop(): void {
    this.#over = true;
    clearInterval(this.#timer);
  }
}

function giveUp({ body }: Reply): void {
  if (isStream(body)) body.cancel();
}

/** Longest body of a failed reply that is read, in bytes. */
const longestFailure = 65_536;

/** What a failed reply tells, for a caller who has had another status. */
async function failureOf({ status, headers, body, encoding }: Reply): Promise<ApiError> {
  const unread = new ApiError("upstream_error", `the answer to this request is a failure (status ${status})`);
  if (body === null) return unread;
  const bytes = isStream(body) ? await collect(body, longestFailure, () => unread) : toBytes(body, encoding);
  let json: Json;
  try {
    json = JSON.parse(bytes.toString("utf8")) as Json;
  } catch {
    return unread;
  }
  const { code, message, param, provider } = readToldFailure(json, headers);
  if (message === undefined) return unread;
  return new ApiError(code ?? codeOf(status), message, {
    ...(param === undefined ? {} : { param }),
    ...(provider === undefined ? {} : { provider }),
  });
}

function codeOf(status: number): ErrorCode {
  if (status === 429) return "rate_limit_exceeded";
  return status < 500 ? "invalid_request" : "upstream_error";
}
