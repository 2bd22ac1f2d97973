import type { Headers } from "../core/call.ts";
import type { ChatEvent, ChatRequest } from "../core/chat.ts";
import type { Json, JsonObject } from "../core/json.ts";

/** What an encoder may know of the reply besides the events. */
export interface ReplyHead {
  /** Unique and stable over all chunks of one reply, e.g. `chatcmpl-…`. */
  readonly id: string;
  /** Unix seconds. */
  readonly created: number;
  /** The model's name as the client wrote it. */
  readonly model: string;
  /** Milliseconds since 1970 at which the call was taken up. */
  readonly began: number;
  /** The time now, on the same clock: for formats that write times into their frames. */
  readonly now: () => number;
}

/** One event of a chat with several answers (`n`). */
export interface ChoiceEvent {
  /** Which answer, from 0. */
  readonly choice: number;
  readonly event: ChatEvent;
}

/** The frames of one reply's stream, each ready for the socket: one or more whole events. */
export interface Frames extends AsyncIterable<string> {
  /** What keeps a waiting client's timers alive, to be written between two frames; it may be numbered like they are. */
  heartbeat(): string;
}

/** The server's half of a wire format of chat: pure codecs, no I/O, no clock. */
export interface ServerDialect {
  /** What the ids of its replies begin with, e.g. `chatcmpl-`. */
  readonly idPrefix: string;
  /** The head of its streams. */
  readonly streamHeaders: Headers;
  /** Throws `ApiError` naming the field (`param`). Unknown fields go to `extra`. `model` is the id at the provider. */
  decodeRequest(body: JsonObject, model: string, headers: Headers): ChatRequest;
  /**
   * Ends after every choice's `finish`. A failure of `events` becomes the dialect's error frame, the last one, and is
   * then thrown on.
   */
  encodeStream(events: AsyncIterable<ChoiceEvent>, request: ChatRequest, body: JsonObject, head: ReplyHead): Frames;
  encodeReply(
    events: AsyncIterable<ChoiceEvent>,
    request: ChatRequest,
    body: JsonObject,
    head: ReplyHead,
  ): Promise<Json>;
}

/** The client's half: how to ask another server in this format, and read what it answers. */
export interface ClientDialect {
  encodeRequest(request: ChatRequest): JsonObject;
  /** Bytes of the reply's stream → events. Throws `ApiError` for an error in the stream or an end without a finish. */
  decodeStream(bytes: AsyncIterable<Uint8Array>, request: ChatRequest): AsyncIterable<ChatEvent>;
}
