import { iterateBytes } from "../core/bytes.ts";
import type { Call, Reply } from "../core/call.ts";
import type { ChatEvent, ChatRequest } from "../core/chat.ts";
import { ApiError, type ErrorCode } from "../core/errors.ts";
import { isObject, type Json } from "../core/json.ts";
import type { Provider } from "../core/provider.ts";
import { decodeReply, decodeStream } from "./openai-chat/client.ts";
import { openaiChat } from "./openai-chat.ts";

/** Asks a provider as a client of `/v1/chat/completions` does, and reads its answer. Throws `ApiError`. */
export async function* askChat(
  provider: Provider,
  request: ChatRequest,
  call: Call,
  signal: AbortSignal,
): AsyncGenerator<ChatEvent> {
  const json = openaiChat.encodeRequest(request);
  const reply = await provider.handle(call.with({ path: "/v1/chat/completions", json, signal }));
  if (reply.status !== 200) throw await failureOf(provider, reply);
  if (reply.headers["content-type"]?.startsWith("text/event-stream") === true) {
    yield* decodeStream(iterateBytes(reply), request);
  } else {
    // Some servers answer JSON even to a request for a stream.
    yield* decodeReply(await jsonOf(provider, reply), request);
  }
}

/** The whole body as JSON. Throws `upstream_error`. */
export async function jsonOf(provider: Provider, reply: Reply): Promise<Json> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of iterateBytes(reply)) chunks.push(chunk);
  try {
    return JSON.parse(Buffer.concat(chunks).toString("utf8")) as Json;
  } catch (cause) {
    throw new ApiError("upstream_error", `${provider.name} answered what is not valid JSON`, {
      provider: provider.name,
      cause,
    });
  }
}

const codes: Readonly<Record<number, ErrorCode>> = {
  400: "invalid_request",
  404: "model_not_found",
  413: "request_too_large",
  422: "invalid_request",
  429: "rate_limit_exceeded",
  503: "service_unavailable",
  504: "upstream_timeout",
};

/** Most providers throw their failures; a reply handed on whole (from a tunnel) tells of one by its status. */
export async function failureOf(provider: Provider, reply: Reply): Promise<ApiError> {
  const json = await jsonOf(provider, reply).catch(() => null);
  const error = isObject(json) && isObject(json.error) ? json.error : {};
  const code = error.code === "context_length_exceeded" ? error.code : (codes[reply.status] ?? "upstream_error");
  const message =
    typeof error.message === "string" ? error.message : `${provider.name} answered with status ${reply.status}`;
  const retryAfter = Number(reply.headers["retry-after"]);
  return new ApiError(code, message, {
    provider: provider.name,
    ...(typeof error.param === "string" ? { param: error.param } : {}),
    ...(Number.isInteger(retryAfter) && retryAfter > 0 ? { retryAfter } : {}),
  });
}
