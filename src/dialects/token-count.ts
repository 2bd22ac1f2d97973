import { type Call, type Handler, jsonReply } from "../core/call.ts";
import type { JsonObject } from "../core/json.ts";
import type { Endpoint } from "../core/provider.ts";
import { anthropicMessages } from "./anthropic-messages.ts";
import type { ServerDialect } from "./dialect.ts";
import { bodyOf, targetOf } from "./lift.ts";
import { openaiResponses } from "./openai-responses.ts";
import type { Source } from "./source.ts";

/** How many tokens a prompt has, in the words of each API: `/v1/messages/count_tokens`, `/v1/responses/input_tokens`. */
export function countRoutes(source: Source): Map<Endpoint, Handler> {
  const answer =
    (dialect: ServerDialect, encode: (tokens: number) => JsonObject): Handler =>
    async (call) =>
      jsonReply(200, encode(await count(source, dialect, call)));
  return new Map<Endpoint, Handler>([
    ["/v1/messages/count_tokens", answer(anthropicMessages, (tokens) => ({ input_tokens: tokens }))],
    [
      "/v1/responses/input_tokens",
      answer(openaiResponses, (tokens) => ({ object: "response.input_tokens", input_tokens: tokens })),
    ],
  ]);
}

async function count(source: Source, dialect: ServerDialect, call: Call): Promise<number> {
  const request = dialect.decodeRequest(await bodyOf(call), targetOf(call).model, call.headers);
  return source.countTokens(request, call);
}
