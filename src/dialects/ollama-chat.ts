import { linesHeaders } from "../wire/headers.ts";
import type { ServerDialect } from "./dialect.ts";
import { encodeLines, encodeWhole } from "./ollama/answer-lines.ts";
import { decodeChat, decodeGenerate } from "./ollama/request.ts";

/** `/api/chat`. Source of the format: https://github.com/ollama/ollama/blob/main/docs/api.md and api/types.go there. */
export const ollamaChat: ServerDialect = {
  idPrefix: "chat-",
  streamHeaders: linesHeaders,
  decodeRequest: decodeChat,
  encodeStream: (events, _request, _body, head) => encodeLines(events, head, "chat"),
  encodeReply: (events, _request, _body, head) => encodeWhole(events, head, "chat"),
};

/** `/api/generate` where the prompt goes through the model's template. */
export const ollamaGenerate: ServerDialect = {
  idPrefix: "generate-",
  streamHeaders: linesHeaders,
  decodeRequest: decodeGenerate,
  encodeStream: (events, _request, _body, head) => encodeLines(events, head, "generate"),
  encodeReply: (events, _request, _body, head) => encodeWhole(events, head, "generate"),
};
