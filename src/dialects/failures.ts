import { errorReply, type Reply } from "../core/call.ts";
import type { ApiError } from "../core/errors.ts";

/** A failure as a reply, in the words of the API that the path belongs to. */
export function encodeFailure(_path: string, error: ApiError): Reply {
  return errorReply(error);
}
