import { type Call, errorReply, jsonReply, type Reply } from "../core/call.ts";
import type { ApiError } from "../core/errors.ts";
import { failureHeader } from "../wire/told-failure.ts";
import { encodeError, mayPass, statusOf } from "./anthropic-messages/errors.ts";

/** A failed call, as far as its answer depends on it. */
export type FailedCall = Pick<Call, "id" | "path" | "headers">;

/** A failure as a reply, in the words of the API that was asked. */
export function encodeFailure(call: FailedCall, error: ApiError): Reply {
  // Another way to write OpenAI's paths.
  if (call.path.startsWith("/api/v1/"))
    return encodeFailure({ id: call.id, headers: call.headers, path: call.path.slice("/api".length) }, error);
  if (speaksAnthropic(call)) return anthropicFailure(call, error);
  if (!call.path.startsWith("/api/")) return errorReply(error);
  // https://github.com/ollama/ollama/blob/main/docs/api.md
  return { ...errorReply(error, { [failureHeader]: error.code }), body: JSON.stringify({ error: error.message }) };
}

/** Whether Anthropic's API is asked: by its path, or, where both have the same, by the header that its clients send. */
export function speaksAnthropic({ path, headers }: Pick<Call, "path" | "headers">): boolean {
  if (path.startsWith("/v1/messages")) return true;
  return path.startsWith("/v1/models") && headers["anthropic-version"] !== undefined;
}

function anthropicFailure({ id }: FailedCall, error: ApiError): Reply {
  const retry = mayPass(error) ? {} : { "x-should-retry": "false" };
  const headers = { ...errorReply(error).headers, ...retry, "request-id": id, [failureHeader]: error.code };
  return jsonReply(statusOf(error), encodeError(error, id), headers);
}
