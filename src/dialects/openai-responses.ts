import { eventStreamHeaders } from "../wire/headers.ts";
import type { ServerDialect } from "./dialect.ts";
import { decodeRequest } from "./openai-responses/request.ts";
import { encodeReply, encodeStream } from "./openai-responses/stream.ts";

/** `/v1/responses`, stateless: nothing is kept between calls. */
export const openaiResponses: ServerDialect = {
  idPrefix: "resp_",
  streamHeaders: eventStreamHeaders,
  decodeRequest,
  encodeStream,
  encodeReply,
};
