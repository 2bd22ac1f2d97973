import { randomBytes } from "node:crypto";
import { type Call, type Headers, jsonReply, type Reply, type Target } from "../core/call.ts";
import type { ChatEvent } from "../core/chat.ts";
import { ApiError, type ApiErrorOptions } from "../core/errors.ts";
import { isObject, type Json, type JsonObject } from "../core/json.ts";
import { type Log, silent } from "../core/log.ts";
import { eventStreamHeaders } from "../wire/headers.ts";
import type { ChoiceEvent, Frames, ReplyHead } from "./dialect.ts";
import { fanOut } from "./fan-out.ts";
import { wrongType } from "./fields.ts";
import { streamReply, whileHere } from "./stream-reply.ts";

export interface LiftOptions {
  /** How long a stream's status line waits for the first event, so that a failure before it is a real HTTP status. Milliseconds. */
  readonly headDelay?: number;
  /** Longest silence of a stream before a heartbeat, in milliseconds. Clients give up after 300 000. */
  readonly heartbeatInterval?: number;
  /** Told of failures after the head, which no middleware sees. */
  readonly log?: Log;
}

/** What to generate, and how to write it. */
export interface Work {
  readonly stream: boolean;
  /** The stream's head. Default: that of event streams. */
  readonly streamHeaders?: Headers;
  /** Starts the work: one source for each answer. The signal also ends when the reply is over or given up. */
  readonly sources: (signal: AbortSignal) => AsyncIterable<ChatEvent>[];
  readonly encodeStream: (events: AsyncIterable<ChoiceEvent>) => Frames;
  readonly encodeReply: (events: AsyncIterable<ChoiceEvent>) => Promise<Json>;
}

/** Runs the work until it is done, fails, or nobody reads any more: then its signal is aborted. Throws failures before the head. */
export async function answer(call: Call, provider: string, options: LiftOptions, work: Work): Promise<Reply> {
  const controller = new AbortController();
  const leave = (): void => controller.abort(call.signal.reason);
  const stop = (): void => {
    call.signal.removeEventListener("abort", leave);
    controller.abort();
  };
  if (call.signal.aborted) leave();
  call.signal.addEventListener("abort", leave);
  const sources = work.sources(controller.signal).map((source) => withProvider(source, provider));
  const events = fanOut(sources);
  if (work.stream) return streamReply(events, streamOptions(call, options, work, stop));
  try {
    return jsonReply(200, await whileHere(work.encodeReply(events), call.signal));
  } finally {
    stop();
  }
}

/** The call's body, which must be an object. */
export async function bodyOf(call: Call): Promise<JsonObject> {
  const body = await call.json();
  if (isObject(body)) return body;
  throw wrongType("body", "a JSON object", body);
}

/** Where the call was resolved to. */
export function targetOf(call: Call): Target {
  if (call.target !== undefined) return call.target;
  throw new ApiError("internal_error", `the call to ${call.path} has no target: it was not resolved`);
}

/** The reply's id and time. The clock is read here, at the edge: dialects have none. */
export function headOf(call: Call, idPrefix: string): ReplyHead {
  // Responses, and by their id their items, are asked for again: no two may share one, whatever ids callers give their calls.
  const own = idPrefix === "resp_" ? randomBytes(16).toString("hex") : call.id.replace(/[^A-Za-z0-9_-]/g, "");
  const id = idPrefix + own;
  const began = Date.now();
  return { id, created: Math.floor(began / 1000), model: targetOf(call).requested, began, now: Date.now };
}

/** A failure, with the provider's name beside it unless it has one: users see who failed. */
export function blame(thrown: unknown, provider: string): unknown {
  if (!(thrown instanceof ApiError) || thrown.provider !== undefined || thrown.code === "client_closed_request")
    return thrown;
  const { param, retryAfter, headers, cause } = thrown;
  const options: ApiErrorOptions = { provider, headers };
  if (param !== null) options.param = param;
  if (retryAfter !== undefined) options.retryAfter = retryAfter;
  if (cause !== undefined) options.cause = cause;
  return new ApiError(thrown.code, thrown.message, options);
}

/** An iterable whose failures name the provider. By hand: a generator here would cost every event another turn. */
function withProvider(source: AsyncIterable<ChatEvent>, provider: string): AsyncIterable<ChatEvent> {
  return {
    [Symbol.asyncIterator]: () => {
      const iterator = source[Symbol.asyncIterator]();
      const rename = (thrown: unknown): never => {
        throw blame(thrown, provider);
      };
      return {
        next: () => iterator.next().catch(rename),
        return: async () => (await iterator.return?.()) ?? { done: true, value: undefined },
      };
    },
  };
}

function streamOptions(
  call: Call,
  options: LiftOptions,
  work: Work,
  stop: () => void,
): Parameters<typeof streamReply<ChoiceEvent>>[1] {
  const { headDelay = 2000, heartbeatInterval = 10_000, log = silent } = options;
  return {
    signal: call.signal,
    stop,
    isWaiting: ({ event }) => event.type === "progress",
    isAccepted: ({ event }) => event.type === "progress" && event.accepted === true,
    headers: work.streamHeaders ?? eventStreamHeaders,
    encode: work.encodeStream,
    onFailure: (error) =>
      log.warn({ id: call.id, code: error.code, err: error }, "a stream failed after its head was sent"),
    headDelay,
    heartbeatInterval,
  };
}
