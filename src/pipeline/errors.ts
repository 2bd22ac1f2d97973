import type { Call, Handler, Middleware, Reply } from "../core/call.ts";
import { type ApiError, toApiError } from "../core/errors.ts";
import type { Log } from "../core/log.ts";
import { logText } from "../core/log-text.ts";
import { encodeFailure } from "../dialects/failures.ts";

/** The one place where a failure becomes a reply. What is no `ApiError` is a bug of ours: only the log gets its cause. */
export function errors(log: Log): Middleware {
  return async (call, next: Handler) => {
    try {
      return await next(call);
    } catch (thrown) {
      const error = toApiError(thrown);
      const fields = {
        id: call.id,
        method: call.method,
        path: logText(call.path),
        code: error.code,
        cause: describeCause(error),
      };
      if (error.status === 500)
        log.error(
          { ...fields, stack: error.cause instanceof Error ? error.cause.stack : undefined },
          "a bug: unexpected failure",
        );
      else if (error.status > 500) log.warn(fields, logText(error.message));
      else log.debug(fields, logText(error.message));
      return toReply(call, error);
    }
  };
}

function toReply(call: Call, error: ApiError): Reply {
  const reply = encodeFailure(call, error);
  if (error.status === 401) reply.headers["www-authenticate"] = "Bearer";
  // The rest of a body that we will not read would be taken for the next request.
  if (error.status === 413) reply.headers.connection = "close";
  return reply;
}

function describeCause(error: ApiError): string | undefined {
  const names: string[] = [];
  for (let cause: unknown = error.cause; cause instanceof Error && names.length < 4; cause = cause.cause)
    names.push(cause.message);
  return names.length === 0 ? undefined : names.join(" ← ");
}
