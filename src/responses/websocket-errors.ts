import type { Headers } from "../core/call.ts";
import { ApiError, isErrorCode } from "../core/errors.ts";
import { isObject, type Json, type JsonObject } from "../core/json.ts";

// The form of Open Responses 2026-04-24, `WebSocketErrorEvent`: {type: "error", status, error: {code, message, …}}.

/** A failure of ours as a message. */
export function encodeProblem(error: ApiError): string {
  const { message, type, code, param, status, retryAfter } = error;
  return encode(
    status,
    { type, code, message, param },
    retryAfter === undefined ? {} : { "retry-after": String(retryAfter) },
  );
}

/** A message that tells why a connection ends now, with a code that HTTP has not. */
export function encodeConnectionLimit(message: string): string {
  const code = "websocket_connection_limit_reached";
  return encode(400, { type: "invalid_request_error", code, message, param: null }, {});
}

/** A refusal that came in place of a stream. */
export function encodeFailedReply(status: number, headers: Headers, body: Buffer): string {
  const json = parsed(body.toString("utf8"));
  const said = isObject(json) && isObject(json.error) ? json.error : {};
  const { type = "server_error", code, message, param = null } = said;
  const error = {
    ...said,
    type,
    code: typeof code === "string" ? code : "upstream_error",
    message: typeof message === "string" ? message : `the request was answered with status ${status}`,
    param,
  };
  const retryAfter = headers["retry-after"];
  return encode(status, error, retryAfter === undefined ? {} : { "retry-after": retryAfter });
}

/** An error event of a stream: its fields stay, for clients that know it from there. */
export function encodeStreamError(event: JsonObject): string {
  if (isObject(event.error)) return JSON.stringify({ status: 500, ...event });
  const { code, message, param = null } = event;
  const known = isErrorCode(code) ? new ApiError(code, "") : undefined;
  const error = { type: known?.type ?? "server_error", code: code ?? "upstream_error", message: message ?? "", param };
  return JSON.stringify({ ...event, status: known?.status ?? 500, error });
}

/** `headers` as an HTTP reply would have them: Codex waits as long as they say. */
function encode(status: number, error: JsonObject, headers: Headers): string {
  const event: JsonObject = { type: "error", status, error };
  return JSON.stringify(Object.keys(headers).length === 0 ? event : { ...event, headers });
}

function parsed(text: string): Json | undefined {
  try {
    return JSON.parse(text) as Json;
  } catch {
    return undefined;
  }
}
