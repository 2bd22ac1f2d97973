import type { ApiError } from "../core/errors.ts";
import type { JsonObject } from "../core/json.ts";

/**
 * The event that tells of a failure in the middle of an event stream, in the words of the API that the path belongs to:
 * what a client gets before its connection is cut. Without the `[DONE]` that ends a chat: this one did not end.
 */
export function encodeBrokenStream(path: string, error: ApiError): string {
  if (path.startsWith("/v1/responses")) {
    const { code, message, param } = error;
    // How many events came before is known to whoever made them; clients do not count.
    return named({ type: "error", code, message, param, sequence_number: 0 });
  }
  // https://docs.anthropic.com/en/api/errors
  if (path.startsWith("/v1/messages"))
    return named({ type: "error", error: { type: "api_error", message: error.message } });
  return `data: ${JSON.stringify(error.toJson())}\n\n`;
}

function named(event: JsonObject): string {
  return `event: error\ndata: ${JSON.stringify(event)}\n\n`;
}
