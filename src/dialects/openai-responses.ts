import type { ServerDialect } from "./dialect.ts";
import { decodeRequest } from "./openai-responses/request.ts";
import { encodeReply, encodeStream } from "./openai-responses/stream.ts";

/** `/v1/responses`, stateless: nothing is kept between calls. */
export const openaiResponses: ServerDialect = { decodeRequest, encodeStream, encodeReply };
