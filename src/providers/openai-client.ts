import { toIterable } from "../core/bytes.ts";
import type { ChatEvent, ChatRequest, CompletionRequest, Usage } from "../core/chat.ts";
import { ApiError } from "../core/errors.ts";
import { isObject, type JsonObject } from "../core/json.ts";
import {
  decodeCompletionReply,
  decodeCompletionStream,
  encodeCompletionRequest,
} from "../dialects/completion-client.ts";
import type { ClientDialect } from "../dialects/dialect.ts";
import { estimatePrompt, estimateTokens } from "../dialects/estimate.ts";
import { type DecodeOptions, decodeReply, decodeStream } from "../dialects/openai-chat/client.ts";
import { openaiChat } from "../dialects/openai-chat.ts";
import { stopAt } from "./stop-strings.ts";
import { enforceToolChoice, type ToolChoiceSupport } from "./tool-choice.ts";
import { errorInReply, upstreamError } from "./upstream-error.ts";
import type { Upstream, UpstreamReply } from "./upstream.ts";

/** How an OpenAI-compatible server differs from what the dialect assumes. */
export interface OpenAiQuirks {
  readonly toolChoice: ToolChoiceSupport;
  /** Most stop strings that it takes; with more of them all are enforced here. 0: it has no sound `stop` at all. */
  readonly maxStops: number;
  /** Changes to the body before it is sent; an `undefined` value removes a field. */
  readonly adapt?: (body: JsonObject) => JsonObject;
  /** After a refusal: the changes with which a second, last attempt may succeed. */
  readonly mend?: (error: ApiError, body: JsonObject) => JsonObject | undefined;
}

/** Chats and completions of an OpenAI-compatible server as events, for what bytes passed through cannot do. */
export class OpenAiClient {
  readonly #upstream: Upstream;
  readonly #quirks: OpenAiQuirks;
  readonly #dialect: ClientDialect = openaiChat;
  readonly #decode: DecodeOptions;

  constructor(upstream: Upstream, quirks: OpenAiQuirks) {
    this.#upstream = upstream;
    this.#quirks = quirks;
    this.#decode = { failureIn: (json) => errorInReply(upstream.name, json) };
  }

  chat(request: ChatRequest, signal: AbortSignal): AsyncIterable<ChatEvent> {
    return enforceToolChoice(this.#upstream.name, request, this.#quirks.toolChoice, (asked) =>
      this.#chat(asked, signal),
    );
  }

  complete(request: CompletionRequest, signal: AbortSignal): AsyncIterable<ChatEvent> {
    const { prompt } = request;
    const promptTokens = typeof prompt === "string" ? estimateTokens(prompt.length) : prompt.length;
    return this.#withStops(request.stop, promptTokens, (stop) =>
      this.#complete({ ...request, stop }, promptTokens, signal),
    );
  }

  async *#chat(request: ChatRequest, signal: AbortSignal): AsyncGenerator<ChatEvent> {
    const promptTokens = estimatePrompt(request);
    yield* this.#withStops(request.stop, promptTokens, (stop) =>
      this.#ask({ ...request, stop, n: 1, stream: true }, signal),
    );
  }

  #withStops(
    stops: string[],
    promptTokens: number,
    ask: (stops: string[]) => AsyncIterable<ChatEvent>,
  ): AsyncIterable<ChatEvent> {
    if (stops.length <= this.#quirks.maxStops) return ask(stops);
    const count = (said: string): Usage => ({ promptTokens, completionTokens: estimateTokens(said.length) });
    return stopAt(ask([]), stops, count);
  }

  async *#ask(request: ChatRequest, signal: AbortSignal): AsyncGenerator<ChatEvent> {
    const reply = await this.#post("/v1/chat/completions", this.#dialect.encodeRequest(request), signal);
    // Some answer `stream: true` with one JSON; LMDeploy's proxy tells of failures so, under status 200.
    if (isJson(reply)) yield* decodeReply(await reply.json(), request, this.#decode);
    else yield* decodeStream(toIterable(reply.body), request, this.#decode);
  }

  async *#complete(request: CompletionRequest, promptTokens: number, signal: AbortSignal): AsyncGenerator<ChatEvent> {
    const reply = await this.#post("/v1/completions", encodeCompletionRequest(request), signal);
    const decoding = { promptTokens, failureIn: this.#decode.failureIn };
    if (isJson(reply)) yield* decodeCompletionReply(await reply.json(), decoding);
    else yield* decodeCompletionStream(toIterable(reply.body), decoding);
  }

  async #post(path: string, body: JsonObject, signal: AbortSignal): Promise<UpstreamReply> {
    const sent = this.#quirks.adapt?.(body) ?? body;
    try {
      return await this.#send(path, sent, signal);
    } catch (error) {
      const mended = error instanceof ApiError ? this.#quirks.mend?.(error, sent) : undefined;
      if (mended === undefined) throw error;
      return this.#send(path, { ...sent, ...mended }, signal);
    }
  }

  async #send(path: string, body: JsonObject, signal: AbortSignal): Promise<UpstreamReply> {
    const reply = await this.#upstream.send({ method: "POST", path, body: JSON.stringify(body), signal });
    if (reply.status !== 200)
      throw upstreamError(this.#upstream.name, reply.status, await reply.bytes(), reply.headers);
    return reply;
  }
}

/** The largest answer that still fits, after a server (vLLM) has refused prompt and `max_tokens` together. */
export function clampMaxTokens(error: ApiError, body: JsonObject): JsonObject | undefined {
  const key = ["max_completion_tokens", "max_tokens"].find((name) => typeof body[name] === "number");
  if (error.code !== "context_length_exceeded" || key === undefined || !isObject(error.cause)) return undefined;
  const { contextLength, promptTokens } = error.cause;
  if (typeof contextLength !== "number" || typeof promptTokens !== "number") return undefined;
  const room = contextLength - promptTokens - 1;
  return room > 0 && room < Number(body[key]) ? { [key]: room } : undefined;
}

function isJson(reply: UpstreamReply): boolean {
  return reply.headers["content-type"]?.includes("application/json") === true;
}
