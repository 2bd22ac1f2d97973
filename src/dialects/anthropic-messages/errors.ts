import type { ApiError } from "../../core/errors.ts";
import type { JsonObject } from "../../core/json.ts";
import { overflowFigures } from "../overflow.ts";

/**
 * Anthropic's envelope of a failure. Our code goes where its SDK looks for one (`errorCode`), and the provider that failed
 * stands beside it as in OpenAI's form. `requestId` is absent within streams.
 */
export function encodeError(error: ApiError, requestId?: string): JsonObject {
  const { code, provider } = error;
  return {
    type: "error",
    error: { type: typeOf(error), message: messageOf(error), details: { error_code: code } },
    ...(provider === undefined ? {} : { provider }),
    ...(requestId === undefined ? {} : { request_id: requestId }),
  };
}

/** The status of a failure in Anthropic's API: what passes by itself, where others say 503, is 529 there. */
export function statusOf({ status }: ApiError): number {
  return status === 503 ? 529 : status;
}

/**
 * Whether asking again may help. Anthropic's SDK and Claude Code obey `x-should-retry: false`, without which Claude Code
 * repeats a 401 and a 502 for ever (2.1.330, measured), and waits for a quota however long that takes.
 */
export function mayPass({ status, code }: ApiError): boolean {
  if (code === "upstream_auth_failed" || code === "insufficient_quota") return false;
  return status >= 500 || status === 408 || status === 429;
}

/** https://docs.anthropic.com/en/api/errors */
const types: Readonly<Record<number, string>> = {
  401: "authentication_error",
  403: "permission_error",
  404: "not_found_error",
  413: "request_too_large",
  429: "rate_limit_error",
  503: "overloaded_error",
  504: "timeout_error",
};

function typeOf({ status }: ApiError): string {
  return types[status] ?? (status >= 500 ? "api_error" : "invalid_request_error");
}

/** Claude Code compacts a conversation by these very words. */
function messageOf(error: ApiError): string {
  // A server of ours further away may have said it already.
  if (error.code !== "context_length_exceeded" || error.message.startsWith("prompt is too long")) return error.message;
  const { prompt, limit } = overflowFigures(error);
  if (prompt === undefined || limit === undefined) return `prompt is too long: ${error.message}`;
  // A prompt that fills the window leaves no room for an answer.
  return `prompt is too long: ${prompt} tokens > ${Math.min(limit, prompt - 1)} maximum`;
}
