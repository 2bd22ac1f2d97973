import { type ByteStream, isStream } from "../core/bytes.ts";
import type { Call, Handler, Reply } from "../core/call.ts";
import { ApiError, isErrorCode, toApiError } from "../core/errors.ts";
import { isObject, type Json, type JsonObject } from "../core/json.ts";
import { EventBlocks, readEvent, readLifecycle } from "./event-blocks.ts";
import type { EventBuffer } from "./event-buffer.ts";
import type { KeptResponse } from "./kept-response.ts";
import { readResponse, toStream } from "./keep-reply.ts";

export interface WorkSettings {
  /** Complete, streamed, and tied to no client. */
  readonly call: Call;
  /** Ends the call. */
  readonly abort: () => void;
  /** As it is told and kept before anything has come. */
  readonly queued: KeptResponse;
  /** The response as its caller is told of it. */
  readonly rewrite: (response: JsonObject) => JsonObject;
  readonly events: EventBuffer | undefined;
  /** Keeps it as it is now. Rejects when it cannot be kept. */
  readonly keep: (kept: KeptResponse) => Promise<void>;
  /** Told when keeping has failed. */
  readonly onUnkept: (error: unknown) => void;
  /** Told once, when nothing more will come and it is kept. */
  readonly onOver: (work: BackgroundWork) => Promise<void>;
}

/**
 * Milliseconds that a call may take to be refused, before its client is told that it is queued. Limits and unknown models
 * are known at once.
 */
const admission = 500;

/** One response in the making, which nobody need wait for. */
export class BackgroundWork {
  readonly events: EventBuffer | undefined;
  readonly #settings: WorkSettings;
  readonly #blocks = new EventBlocks();
  #kept: KeptResponse;
  #body: ByteStream | undefined;
  /** The last time it was kept. */
  #keeping: Promise<void> = Promise.resolve();
  /** Resolves when all is over and kept; undefined: it is under way. */
  #ending: Promise<void> | undefined;
  #forgotten = false;

  constructor(settings: WorkSettings) {
    this.#settings = settings;
    this.#kept = settings.queued;
    this.events = settings.events;
  }

  /** Whether it was deleted while it was made. */
  get isForgotten(): boolean {
    return this.#forgotten;
  }

  /** As it is now. */
  get kept(): KeptResponse {
    return this.#kept;
  }

  /**
   * Begins. Resolves when the call was let in, with nothing, or at once refused by a server behind, with what that says;
   * rejects when it was refused here, or cannot be kept.
   */
  async begin(next: Handler): Promise<Reply | undefined> {
    const head = next(this.#settings.call);
    const refusal = await untilLetIn(head);
    if (refusal !== undefined) return refusal;
    const kept = this.#save();
    void head.then((reply) => this.#read(reply)).catch((error: unknown) => this.fail(toApiError(error)));
    await kept;
    return undefined;
  }

  /** Ends it as cancelled, and resolves when that is kept. */
  async cancel(): Promise<void> {
    await this.#end({ ...this.#kept.response, status: "cancelled" }, "response.cancelled");
  }

  /** Ends it as failed, and resolves when that is kept. */
  async fail(error: ApiError): Promise<void> {
    const { code, message } = toResponseError(error);
    await this.#end({ ...this.#kept.response, status: "failed", error: { code, message } }, "response.failed");
  }

  /** Ends it, and keeps it no more; resolves when it will not be kept again. */
  async forget(): Promise<void> {
    this.#forgotten = true;
    await this.cancel();
  }

  async #read(reply: Reply): Promise<void> {
    const { body, status } = reply;
    const isEvents = (reply.headers["content-type"] ?? "").startsWith("text/event-stream");
    if (isStream(body)) this.#body = body;
    if (this.#ending !== undefined) return this.#body?.cancel();
    if (status === 200 && isEvents) return this.#listen(toStream(reply));
    const read = await readResponse(reply);
    if (status !== 200 || Buffer.isBuffer(read)) throw failureIn(status, read);
    await this.#end(this.#settings.rewrite(read), `response.${String(read["status"])}`);
  }

  #listen(body: ByteStream): void {
    const take = (blocks: readonly string[]): void => {
      for (const block of blocks) this.#take(block);
    };
    body.start({
      write: (chunk) => {
        take(this.#blocks.push(Buffer.from(chunk as Uint8Array).toString("latin1")));
        return true;
      },
      end: (problem) => {
        take(this.#blocks.end());
        void this.fail(problem === undefined ? brokenOff() : toApiError(problem));
      },
      fail: (error) => void this.fail(error instanceof ApiError ? error : brokenOff(error)),
    });
  }

  #take(block: string): void {
    if (this.#ending !== undefined) return;
    const known = readLifecycle(block);
    const event = known?.event ?? readEvent(block);
    if (event === undefined) return this.events?.comment(block);
    if (known === undefined) {
      if (event["type"] === "error") return void this.fail(failureOf(event));
      return this.events?.push(event);
    }
    const response = this.#settings.rewrite(known.response);
    if (known.isFinal) return void this.#end(response, String(event["type"]));
    const isNews = this.#kept.response["status"] !== response["status"];
    this.#kept = { ...this.#kept, response };
    if (isNews) void this.#save();
    this.events?.push({ ...event, response });
  }

  #end(response: JsonObject, type: string): Promise<void> {
    this.#ending ??= this.#close(response, type);
    return this.#ending;
  }

  async #close(response: JsonObject, type: string): Promise<void> {
    this.#settings.abort();
    this.#body?.cancel();
    this.#kept = { ...this.#kept, response };
    await this.#save().catch(() => undefined);
    this.events?.push({ type, response });
    this.events?.end();
    await this.#settings.onOver(this);
  }

  /** One after the other, so that what is kept last is the latest. */
  #save(): Promise<void> {
    const saved = this.#keeping.then(() => (this.#forgotten ? undefined : this.#settings.keep(this.#kept)));
    this.#keeping = saved.catch((error: unknown) => this.#settings.onUnkept(error));
    return saved;
  }
}

/** Undefined: the call was let in, or takes its time. */
async function untilLetIn(head: Promise<Reply>): Promise<Reply | undefined> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<undefined>((resolve) => {
    timer = setTimeout(resolve, admission, undefined);
  });
  try {
    const reply = await Promise.race([head, late]);
    return reply !== undefined && reply.status >= 400 ? reply : undefined;
  } finally {
    clearTimeout(timer);
  }
}

function brokenOff(cause?: Error): ApiError {
  return new ApiError("upstream_error", "the answer broke off before its end", { cause });
}

/** A failure as the Responses API tells it inside of a response. */
export function toResponseError({ type, message }: ApiError): { code: string; message: string } {
  if (type === "rate_limit_error") return { code: "rate_limit_exceeded", message };
  return { code: type === "server_error" ? "server_error" : "invalid_prompt", message };
}

/** What a reply says that holds no response. */
function failureIn(status: number, body: Buffer | JsonObject): ApiError {
  try {
    const json = Buffer.isBuffer(body) ? (JSON.parse(body.toString()) as Json) : body;
    if (isObject(json)) return failureOf(json, status);
  } catch {
    // It says nothing that could be told.
  }
  return failureOf({}, status);
}

/** The failure in an event of the type `error`, or in an error reply: with its fields inside of `error`, or without. */
function failureOf(json: JsonObject, status = 502): ApiError {
  const { code, message } = isObject(json["error"]) ? json["error"] : json;
  const usual = status === 429 ? "rate_limit_exceeded" : status < 500 ? "invalid_request" : "upstream_error";
  const text = typeof message === "string" ? message : `the answer is a failure (status ${status})`;
  return new ApiError(isErrorCode(code) ? code : usual, text);
}
