import { isAscii } from "node:buffer";
import { randomUUID } from "node:crypto";
import type { Principal } from "./access.ts";
import { type ByteStream, collect, isStream, whenOver } from "./bytes.ts";
import type { Demand } from "./demand.ts";
import { type Abortable, Departure } from "./departure.ts";
import { ApiError } from "./errors.ts";
import type { Json } from "./json.ts";
import { parseJson, parseText } from "./parse-json.ts";
import type { Provider } from "./provider.ts";

/** Headers by lower-case name. */
export type Headers = Record<string, string>;

/** Where a call goes; set by resolution of the model's name. */
export interface Target {
  readonly provider: Provider;
  /** The model's id at the provider, e.g. `Qwen/Qwen3-8B`. */
  readonly model: string;
  /** The model's name as the client wrote it, e.g. `vllm:Qwen/Qwen3-8B`: what every reply must say. */
  readonly requested: string;
}

export interface CallInit {
  readonly id: string;
  readonly method: string;
  /** Path without query, e.g. `/v1/chat/completions`. */
  readonly path: string;
  /** Query with its `?`, or "". */
  readonly search?: string;
  readonly headers?: Headers;
  readonly signal: AbortSignal | Departure;
  readonly body?: ByteStream | Buffer | null;
  /** Largest body that `bytes` will take, in bytes. */
  readonly bodyLimit?: number;
  /** Of the connection's other end, e.g. `192.0.2.7`. */
  readonly address?: string | undefined;
}

/** One request on its way to a provider. A body is read once and kept. */
export class Call {
  readonly id: string;
  readonly method: string;
  readonly path: string;
  /** Changed by `strip` only, as `headers`. */
  search: string;
  headers: Headers;
  readonly address: string | undefined;
  /** Aborted when the client leaves: for code that only listens, without the cost of a true signal. */
  readonly leaving: Abortable;
  readonly bodyLimit: number;
  body: ByteStream | Buffer | null;
  principal: Principal | undefined;
  target: Target | undefined;
  /** Read once by who needs it first. */
  demand: Demand | undefined;
  #json: Json | undefined;
  #latin1: string | undefined;

  constructor(init: CallInit) {
    this.id = init.id;
    this.method = init.method;
    this.path = init.path;
    this.search = init.search ?? "";
    this.headers = init.headers ?? {};
    this.leaving = init.signal;
    this.body = init.body ?? null;
    this.bodyLimit = init.bodyLimit ?? 64 * 1024 * 1024;
    this.address = init.address;
  }

  /** Aborted when the client leaves. */
  get signal(): AbortSignal {
    return this.leaving instanceof Departure ? this.leaving.signal : (this.leaving as AbortSignal);
  }

  /** The whole body. Throws `request_too_large` beyond `bodyLimit`. */
  async bytes(): Promise<Buffer> {
    if (this.body === null) return Buffer.alloc(0);
    if (Buffer.isBuffer(this.body)) return this.body;
    const read = await collect(this.body, this.bodyLimit, () => tooLarge(this.bodyLimit));
    this.body = read;
    return read;
  }

  /** The body as JSON, parsed once; whoever changes it works on a copy. Throws `invalid_json`. */
  async json(): Promise<Json> {
    if (this.#json !== undefined) return this.#json;
    const bytes = await this.bytes();
    // Of ASCII, which most bodies are, the bytes' text is the text.
    this.#json = isAscii(bytes) ? parseText(bytes, await this.latin1()) : parseJson(bytes);
    return this.#json;
  }

  /** The whole body as text in which each character is one byte. */
  async latin1(): Promise<string> {
    this.#latin1 ??= (await this.bytes()).toString("latin1");
    return this.#latin1;
  }

  /** Takes away what must not go on, such as a credential: for everybody who holds this call, from now on. */
  strip(rest: { readonly search?: string; readonly headers?: Headers; readonly body?: ByteStream | Buffer }): void {
    this.search = rest.search ?? this.search;
    this.headers = rest.headers ?? this.headers;
    if (rest.body === undefined) return;
    this.body = rest.body;
    this.#json = undefined;
    this.#latin1 = undefined;
  }

  /** The same call with another method, path, query, head or body; principal, demand, target and signal stay. */
  with(change: {
    method?: string;
    path?: string;
    search?: string;
    headers?: Headers;
    json?: Json;
    target?: Target;
    signal?: AbortSignal;
  }): Call {
    const call = new Call({
      id: this.id,
      method: change.method ?? this.method,
      path: change.path ?? this.path,
      search: change.search ?? this.search,
      headers: change.headers ?? this.headers,
      signal: change.signal ?? (this.leaving as AbortSignal | Departure),
      body: change.json === undefined ? this.body : Buffer.from(JSON.stringify(change.json)),
      bodyLimit: this.bodyLimit,
      address: this.address,
    });
    call.#json = change.json ?? this.#json;
    if (change.json === undefined) call.#latin1 = this.#latin1;
    call.principal = this.principal;
    call.demand = this.demand;
    call.target = change.target ?? this.target;
    return call;
  }
}

export function tooLarge(limit: number): ApiError {
  const megabytes = Math.round(limit / 1048576);
  return new ApiError("request_too_large", `the request body is larger than the limit of ${megabytes} MB`);
}

/** What goes back. The head is sent with the first byte of `body`. */
export interface Reply {
  readonly status: number;
  readonly headers: Headers;
  readonly body: Buffer | string | ByteStream | null;
  /** Each character of a string body is one byte. Without it, the string is text, sent as UTF-8. */
  readonly encoding?: "latin1";
}

/** The only verb: a pipeline is one, a provider has one, a tunnel carries one. */
export type Handler = (call: Call) => Promise<Reply>;
export type Middleware = (call: Call, next: Handler) => Promise<Reply>;

/** The reply, with a word when the last of it is gone, or it was given up. */
export function whenReplyIsOver(reply: Reply, over: () => void): Reply {
  if (isStream(reply.body)) return { ...reply, body: whenOver(reply.body, over) };
  over();
  return reply;
}

/** The id of a call: the caller's own if it is a plain one, for it goes into logs and replies; else a new one. */
export function toCallId(given: string | string[] | undefined): string {
  return typeof given === "string" && /^[A-Za-z0-9._-]{1,64}$/.test(given) ? given : randomUUID();
}

/** A failure as a reply; the error's own headers win over `headers`. */
export function errorReply(error: ApiError, headers: Headers = {}): Reply {
  const reply = jsonReply(error.status, error.toJson(), { ...headers, ...error.headers });
  if (error.retryAfter !== undefined) reply.headers["retry-after"] = String(error.retryAfter);
  return reply;
}

export function jsonReply(status: number, json: Json, headers: Headers = {}): Reply {
  return { status, headers: { "content-type": "application/json", ...headers }, body: JSON.stringify(json) };
}
