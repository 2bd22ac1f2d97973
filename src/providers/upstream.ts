import type { Headers } from "../core/call.ts";
import type { Abortable } from "../core/departure.ts";
import type { ByteSink, ByteStream } from "../core/bytes.ts";
import { ApiError } from "../core/errors.ts";
import type { Json } from "../core/json.ts";
import { parseJson } from "../core/parse-json.ts";
import type { Log } from "../core/log.ts";
import { HttpClient } from "./http-client.ts";
import { HttpFailure, type HttpReply } from "./http-exchange.ts";
import { OwnSecrets } from "./own-secrets.ts";

export interface UpstreamSettings {
  /** Base URLs of interchangeable hosts; a path is kept, and a trailing `/v1` may stand or be missing. At least one. */
  readonly urls: readonly string[];
  /** Sent as `Authorization: Bearer`. */
  readonly key?: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** Milliseconds for connecting. */
  readonly connectTimeout: number;
  /** Milliseconds until the head of a reply; 0 waits without end. */
  readonly firstByteTimeout: number;
  /** Milliseconds between two pieces of a reply; 0 waits without end. */
  readonly idleTimeout: number;
  /** The proxy for a URL, if any. */
  readonly proxyFor?: (url: URL) => string | undefined;
  /** Callers are strangers: errors do not tell them the hosts' addresses. */
  readonly discreet?: boolean;
}

export interface UpstreamRequest {
  readonly method: "GET" | "POST" | "DELETE";
  /** Path with query, e.g. `/v1/chat/completions`. */
  readonly path: string;
  readonly body?: Buffer | string | null;
  /** Each character of a string body is one byte. */
  readonly encoding?: "latin1";
  readonly headers?: Headers;
  readonly signal: Abortable;
  /** In place of the settings'. */
  readonly firstByteTimeout?: number;
}

export interface UpstreamReply {
  readonly status: number;
  readonly headers: Headers;
  readonly body: ByteStream;
  /** The whole body, at most `limit` bytes (default 64 MB). Throws `ApiError`. */
  bytes(limit?: number): Promise<Buffer>;
  /** The whole body as JSON. Throws `upstream_error` when it is none. */
  json(): Promise<Json>;
}

/** One of several interchangeable servers. */
interface Host {
  readonly origin: string;
  /** As errors name it. */
  readonly label: string;
  readonly basePath: string;
  readonly client: HttpClient;
  inFlight: number;
  /** Consecutive failures to connect. */
  failures: number;
  /** `performance.now()` until which other hosts are preferred. */
  downUntil: number;
}

const replyLimit = 64 * 1024 * 1024;
const longestDown = 30_000;

/**
 * A provider's servers behind one `send`: the least busy host that is not known to be down; before the first byte of a
 * reply another host is tried, after it never. Every HTTP status is a reply; what is thrown is `upstream_unreachable`,
 * `upstream_error`, `upstream_timeout` or `client_closed_request`.
 */
export class Upstream {
  readonly name: string;
  readonly #hosts: Host[];
  readonly #settings: UpstreamSettings;
  readonly #log: Log;
  /** Names of the headers that the settings have, which win over a request's own. */
  readonly #set: ReadonlySet<string>;
  /** Headers of a request that does not bring them itself. */
  readonly #usual: Headers;
  readonly #secrets: OwnSecrets;

  constructor(name: string, settings: UpstreamSettings, log: Log) {
    this.name = name;
    this.#settings = settings;
    this.#log = log;
    const set = Object.entries(settings.headers ?? {}).map(([header, value]) => [header.toLowerCase(), value] as const);
    const told: Headers = {
      ...(settings.key === undefined ? {} : { authorization: `Bearer ${settings.key}` }),
      ...Object.fromEntries(set),
    };
    // A compressed stream is a buffered stream, and we read its bytes.
    const headers: Headers = { "accept-encoding": "identity", ...told };
    this.#secrets = new OwnSecrets(told);
    this.#set = new Set(set.map(([header]) => header));
    this.#usual = this.#withoutSet({ accept: "*/*", "user-agent": "local-ai-runtime" });
    this.#hosts = settings.urls.map((url) => toHost(name, url, settings, headers));
  }

  /** The hosts' addresses, without credentials. */
  get origins(): string[] {
    return this.#hosts.map((host) => host.origin + host.basePath);
  }

  async send(request: UpstreamRequest): Promise<UpstreamReply> {
    let untried = this.#hosts;
    let stale = 0;
    for (;;) {
      const host = choose(untried);
      untried = untried.length === 1 ? [] : untried.filter((other) => other !== host);
      try {
        const reply = await this.#exchange(host, request);
        if (reply.status < 502 || reply.status > 504 || untried.length === 0) return reply;
        this.#log.warn(
          { provider: this.name, host: host.origin, status: reply.status },
          "host is not ready, trying another",
        );
        reply.body.cancel();
      } catch (error) {
        if (!(error instanceof HttpFailure)) throw error;
        if (error.failure === "aborted" || error.failure === "timeout") throw toApiError(error, this.name, host);
        // A kept connection that the server has closed meanwhile: it never saw the request. All kept ones may be such.
        if (error.stale && stale++ < 10) untried = [...untried, host];
        if (untried.length === 0) throw toApiError(error, this.name, host);
      }
    }
  }

  async close(): Promise<void> {
    await Promise.all(this.#hosts.map((host) => host.client.close()));
  }

  async #exchange(host: Host, request: UpstreamRequest): Promise<UpstreamReply> {
    const { body = null } = request;
    host.inFlight++;
    try {
      const reply = await host.client.send({
        method: request.method,
        path: joinPath(host.basePath, request.path),
        headers: this.#headersOf(request),
        body,
        encoding: request.encoding,
        signal: request.signal,
        firstByteTimeout: request.firstByteTimeout ?? this.#settings.firstByteTimeout,
        idleTimeout: this.#settings.idleTimeout,
      });
      host.failures = 0;
      host.downUntil = 0;
      return new HostReply(host, reply, { provider: this.name, secrets: this.#secrets });
    } catch (error) {
      host.inFlight--;
      if (error instanceof HttpFailure && error.failure === "refused") this.#markDown(host);
      throw error;
    }
  }

  #headersOf({ body = null, headers = {} }: UpstreamRequest): Headers {
    const all = { ...this.#usual, ...(body === null ? {} : jsonContent), ...headers };
    return this.#set.size === 0 ? all : this.#withoutSet(all);
  }

  #withoutSet(headers: Headers): Headers {
    const others: Headers = {};
    for (const name in headers) {
      const value = headers[name];
      if (value !== undefined && !this.#set.has(name)) others[name] = value;
    }
    return others;
  }

  #markDown(host: Host): void {
    const pause = Math.min(longestDown, 1000 * 2 ** host.failures++);
    host.downUntil = performance.now() + pause;
    if (this.#hosts.length > 1)
      this.#log.warn({ provider: this.name, host: host.origin, pause }, "host does not answer");
  }
}

const jsonContent = { "content-type": "application/json" };

function toApiError(failure: HttpFailure, provider: string, host: Host): ApiError {
  const options = { provider, cause: failure };
  const where = host.label;
  switch (failure.failure) {
    case "aborted":
      return new ApiError("client_closed_request", "the client closed the connection", options);
    case "timeout":
      return new ApiError("upstream_timeout", `${where} sent ${failure.message}`, options);
    case "refused":
      return new ApiError(
        "upstream_unreachable",
        `${where} does not answer (${failure.message}): is it running there?`,
        options,
      );
    case "broken":
      return new ApiError("upstream_error", `${where} broke the connection (${failure.message})`, options);
  }
}

function toHost(name: string, text: string, settings: UpstreamSettings, headers: Headers): Host {
  const url = new URL(text);
  const proxy = settings.proxyFor?.(url);
  const client = new HttpClient({
    origin: url.origin,
    connectTimeout: settings.connectTimeout,
    headers,
    ...(proxy === undefined ? {} : { proxy }),
  });
  return {
    origin: url.origin,
    label: settings.discreet === true ? name : `${name} at ${url.origin}`,
    basePath: url.pathname.replace(/\/+$/, ""),
    client,
    inFlight: 0,
    failures: 0,
    downUntil: 0,
  };
}

/** The least busy host that is up; if all are down, the one whose pause ends first. */
function choose(hosts: readonly Host[]): Host {
  const now = hosts.length === 1 ? 0 : performance.now();
  let best: Host | undefined;
  for (const host of hosts) {
    if (best === undefined || rank(host, now) < rank(best, now)) best = host;
  }
  if (best === undefined) throw new TypeError("no host left");
  return best;
}

function rank(host: Host, now: number): number {
  return host.downUntil > now ? 1e9 + host.downUntil : host.inFlight;
}

/** `http://host/v1` and `http://host` mean the same server to a user: `/v1` is not said twice. */
export function joinPath(basePath: string, path: string): string {
  return basePath.endsWith("/v1") && path.startsWith("/v1/") ? basePath + path.slice(3) : basePath + path;
}

interface Asked {
  readonly provider: string;
  readonly secrets: OwnSecrets;
}

/** A reply that counts as in flight at its host until its body is over, however that ends. */
class HostReply implements UpstreamReply, ByteStream, ByteSink {
  readonly status: number;
  readonly headers: Headers;
  readonly #host: Host;
  readonly #reply: HttpReply;
  readonly #asked: Asked;
  #sink: ByteSink | undefined;
  #over = false;

  constructor(host: Host, reply: HttpReply, asked: Asked) {
    this.status = reply.status;
    this.headers = asked.secrets.without(reply.headers);
    this.#host = host;
    this.#reply = reply;
    this.#asked = asked;
  }

  get body(): ByteStream {
    return this;
  }

  async bytes(limit = replyLimit): Promise<Buffer> {
    try {
      const read = await this.#reply.bytes(limit);
      return this.status < 300 ? read : this.#asked.secrets.hide(read);
    } catch (error) {
      throw error instanceof HttpFailure ? toApiError(error, this.#asked.provider, this.#host) : error;
    } finally {
      this.#release();
    }
  }

  async json(): Promise<Json> {
    const read = await this.bytes();
    try {
      return parseJson(read);
    } catch (error) {
      const shape = this.headers["content-type"] ?? "no content type";
      throw new ApiError(
        "upstream_error",
        `${this.#host.label} answered ${this.status} with something that is no JSON (${shape})`,
        { cause: error },
      );
    }
  }

  start(sink: ByteSink): void {
    this.#sink = sink;
    this.#reply.body.start(this);
  }

  resume(): void {
    this.#reply.body.resume();
  }

  cancel(): void {
    this.#release();
    this.#reply.body.cancel();
  }

  write(chunk: Uint8Array | string): boolean {
    return this.#sink?.write(chunk) ?? true;
  }

  end(): void {
    this.#release();
    this.#sink?.end();
  }

  fail(error: Error): void {
    this.#release();
    this.#sink?.fail(error instanceof HttpFailure ? toApiError(error, this.#asked.provider, this.#host) : error);
  }

  #release(): void {
    if (!this.#over) this.#host.inFlight--;
    this.#over = true;
  }
}
