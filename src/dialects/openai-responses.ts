import type { ServerDialect } from "./dialect.ts";
import { decodeRequest } from "./openai-responses/request.ts";
import { encodeReply, encodeStream } from "./openai-responses/stream.ts";

/** `/v1/responses`, stateless: nothing is kept between calls. */
export const openaiResponses: ServerDialect = {
  decodeRequest,
  encodeStream,
  encodeReply,
  encodeStreamError: ({ code, message, param }) =>
    `event: error\ndata: ${JSON.stringify({ type: "error", code, message, param, sequence_number: 0 })}\n\n`,
  // Codex counts events, not bytes: a comment would not keep it waiting, an event that it does not know does.
  heartbeat: 'event: ping\ndata: {"type":"ping"}\n\n',
};
