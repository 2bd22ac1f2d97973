import type { ApiError } from "../core/errors.ts";
import type { JsonObject } from "../core/json.ts";
import { encodeErrorEvents } from "../wire/chat-stream.ts";
import { encodeError } from "./anthropic-messages/errors.ts";

/**
 * The event that tells of a failure in the middle of a stream, in the words of the API that the path belongs to: what a
 * client gets before its connection is cut. Without the `[DONE]` that ends a chat: this one did not end.
 */
export function encodeBrokenStream(path: string, error: ApiError): string {
  if (path.startsWith("/v1/responses")) {
    const { code, message, param } = error;
    // How many events came before is known to whoever made them; clients do not count.
    return named({ type: "error", code, message, param, sequence_number: 0 });
  }
  if (path.startsWith("/v1/messages")) return encodeErrorEvent(error);
  if (path.startsWith("/api/")) return `${JSON.stringify({ error: error.message })}\n`;
  return `data: ${JSON.stringify(error.toJson())}\n\n`;
}

/** What answers with server-sent events when it streams, in which comments may stand. */
const eventStreams = new Set(["/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages"]);

/** Whether the streams of this path are event streams. */
export function hasEvents(path: string): boolean {
  return eventStreams.has(path);
}

/** The events of a failure before the first event of an answer, in a stream that then ends as if it had failed later. */
export function encodeFailedStream(path: string, error: ApiError): string {
  const isChat = path.startsWith("/v1/chat") || path === "/v1/completions";
  return isChat ? encodeErrorEvents(error) : encodeBrokenStream(path, error);
}

/** Anthropic's event of a failure. */
export function encodeErrorEvent(error: ApiError): string {
  return named(encodeError(error));
}

/** Anthropic's event that says nothing: what resets the timers of its clients. */
export const pingEvent = 'event: ping\ndata: {"type": "ping"}\n\n';

/**
 * A sign of life of an event stream whose answer has not begun: words for people in a comment, which every client skips,
 * and the event that the API has for it.
 */
export function encodeWaiting(path: string, words: string): string {
  return path.startsWith("/v1/messages") ? `: ${words}\n\n${pingEvent}` : `: ${words}\n\n`;
}

function named(event: JsonObject): string {
  return `event: error\ndata: ${JSON.stringify(event)}\n\n`;
}
