import { eventStreamHeaders } from "../wire/headers.ts";
import type { ClientDialect, ServerDialect } from "./dialect.ts";
import { decodeStream } from "./openai-chat/client.ts";
import { encodeReply } from "./openai-chat/reply.ts";
import { decodeRequest, encodeRequest } from "./openai-chat/request.ts";
import { encodeStream } from "./openai-chat/stream.ts";

/** `/v1/chat/completions`, both halves. */
export const openaiChat: ServerDialect & ClientDialect = {
  idPrefix: "chatcmpl-",
  streamHeaders: eventStreamHeaders,
  decodeRequest,
  encodeStream,
  encodeReply,
  encodeRequest,
  decodeStream,
};
