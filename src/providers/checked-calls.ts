import type { Call } from "../core/call.ts";
import type { ChatEvent, ChatRequest } from "../core/chat.ts";
import { ApiError, isErrorCode } from "../core/errors.ts";
import { isObject, type Json, type JsonObject } from "../core/json.ts";
import type { Log } from "../core/log.ts";
import type { ChoiceEvent, ReplyHead } from "../dialects/dialect.ts";
import { decodeReply } from "../dialects/openai-chat/client.ts";
import { openaiChat } from "../dialects/openai-chat.ts";
import { logWrong } from "../dialects/tool-calls.ts";
import { holdToolCalls } from "../dialects/tool-calls-held.ts";
import { offeredTools, repairCall } from "../dialects/tool-repair.ts";

/** What is needed to check the tool calls of one chat whose bytes otherwise pass. */
export interface CallChecks {
  /** The provider's name. */
  readonly name: string;
  readonly call: Call;
  /** The request as the client wrote it. */
  readonly body: JsonObject;
  readonly askAgain: (request: ChatRequest, signal: AbortSignal) => AsyncIterable<ChatEvent>;
  readonly log?: Log;
  /** Milliseconds between comments that keep a silent stream alive. */
  readonly heartbeat: number;
}

/** The request in our own words; undefined for one that we cannot say, whose calls then pass as they are. */
export function readRequest({ call, body }: CallChecks): ChatRequest | undefined {
  try {
    return openaiChat.decodeRequest(body, call.target?.model ?? "", call.headers);
  } catch (thrown) {
    if (thrown instanceof ApiError) return undefined;
    throw thrown;
  }
}

/** The events of an answer with sound calls. `said`: a part of the answer has gone out. */
export function withSoundCalls(
  events: AsyncIterable<ChatEvent>,
  checks: CallChecks,
  { request, signal, said }: { request: ChatRequest; signal: AbortSignal; said: boolean },
): AsyncIterable<ChatEvent> {
  const { name, call, askAgain, log } = checks;
  return holdToolCalls(events, {
    request,
    said,
    again: (asked) => askAgain(asked, signal),
    onWrong: logWrong(log, { id: call.id, provider: name, model: request.model }),
  });
}

/** A whole `chat.completion` with sound calls: the same object where nothing is wrong. */
export async function checkReply(json: JsonObject, checks: CallChecks): Promise<JsonObject> {
  const request = callsIn(json).length === 0 ? undefined : readRequest(checks);
  if (request === undefined || areSound(callsIn(json), request)) return json;
  const { signal } = checks.call;
  const answer = fromArray(decodeReply(json, request, { failureIn: toldFailure }));
  const events = withSoundCalls(answer, checks, { request: { ...request, stream: false }, signal, said: false });
  const encoded = await openaiChat.encodeReply(asOnlyChoice(events), request, checks.body, headIn(json, checks));
  return isObject(encoded) ? { ...json, choices: encoded.choices, usage: encoded.usage } : json;
}

/** Id and time of the reply that a chunk, or a whole reply, belongs to. */
export function headIn(json: Json, { call }: CallChecks): ReplyHead {
  const { id, created } = isObject(json) ? json : {};
  const began = Date.now();
  return {
    id: typeof id === "string" ? id : `chatcmpl-${call.id}`,
    created: typeof created === "number" ? created : Math.floor(began / 1000),
    model: call.target?.requested ?? "",
    began,
    now: Date.now,
  };
}

/** The failure that an error event of our own tells of. */
export function toldFailure(json: Json): ApiError | undefined {
  if (!isObject(json) || !isObject(json.error)) return undefined;
  const { code, message } = json.error;
  return new ApiError(
    isErrorCode(code) ? code : "upstream_error",
    typeof message === "string" ? message : "upstream error",
  );
}

export async function* asOnlyChoice(events: AsyncIterable<ChatEvent>): AsyncGenerator<ChoiceEvent> {
  for await (const event of events) yield { choice: 0, event };
}

function areSound(calls: readonly JsonObject[], request: ChatRequest): boolean {
  if (offeredTools(request).length === 0) return true;
  if (calls.length > 1 && !request.parallelToolCalls) return false;
  return calls.every(({ id, type, function: made }) => {
    if (typeof id !== "string" || id === "" || type !== "function" || !isObject(made)) return false;
    const { name, arguments: text } = made;
    if (typeof name !== "string" || typeof text !== "string") return false;
    const repaired = repairCall({ name, arguments: text }, offeredTools(request), true);
    return repaired.problem === undefined && repaired.name === name && repaired.arguments === text;
  });
}

function callsIn(json: JsonObject): JsonObject[] {
  const choices = Array.isArray(json.choices) ? json.choices : [];
  return choices.flatMap((choice) => {
    const message = isObject(choice) && isObject(choice.message) ? choice.message : {};
    return Array.isArray(message.tool_calls) ? message.tool_calls.filter(isObject) : [];
  });
}

async function* fromArray(events: readonly ChatEvent[]): AsyncGenerator<ChatEvent> {
  yield* events;
}
