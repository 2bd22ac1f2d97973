import type { ChatEvent, CompletionRequest, FinishReason, TokenLogprob, Usage } from "../core/chat.ts";
import { ApiError } from "../core/errors.ts";
import { isObject, type Json, type JsonObject } from "../core/json.ts";
import { parseSse } from "../wire/sse.ts";
import { endedEarly } from "./answer.ts";
import { estimateTokens } from "./estimate.ts";
import { type DecodeOptions, failureIn } from "./openai-chat/client.ts";
import { encodeSampling } from "./openai-chat/request.ts";
import { encodeResponseFormat } from "./openai-chat/response-format.ts";

/** What whoever asks knows of the server and the request. */
export interface CompletionDecoding {
  /** An estimate, for servers that do not tell. */
  readonly promptTokens: number;
  /** As of a chat. */
  readonly failureIn?: DecodeOptions["failureIn"];
}

/** A text completion as `POST /v1/completions` takes it, streamed. */
export function encodeCompletionRequest(request: CompletionRequest): JsonObject {
  const { model, prompt, suffix, topLogprobs, keepAlive, responseFormat = { type: "text" } } = request;
  return {
    ...request.extra,
    model,
    prompt,
    ...(suffix === undefined ? {} : { suffix }),
    ...encodeSampling(request),
    ...encodeResponseFormat(responseFormat),
    ...(topLogprobs === undefined ? {} : { logprobs: topLogprobs }),
    ...(keepAlive === undefined ? {} : { keep_alive: keepAlive }),
    stream: true,
    stream_options: { include_usage: true },
  };
}

/** The SSE of `/v1/completions` of an OpenAI-compatible server → events. Throws what it tells of, and for an early end. */
export async function* decodeCompletionStream(
  bytes: AsyncIterable<Uint8Array>,
  decoding: CompletionDecoding,
): AsyncGenerator<ChatEvent> {
  const reader = new Reader(decoding);
  for await (const { data, stray } of parseSse(bytes)) {
    if (data === "[DONE]") break;
    yield* reader.read(parsed(stray ?? data));
  }
  yield reader.end();
}

/** A whole `text_completion`, as some servers answer even to `stream: true` → the same events. Throws as `decodeCompletionStream`. */
export function decodeCompletionReply(json: Json, decoding: CompletionDecoding): ChatEvent[] {
  const reader = new Reader(decoding);
  return [...reader.read(json), reader.end()];
}

class Reader {
  readonly #decoding: CompletionDecoding;
  #reason: FinishReason | undefined;
  #usage: Usage | undefined;
  #said = 0;

  constructor(decoding: CompletionDecoding) {
    this.#decoding = decoding;
  }

  *read(json: Json | undefined): Generator<ChatEvent> {
    if (!isObject(json)) return;
    const failure = (this.#decoding.failureIn ?? failureIn)(json);
    if (failure !== undefined) throw failure;
    if (isObject(json.usage)) this.#usage = toUsage(json.usage.prompt_tokens, json.usage.completion_tokens);
    const choice = Array.isArray(json.choices) ? json.choices[0] : undefined;
    if (!isObject(choice)) return;
    if (typeof choice.text === "string" && choice.text !== "") {
      this.#said += choice.text.length;
      yield { type: "text", text: choice.text };
    }
    const tokens = toLogprobs(choice.logprobs);
    if (tokens.length > 0) yield { type: "logprobs", tokens };
    this.#readReason(choice.finish_reason);
  }

  end(): ChatEvent {
    if (this.#reason === undefined) throw endedEarly();
    const { promptTokens } = this.#decoding;
    const estimate = { promptTokens, completionTokens: this.#said === 0 ? 0 : estimateTokens(this.#said) };
    return { type: "finish", reason: this.#reason, usage: this.#usage ?? estimate };
  }

  #readReason(told: Json | undefined): void {
    if (told === "abort" || told === "error")
      throw new ApiError("upstream_error", `the upstream broke off its answer (finish_reason "${told}")`);
    if (typeof told === "string" && told !== "") this.#reason = told === "length" ? "length" : "stop";
  }
}

function toUsage(prompt: Json | undefined, completion: Json | undefined): Usage {
  return { promptTokens: Number(prompt ?? 0), completionTokens: Number(completion ?? 0) };
}

/** The old form of log probabilities: one array for each property, the alternatives by their text. */
function toLogprobs(value: Json | undefined): TokenLogprob[] {
  if (!isObject(value) || !Array.isArray(value.tokens)) return [];
  const { tokens, token_logprobs: own, top_logprobs: tops } = value;
  return tokens.map((token, index) => {
    const top = Array.isArray(tops) ? tops[index] : undefined;
    return {
      ...toToken(token, Array.isArray(own) ? own[index] : undefined),
      top: isObject(top) ? Object.entries(top).map(([text, logprob]) => toToken(text, logprob)) : [],
    };
  });
}

function toToken(token: Json, logprob: Json | undefined): { token: string; logprob: number; bytes: number[] } {
  const text = String(token);
  return { token: text, logprob: typeof logprob === "number" ? logprob : 0, bytes: [...Buffer.from(text)] };
}

function parsed(text: string): Json | undefined {
  try {
    return JSON.parse(text) as Json;
  } catch {
    return undefined;
  }
}
