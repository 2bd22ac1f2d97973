import { isStream } from "../core/bytes.ts";
import type { Call, Handler, Headers, Reply } from "../core/call.ts";
import { ApiError } from "../core/errors.ts";
import { isLoopback } from "../core/host-url.ts";
import { HttpClient } from "./http-client.ts";
import { HttpFailure, type HttpReply, type HttpRequest } from "./http-exchange.ts";
import { OwnSecrets } from "./own-secrets.ts";
import { joinPath } from "./upstream.ts";

export interface ForwardUpstream {
  /** The one server that is ever asked, e.g. `http://127.0.0.1:18080`; a path is kept, a `/v1` at its end may stand or be missing. */
  readonly url: string;
  /** Sent as `Authorization: Bearer`. */
  readonly key?: string;
  /** URL of an HTTP proxy. */
  readonly proxy?: string;
}

/** In milliseconds; 0 waits without end. */
export interface ForwardLimits {
  readonly connectTimeout: number;
  /** Until the head of a reply, from the last of the request on. */
  readonly firstByteTimeout: number;
  /** Between two pieces of a reply. */
  readonly idleTimeout: number;
}

export interface Forwarder {
  /** Throws `upstream_unreachable`, `upstream_error`, `upstream_auth_failed` or `upstream_timeout`. */
  readonly handle: Handler;
  /** Cuts every connection. */
  close(): Promise<void>;
}

/**
 * Carries calls to one server as they are: path, query and bytes untouched both ways. Framing and credentials are its
 * own; which other headers go on is up to who asks. Throws `TypeError` for a malformed URL.
 */
export function forwarder(upstream: ForwardUpstream, limits: ForwardLimits): Forwarder {
  const url = new URL(upstream.url);
  const basePath = url.pathname.replace(/\/+$/, "");
  const told = upstream.key === undefined ? {} : { authorization: `Bearer ${upstream.key}` };
  // Callers are strangers, who need not know the network at home.
  const near = isLoopback(url.hostname);
  const label = near ? `the runtime at ${url.origin}` : "the runtime";
  const runtime = { origin: url.origin, near, label, secrets: new OwnSecrets(told) };
  const client = new HttpClient({
    origin: url.origin,
    connectTimeout: limits.connectTimeout,
    // A compressed stream is a buffered stream.
    headers: { "accept-encoding": "identity", ...told },
    ...(upstream.proxy === undefined ? {} : { proxy: upstream.proxy }),
  });
  const handle: Handler = async (call) => {
    const request = await toRequest(call, basePath, limits);
    try {
      return await toReply(await send(client, request), runtime);
    } catch (error) {
      if (isStream(request.body)) request.body.cancel();
      throw error instanceof HttpFailure ? toApiError(error, label) : error;
    }
  };
  return { handle, close: () => client.close() };
}

/** Bodies up to this size, in bytes, are read whole first: they can be sent again where a kept connection is stale. */
const shortBody = 256 * 1024;

/** Of HEAD, the head of GET's reply is the answer. */
const methods: Readonly<Record<string, HttpRequest["method"]>> = {
  GET: "GET",
  HEAD: "GET",
  POST: "POST",
  DELETE: "DELETE",
};

async function toRequest(call: Call, basePath: string, limits: ForwardLimits): Promise<HttpRequest> {
  const path = joinPath(basePath, call.path) + call.search;
  const method = methods[call.method];
  // Written into a request line as it is: whatever could end it must not be there.
  if (method === undefined || !/^\/[\x21-\x7e]*$/.test(path))
    throw new ApiError("invalid_request", "this is not a request that can be carried on to the runtime");
  const length = isStream(call.body) ? Number(call.headers["content-length"] ?? Number.NaN) : undefined;
  const short = length !== undefined && length <= shortBody;
  const known = length === undefined || Number.isNaN(length) ? undefined : length;
  return {
    method,
    path,
    headers: onward(call),
    body: short ? await call.bytes() : call.body,
    length: known,
    signal: call.leaving,
    firstByteTimeout: limits.firstByteTimeout,
    idleTimeout: limits.idleTimeout,
  };
}

/** Made anew for each connection, or the agent's own: what comes from outside under these names goes no further. */
const ownHeaders: ReadonlySet<string> = new Set([
  "host",
  "authorization",
  "accept-encoding",
  "content-length",
  "transfer-encoding",
  "connection",
  "keep-alive",
  "upgrade",
  "te",
  "trailer",
  "expect",
  "proxy-authorization",
  "proxy-connection",
]);

function onward(call: Call): Headers {
  const headers: Headers = {};
  for (const name in call.headers) {
    const value = call.headers[name];
    if (value !== undefined && !ownHeaders.has(name)) headers[name] = value;
  }
  headers["x-request-id"] = call.id;
  return headers;
}

/** Kept connections that may all have been closed meanwhile by the server. */
const mostStale = 10;

async function send(client: HttpClient, request: HttpRequest): Promise<HttpReply> {
  for (let stale = 0; ; stale++) {
    try {
      return await client.send(request);
    } catch (error) {
      if (!(error instanceof HttpFailure) || !error.stale || stale >= mostStale) throw error;
    }
  }
}

interface Runtime {
  readonly origin: string;
  /** On this machine, whose addresses say nothing. */
  readonly near: boolean;
  /** As errors name it. */
  readonly label: string;
  readonly secrets: OwnSecrets;
}

/** Bytes of a refusal that goes on; none is nearly as long. */
const longestRefusal = 1024 * 1024;

async function toReply(reply: HttpReply, runtime: Runtime): Promise<Reply> {
  const { secrets } = runtime;
  const { status, body } = reply;
  const headers = secrets.without(reply.headers);
  const problem = refusal(status, headers, runtime);
  if (problem !== undefined) {
    body.cancel();
    throw problem;
  }
  // `connection` stays, for it may name others that go no further: who sends them on judges by it.
  const { "keep-alive": _keepAlive, "transfer-encoding": _coding, ...onward } = headers;
  if (status >= 400 && secrets.known) {
    const said = secrets.hide(await reply.bytes(longestRefusal));
    return { status, headers: { ...onward, "content-length": String(said.length) }, body: said };
  }
  return { status, headers: onward, body: status === 204 ? null : body };
}

/** Replies that mean something to the agent's owner, and would mislead the caller. */
function refusal(status: number, headers: Headers, { origin, near, label }: Runtime): ApiError | undefined {
  if (status >= 300 && status < 400)
    return new ApiError(
      "upstream_error",
      `${label} redirects${near ? ` to ${hostOf(headers["location"], origin)}` : ""}, which is never followed; give the agent the runtime's final address`,
    );
  if (status === 401)
    return new ApiError(
      "upstream_auth_failed",
      `${label} refused the key that the agent sent; give the agent the runtime's key (--openai-key)`,
    );
  return undefined;
}

function hostOf(location: string | undefined, origin: string): string {
  try {
    return location === undefined ? "nowhere" : new URL(location, origin).host.slice(0, 200);
  } catch {
    return "a malformed address";
  }
}

function toApiError(failure: HttpFailure, label: string): ApiError {
  // The body's own end is what failed: its reader has said why.
  if (failure.cause instanceof ApiError) return failure.cause;
  const options = { cause: failure };
  switch (failure.failure) {
    case "aborted":
      return new ApiError("client_closed_request", "the client closed the connection", options);
    case "timeout":
      return new ApiError("upstream_timeout", `${label} sent ${failure.message}`, options);
    case "refused":
      return new ApiError(
        "upstream_unreachable",
        `${label} does not answer (${failure.message}): start it beside the agent, e.g. with lair serve, or give the agent its address (--openai)`,
        options,
      );
    case "broken":
      return new ApiError("upstream_error", `${label} broke the connection (${failure.message})`, options);
  }
}
