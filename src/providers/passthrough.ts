import { type Call, type Handler, type Headers, jsonReply, type Reply, type Target } from "../core/call.ts";
import type { ChatEvent, ChatRequest } from "../core/chat.ts";
import { ApiError } from "../core/errors.ts";
import { isObject, type Json, type JsonObject } from "../core/json.ts";
import type { Log } from "../core/log.ts";
import { parseJson } from "../core/parse-json.ts";
import { encodeFailedStream, encodeWaiting } from "../dialects/error-events.ts";
import { estimateTokens } from "../dialects/estimate.ts";
import { ChatStream } from "../wire/chat-stream.ts";
import { eventStreamHeaders } from "../wire/headers.ts";
import { LateStream } from "../wire/late-stream.ts";
import { spliceFields } from "../wire/splice.ts";
import { type CallChecks, checkReply } from "./checked-calls.ts";
import { CheckedStream } from "./checked-stream.ts";
import { errorInReply, upstreamError } from "./upstream-error.ts";
import type { Upstream, UpstreamReply } from "./upstream.ts";

export interface PassthroughSettings {
  readonly name: string;
  readonly upstream: Upstream;
  /** Top-level fields to set in the request; an `undefined` value removes one. Throws `ApiError` to refuse the call. */
  readonly adapt?: (body: JsonObject, call: Call) => JsonObject | undefined;
  /** After a refusal: the changes with which a second, last attempt may succeed. `body` is what was sent. */
  readonly mend?: (error: ApiError, body: JsonObject, call: Call) => JsonObject | undefined;
  /** Asks for another answer to a chat whose tool calls were wrong. Present: the calls in its answers are checked. */
  readonly askAgain?: (request: ChatRequest, signal: AbortSignal) => AsyncIterable<ChatEvent>;
  readonly log?: Log;
  /** Milliseconds between comments that keep a silent stream alive. */
  readonly heartbeat?: number;
}

/** Fronts cut silent connections after 60 to 100 s, Codex after 300: both figures leave room. */
const headDeadline = 10_000;
const defaultHeartbeat = 15_000;

/**
 * A handler for an upstream that speaks the endpoint itself: bytes on, bytes back. Of a request only the named fields
 * change; of a reply the model's name, and what `ChatStream` and `mendReply` put right.
 */
export function passthrough(settings: PassthroughSettings): Handler {
  return async (call) => {
    const body = await call.json();
    if (!isObject(body)) throw new ApiError("invalid_type", "the request body must be a JSON object");
    if (call.target === undefined) throw new TypeError("the call has no target");
    const job = {
      settings,
      call,
      target: call.target,
      streamed: body.stream === true,
      checks: checksOf(settings, call, body),
    };
    const pending = attempt(job, body);
    return job.streamed ? orHeartbeats(pending, call.path, settings) : pending;
  };
}

interface Job {
  readonly settings: PassthroughSettings;
  readonly call: Call;
  readonly target: Target;
  readonly streamed: boolean;
  /** How the tool calls in the answer are checked; absent where none can be. */
  readonly checks: CallChecks | undefined;
}

async function attempt(job: Job, body: JsonObject): Promise<Reply> {
  const changes = { model: job.target.model, ...wantUsage(body), ...job.settings.adapt?.(body, job.call) };
  try {
    return await exchange(job, await encode(job.call, body, changes));
  } catch (error) {
    const sent = { ...body, ...changes };
    const mended = error instanceof ApiError ? job.settings.mend?.(error, sent, job.call) : undefined;
    if (mended === undefined) throw error;
    return exchange(job, await encode(job.call, body, { ...changes, ...mended }));
  }
}

function checksOf(
  { name, askAgain, log, heartbeat = defaultHeartbeat }: PassthroughSettings,
  call: Call,
  body: JsonObject,
): CallChecks | undefined {
  const single = body.n === undefined || body.n === null || body.n === 1;
  if (askAgain === undefined || call.path !== "/v1/chat/completions" || !Array.isArray(body.tools) || !single)
    return undefined;
  return { name, call, body, askAgain, heartbeat, ...(log === undefined ? {} : { log }) };
}

/** Usage in every stream: opencode compacts a conversation only by it. */
function wantUsage(body: JsonObject): JsonObject | undefined {
  if (body.stream !== true) return undefined;
  const options = isObject(body.stream_options) ? body.stream_options : {};
  return options.include_usage === true ? undefined : { stream_options: { ...options, include_usage: true } };
}

/** The request's body, each character one byte. */
async function encode(call: Call, body: JsonObject, changes: JsonObject): Promise<string> {
  const removes = Object.values(changes).includes(undefined);
  if (removes) return Buffer.from(JSON.stringify({ ...body, ...changes })).toString("latin1");
  return spliceFields(await call.latin1(), changes);
}

async function exchange(job: Job, body: string): Promise<Reply> {
  const { settings, call } = job;
  const reply = await settings.upstream.send({
    method: "POST",
    path: call.path,
    body,
    encoding: "latin1",
    headers: onward(call),
    signal: call.leaving,
  });
  if (reply.status < 200 || reply.status > 299) {
    const said = await reply.bytes(1 << 20);
    throw upstreamError(settings.name, reply.status, said, reply.headers);
  }
  const type = reply.headers["content-type"] ?? "";
  if (job.streamed && !type.includes("json")) return streamReply(job, reply, body.length);
  return wholeReply(job, reply, body.length);
}

/** Headers that mean something to the server behind: nothing of the caller's credentials. */
function onward(call: Call): Headers {
  const headers: Headers = { "x-request-id": call.id, "content-type": "application/json" };
  for (const name of ["x-session-id", "x-session-affinity"]) {
    const value = call.headers[name];
    if (value !== undefined) headers[name] = value;
  }
  return headers;
}

function streamReply(job: Job, reply: UpstreamReply, bytesSent: number): Reply {
  const stream = new ChatStream(reply.body, {
    provider: job.settings.name,
    model: job.target.requested,
    promptEstimate: estimateTokens(bytesSent),
    heartbeat: job.settings.heartbeat ?? defaultHeartbeat,
    toError: (event) => errorInReply(job.settings.name, event),
  });
  const checked = job.checks === undefined ? stream : new CheckedStream(stream, job.checks);
  return { status: 200, headers: eventStreamHeaders, body: checked };
}

async function wholeReply(job: Job, reply: UpstreamReply, bytesSent: number): Promise<Reply> {
  const bytes = await reply.bytes();
  const text = bytes.toString("latin1");
  if (!/^\s*\{/.test(text)) {
    const shape = reply.headers["content-type"] ?? "no content type";
    throw new ApiError(
      "upstream_error",
      `${job.settings.name} answered with something that is no JSON object (${shape})`,
      { provider: job.settings.name },
    );
  }
  const chat = job.call.path === "/v1/chat/completions" || job.call.path === "/v1/completions";
  const called = job.checks !== undefined && text.includes('"tool_calls"');
  if (needsMending(text, chat) || job.streamed || called) {
    const mended = mendReply(job, parseReply(job, bytes), chat ? estimateTokens(bytesSent) : undefined);
    const json = job.checks === undefined ? mended : await checkReply(mended, job.checks);
    return job.streamed ? asStream(json) : jsonReply(200, json);
  }
  const body = spliceFields(text, { model: job.target.requested });
  return { status: 200, headers: { "content-type": "application/json" }, body, encoding: "latin1" };
}

/** Whether a reply's text holds, or lacks, anything for which it must be parsed. */
function needsMending(text: string, chat: boolean): boolean {
  if (text.includes('"error') || !text.includes("}", text.length - 8)) return true;
  return (
    chat && (text.includes('"reasoning') || !text.includes('"usage"') || !/"finish_reason"\s*:\s*"[^"]/.test(text))
  );
}

function parseReply(job: Job, bytes: Buffer): JsonObject {
  let json: Json;
  try {
    json = parseJson(bytes);
  } catch (error) {
    throw new ApiError("upstream_error", `${job.settings.name} answered with broken JSON`, {
      provider: job.settings.name,
      cause: error,
    });
  }
  const failure = errorInReply(job.settings.name, json);
  if (failure !== undefined) throw failure;
  return json as JsonObject;
}

/** The reply as OpenAI's: model as asked for, both reasoning fields, finish reasons, usage (estimated if it is missing). */
function mendReply(job: Job, json: JsonObject, promptEstimate: number | undefined): JsonObject {
  const mended: JsonObject = { ...json, model: job.target.requested };
  if (promptEstimate === undefined) return mended;
  if (!Array.isArray(json.choices)) {
    throw new ApiError("upstream_error", `${job.settings.name} answered without choices`, {
      provider: job.settings.name,
    });
  }
  mended.choices = json.choices.map((choice) => (isObject(choice) ? mendChoice(choice) : choice));
  if (!isObject(json.usage)) {
    const completion = estimateTokens(JSON.stringify(json.choices).length);
    mended.usage = {
      prompt_tokens: promptEstimate,
      completion_tokens: completion,
      total_tokens: promptEstimate + completion,
    };
  }
  return mended;
}

function mendChoice(choice: JsonObject): JsonObject {
  const mended: JsonObject = { ...choice };
  const message = isObject(choice.message) ? choice.message : undefined;
  const calls = message !== undefined && Array.isArray(message.tool_calls) && message.tool_calls.length > 0;
  // The reply came whole, so the answer is whole: nothing is hidden by naming its end, which clients insist on.
  if (typeof choice.finish_reason !== "string" || choice.finish_reason === "")
    mended.finish_reason = calls ? "tool_calls" : "stop";
  const reasoning = message?.reasoning_content ?? message?.reasoning;
  if (message !== undefined && typeof reasoning === "string") {
    mended.message = { ...message, reasoning_content: reasoning, reasoning };
  }
  return mended;
}

/** A whole chat reply as a stream: a JSON body under `stream: true` makes opencode ask again without end (R2). */
function asStream(json: JsonObject): Reply {
  const { id = "chatcmpl-0", created = Math.floor(Date.now() / 1000), model, choices, usage } = json;
  const base = { id, object: "chat.completion.chunk", created, model };
  const frames: JsonObject[] = [];
  for (const choice of Array.isArray(choices) ? choices : []) {
    if (!isObject(choice)) continue;
    const { message, text, finish_reason, index = 0 } = choice;
    const body: JsonObject = isObject(message) ? { delta: toDelta(message) } : { text: text ?? "" };
    frames.push({ ...base, choices: [{ index, ...body, finish_reason: null }] });
    frames.push({
      ...base,
      choices: [
        { index, ...(isObject(message) ? { delta: {} } : { text: "" }), finish_reason: finish_reason ?? "stop" },
      ],
    });
  }
  frames.push({ ...base, choices: [], usage });
  const events = frames.map((frame) => `data: ${JSON.stringify(frame)}\n\n`).join("");
  return { status: 200, headers: eventStreamHeaders, body: `${events}data: [DONE]\n\n` };
}

function toDelta(message: JsonObject): JsonObject {
  const calls = Array.isArray(message.tool_calls) ? message.tool_calls : undefined;
  if (calls === undefined) return message;
  return { ...message, tool_calls: calls.map((call, index) => (isObject(call) ? { index, ...call } : call)) };
}

/** The reply, or, when it lets wait, the head of a stream now and the reply's events, or its error, when they come. */
export async function orHeartbeats(
  pending: Promise<Reply>,
  path: string,
  settings: Pick<PassthroughSettings, "heartbeat">,
): Promise<Reply> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<undefined>((resolve) => {
    timer = setTimeout(resolve, headDeadline, undefined);
  });
  try {
    const reply = await Promise.race([pending, late]);
    if (reply !== undefined) return reply;
    let words = "waiting for the first token";
    const body = new LateStream(pending, {
      heartbeat: settings.heartbeat ?? defaultHeartbeat,
      comment: () => {
        const said = encodeWaiting(path, words);
        words = "ping";
        return said;
      },
      encodeError: (error) => encodeFailedStream(path, error),
    });
    return { status: 200, headers: eventStreamHeaders, body };
  } finally {
    clearTimeout(timer);
  }
}
