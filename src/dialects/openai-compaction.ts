import { ApiError } from "../core/errors.ts";
import { eventStreamHeaders } from "../wire/headers.ts";
import type { ServerDialect } from "./dialect.ts";

function notYet(): never {
  throw new ApiError("unsupported_capability", "this dialect is not served yet");
}

/** To be filled in. */
export const openaiCompaction: ServerDialect = {
  idPrefix: "resp_",
  streamHeaders: eventStreamHeaders,
  decodeRequest: notYet,
  encodeStream: notYet,
  encodeReply: notYet,
};
