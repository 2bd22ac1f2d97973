import { eventStreamHeaders } from "../wire/headers.ts";
import { encodeReply } from "./anthropic-messages/reply.ts";
import { decodeRequest } from "./anthropic-messages/request.ts";
import { encodeStream } from "./anthropic-messages/stream.ts";
import type { ServerDialect } from "./dialect.ts";

/** `/v1/messages`, Anthropic's. */
export const anthropicMessages: ServerDialect = {
  idPrefix: "msg_",
  streamHeaders: eventStreamHeaders,
  decodeRequest,
  encodeStream,
  encodeReply,
};
