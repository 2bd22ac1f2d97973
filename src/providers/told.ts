import { ApiError } from "../core/errors.ts";
import { encodeBrokenStream } from "../dialects/error-events.ts";
import type { ToldFailure } from "../wire/answer-stream.ts";

/** How a caller hears of a stream that broke off; undefined where it was the caller who left. */
export function toToldFailure(failure: Error, path: string): ToldFailure | undefined {
  if (!(failure instanceof ApiError) || failure.code === "client_closed_request") return undefined;
  return { error: failure, events: encodeBrokenStream(path, failure) };
}
