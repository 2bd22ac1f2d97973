import { iterateBytes } from "../core/bytes.ts";
import { Call, type Handler, type Headers, type Reply, toCallId, tooLarge } from "../core/call.ts";
import { Departure } from "../core/departure.ts";
import { ApiError, toApiError } from "../core/errors.ts";
import { isObject, type Json, type JsonObject } from "../core/json.ts";
import type { Outcome } from "../core/outcome.ts";
import { parseSse } from "../wire/sse.ts";
import { encodeFailedReply, encodeProblem, encodeStreamError } from "./websocket-errors.ts";

/** What every call of one connection has in common: of the request that opened it. */
export interface TurnOrigin {
  readonly search: string;
  /** With its credentials: each call shows them anew. */
  readonly headers: Headers;
  readonly address: string | undefined;
}

export interface TurnParts {
  /** The whole way of a call from outside. */
  readonly handler: Handler;
  readonly onOutcome: (call: Call, outcome: Outcome) => void;
  /** Bytes of a request. */
  readonly bodyLimit: number;
  readonly origin: TurnOrigin;
  /** Sends a message; resolves when there is room for another. */
  readonly send: (message: string) => Promise<void>;
}

/** What one `response.create` asks for, as the handler is asked. */
export interface TurnRequest {
  readonly body: JsonObject;
  /** The id that the client goes on from, where the handler is not told of it. */
  readonly previous: string | undefined;
  /** Nothing is to be said: model and prompt are made ready. */
  readonly warmsUp: boolean;
}

/** The response that has been said; `undefined` where there is none that could be gone on from. */
export type TurnEnd = { readonly id: string; readonly output: Json[]; readonly bytes: number } | undefined;

/** One call on behalf of a connection, whose answer's events go out as messages. */
export class Turn {
  readonly #parts: TurnParts;
  readonly #request: TurnRequest;
  readonly #departure = new Departure();
  readonly #began = performance.now();
  #firstByte = 0;
  #bytes = 0;
  #problem: string | undefined;
  #isOver = false;
  #end: TurnEnd;

  constructor(parts: TurnParts, request: TurnRequest) {
    this.#parts = parts;
    this.#request = request;
  }

  /** The client is gone. */
  abort(): void {
    this.#departure.leave();
  }

  /** Never throws: a failure is told as a message. */
  async run(): Promise<TurnEnd> {
    const call = this.#toCall();
    let status = 499;
    try {
      const body = call.body as Buffer;
      if (body.length > this.#parts.bodyLimit) throw tooLarge(this.#parts.bodyLimit);
      const reply = await this.#parts.handler(call);
      status = reply.status;
      this.#firstByte = performance.now() - this.#began;
      await this.#pass(reply);
    } catch (error) {
      await this.#fail(toApiError(error));
    }
    this.#tell(call, status);
    return this.#departure.aborted ? undefined : this.#end;
  }

  #toCall(): Call {
    const { origin, bodyLimit } = this.#parts;
    const { search, headers, address } = origin;
    const init = { id: toCallId(undefined), method: "POST", path: "/v1/responses", search, headers, address };
    return new Call({ ...init, signal: this.#departure, bodyLimit }).with({ json: this.#request.body });
  }

  async #pass(reply: Reply): Promise<void> {
    const isEvents = reply.headers["content-type"]?.startsWith("text/event-stream") === true;
    if (reply.status !== 200 || !isEvents) return this.#refuse(reply);
    for await (const { event, data } of parseSse(iterateBytes(reply))) {
      if (this.#departure.aborted) return;
      if (data !== "" && data !== "[DONE]") await this.#take(data, event ?? typeOf(data));
    }
    // An answer without its end must not be waited for.
    if (!this.#isOver && !this.#departure.aborted)
      throw new ApiError("upstream_error", "stream ended early: the response has no end");
  }

  async #refuse(reply: Reply): Promise<void> {
    const pieces: Uint8Array[] = [];
    for await (const piece of iterateBytes(reply)) pieces.push(piece);
    if (reply.status === 200) throw new ApiError("upstream_error", "the answer is no stream of events");
    await this.#say(encodeFailedReply(reply.status, reply.headers, Buffer.concat(pieces)));
  }

  /** Pieces of an answer go on unread. */
  async #take(data: string, type: string | undefined): Promise<void> {
    if (type === "error") {
      this.#isOver = true;
      this.#problem = "the stream told of an error";
      await this.#say(encodeStreamError(parsed(data)));
    } else if (type !== undefined && states.has(type)) await this.#takeState(parsed(data), data);
    else if (!this.#request.warmsUp) await this.#say(data);
  }

  /** An event that holds the whole response as it stands. */
  async #takeState(event: JsonObject, data: string): Promise<void> {
    const { previous, warmsUp } = this.#request;
    const response: JsonObject = isObject(event.response) ? event.response : {};
    const ended = event.type === "response.completed" || event.type === "response.incomplete";
    this.#isOver ||= ended || event.type === "response.failed";
    const shown = { ...response };
    if (previous !== undefined) shown.previous_response_id = previous;
    if (warmsUp) Object.assign(shown, silent, ended ? { status: "completed" } : {});
    const type = warmsUp && ended ? "response.completed" : event.type;
    if (ended && typeof response.id === "string")
      this.#end = { id: response.id, output: warmsUp ? [] : toArray(response.output), bytes: data.length };
    if (previous === undefined && !warmsUp) await this.#say(data);
    else await this.#say(JSON.stringify({ ...event, type, response: shown }));
  }

  async #fail(error: ApiError): Promise<void> {
    if (this.#departure.aborted) return;
    this.#problem = error.message;
    this.#end = undefined;
    if (!this.#isOver) await this.#say(encodeProblem(error));
  }

  #say(message: string): Promise<void> {
    this.#bytes += Buffer.byteLength(message);
    return this.#parts.send(message);
  }

  #tell(call: Call, status: number): void {
    const left = this.#departure.aborted;
    const problem = this.#problem;
    this.#parts.onOutcome(call, {
      status,
      end: left ? "left" : problem === undefined ? "complete" : "failed",
      ...(problem === undefined ? {} : { problem }),
      firstByte: this.#firstByte,
      duration: performance.now() - this.#began,
      bytes: this.#bytes,
    });
  }
}

/** Of a response that says nothing. */
const silent: JsonObject = { output: [], incomplete_details: null };

/** Events that hold the response as it stands. */
const states: ReadonlySet<string> = new Set([
  "response.created",
  "response.queued",
  "response.in_progress",
  "response.completed",
  "response.incomplete",
  "response.failed",
]);

/** Of an event that its server does not name beside it; some write the type last. */
function typeOf(data: string): string | undefined {
  const [, first] = /^\{\s*"type"\s*:\s*"([a-z_.]+)"/.exec(data) ?? [];
  if (first !== undefined) return first;
  const { type } = parsed(data);
  return typeof type === "string" ? type : undefined;
}

function parsed(data: string): JsonObject {
  try {
    const event = JSON.parse(data) as Json;
    if (isObject(event)) return event;
  } catch {
    // Told below.
  }
  throw new ApiError("upstream_error", "the stream holds an event that is no JSON object");
}

function toArray(value: Json | undefined): Json[] {
  return Array.isArray(value) ? value : [];
}
