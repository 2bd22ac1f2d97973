import type { ChatEvent, ChatRequest, FinishReason, TokenLogprob, Usage } from "../../core/chat.ts";
import { ApiError } from "../../core/errors.ts";
import { isObject, type Json, type JsonObject } from "../../core/json.ts";
import { parseSse, type SseEvent } from "../../wire/sse.ts";
import { endedEarly, reasonWith } from "../answer.ts";
import { estimateTokens } from "../estimate.ts";
import { textOf } from "./messages.ts";
import { ToolCallReader } from "./tool-call-reader.ts";

/** What a provider knows of its server's ways. */
export interface DecodeOptions {
  /** What a clean end without `finish_reason` means. Absent: an error, for the answer may be cut. MNN says nothing at its length limit. */
  readonly missingFinish?: FinishReason;
  /** Reads the failure that a frame or reply tells of. Absent: `upstream_error` with the message found in it. */
  readonly failureIn?: (json: Json) => ApiError | undefined;
}

/**
 * The SSE of any OpenAI-compatible server → events of its first choice. Usage that the server does not give is
 * estimated. Throws the failure that the stream tells of, and `upstream_error` for one that ends early or is no JSON.
 */
export async function* decodeStream(
  bytes: AsyncIterable<Uint8Array>,
  request: ChatRequest,
  options: DecodeOptions = {},
): AsyncGenerator<ChatEvent> {
  const reader = new ChunkReader(request, options);
  for await (const { data, stray } of untilBroken(parseSse(bytes), reader)) {
    if (data === "[DONE]") break;
    if (stray !== undefined) yield* reader.readStray(stray);
    else if (data !== "") yield* reader.read(parseFrame(data));
  }
  yield* reader.end();
}

/** A whole `chat.completion`, as some servers answer even to `stream: true` → the same events. Throws as `decodeStream` does. */
export function decodeReply(json: Json, request: ChatRequest, options: DecodeOptions = {}): ChatEvent[] {
  const reader = new ChunkReader(request, options);
  return [...reader.read(json), ...reader.end()];
}

const reasons = new Map<string, FinishReason>([
  ["stop", "stop"],
  ["eos", "stop"],
  ["eos_token", "stop"],
  ["stop_sequence", "stop"],
  ["end_turn", "stop"],
  // LMDeploy: its tool parser could not read the model's text, which was given as it stands.
  ["parse_error", "stop"],
  ["length", "length"],
  ["max_tokens", "length"],
  ["tool_calls", "tool-calls"],
  ["function_call", "tool-calls"],
  ["content_filter", "content-filter"],
]);

class ChunkReader {
  readonly #request: ChatRequest;
  readonly #options: DecodeOptions;
  readonly #calls = new ToolCallReader();
  #reason: FinishReason | undefined;
  #stopSequence: string | undefined;
  #usage: Usage | undefined;
  /** Length of all that was said, for the estimate of usage. */
  #said = 0;
  #sawChoice = false;

  constructor(request: ChatRequest, options: DecodeOptions) {
    this.#request = request;
    this.#options = options;
  }

  get finished(): boolean {
    return this.#reason !== undefined;
  }

  *read(json: Json): Generator<ChatEvent> {
    const failure = (this.#options.failureIn ?? failureIn)(json);
    if (failure !== undefined) throw failure;
    if (!isObject(json)) return;
    this.#usage = decodeUsage(json.usage) ?? this.#usage;
    const progress = decodeProgress(json.prompt_progress);
    if (progress !== undefined) yield progress;
    const choice = firstChoice(json);
    if (choice === undefined) return;
    this.#sawChoice = true;
    yield* this.#readChoice(choice);
  }

  /** A line outside of SSE: LMDeploy's proxy tells of its failures so. Anything else on such a line is skipped. */
  *readStray(line: string): Generator<ChatEvent> {
    let json: Json;
    try {
      json = JSON.parse(line) as Json;
    } catch {
      return;
    }
    yield* this.read(json);
  }

  *end(): Generator<ChatEvent> {
    this.#calls.end();
    const reason = this.#reason ?? (this.#sawChoice ? this.#options.missingFinish : undefined);
    if (reason === undefined) throw endedEarly();
    yield {
      type: "finish",
      reason: reasonWith(this.#calls.count > 0, reason),
      ...(this.#stopSequence === undefined ? {} : { stopSequence: this.#stopSequence }),
      usage: this.#usage ?? this.#estimate(),
    };
  }

  *#readChoice(choice: JsonObject): Generator<ChatEvent> {
    const delta = isObject(choice.delta) ? choice.delta : isObject(choice.message) ? choice.message : {};
    const reasoning = textIn(delta.reasoning_content) || textIn(delta.reasoning);
    if (reasoning !== "") yield { type: "reasoning", text: reasoning };
    const text = textIn(delta.content) || textIn(delta.refusal);
    if (text !== "") yield { type: "text", text };
    this.#said += reasoning.length + text.length;
    for (const event of this.#calls.read(delta)) {
      if (event.type === "tool-call") this.#said += event.arguments.length + (event.name?.length ?? 0);
      yield event;
    }
    const tokens = decodeLogprobs(choice.logprobs);
    if (tokens.length > 0) yield { type: "logprobs", tokens };
    this.#readReason(choice.finish_reason);
    // vLLM tells which string it was that stopped it, or the id of a token.
    const stop = choice.stop_reason;
    if (typeof stop === "string" && this.#request.stop.includes(stop)) this.#stopSequence = stop;
  }

  #readReason(value: Json | undefined): void {
    // MNN writes "" where others write null.
    if (typeof value !== "string" || value === "") return;
    if (value === "abort" || value === "error") {
      throw new ApiError("upstream_error", `the upstream broke off its answer (finish_reason "${value}")`);
    }
    this.#reason = reasons.get(value) ?? "stop";
  }

  #estimate(): Usage {
    const { messages, tools } = this.#request;
    const asked =
      messages.reduce((sum, message) => sum + textOf(message.content).length, 0) +
      (tools.length === 0 ? 0 : JSON.stringify(tools).length);
    return { promptTokens: estimateTokens(asked), completionTokens: this.#said === 0 ? 0 : estimateTokens(this.#said) };
  }
}

/** A connection that breaks between the finish and `[DONE]` takes nothing away: all was said. */
async function* untilBroken(events: AsyncIterable<SseEvent>, reader: ChunkReader): AsyncGenerator<SseEvent> {
  try {
    yield* events;
  } catch (error) {
    if (!reader.finished) throw error;
  }
}

function parseFrame(text: string): Json {
  try {
    return JSON.parse(text) as Json;
  } catch (cause) {
    throw new ApiError(
      "upstream_error",
      `the upstream sent a frame that is not valid JSON (${text.length} characters)`,
      { cause },
    );
  }
}

function firstChoice(json: JsonObject): JsonObject | undefined {
  if (!Array.isArray(json.choices)) return undefined;
  const choices = json.choices.filter(isObject);
  return choices.find((choice) => choice.index === undefined || choice.index === null || choice.index === 0);
}

/** Text as a string, or as parts (Mistral). */
function textIn(value: Json | undefined): string {
  if (typeof value === "string") return value;
  if (!Array.isArray(value)) return "";
  return value.map((part) => (isObject(part) && typeof part.text === "string" ? part.text : "")).join("");
}

function decodeUsage(value: Json | undefined): Usage | undefined {
  if (!isObject(value)) return undefined;
  const prompt = count(value.prompt_tokens);
  const completion = count(value.completion_tokens);
  if (prompt === undefined && completion === undefined) return undefined;
  const cached = isObject(value.prompt_tokens_details) ? count(value.prompt_tokens_details.cached_tokens) : undefined;
  const reasoning = isObject(value.completion_tokens_details)
    ? count(value.completion_tokens_details.reasoning_tokens)
    : undefined;
  return {
    promptTokens: prompt ?? 0,
    completionTokens: completion ?? 0,
    ...(cached === undefined ? {} : { cachedTokens: cached }),
    ...(reasoning === undefined ? {} : { reasoningTokens: reasoning }),
  };
}

/** llama-server's `prompt_progress`. */
function decodeProgress(value: Json | undefined): ChatEvent | undefined {
  if (!isObject(value)) return undefined;
  const done = count(value.processed);
  const total = count(value.total);
  return done === undefined || total === undefined ? undefined : { type: "progress", phase: "prefill", done, total };
}

function decodeLogprobs(value: Json | undefined): TokenLogprob[] {
  if (!isObject(value) || !Array.isArray(value.content)) return [];
  return value.content.filter(isObject).map((one) => ({
    ...decodeToken(one),
    top: Array.isArray(one.top_logprobs) ? one.top_logprobs.filter(isObject).map(decodeToken) : [],
  }));
}

function decodeToken(one: JsonObject): { token: string; logprob: number; bytes: number[] | null } {
  const bytes = Array.isArray(one.bytes) ? one.bytes.filter((byte) => typeof byte === "number") : null;
  return { token: textIn(one.token), logprob: typeof one.logprob === "number" ? one.logprob : -9999, bytes };
}

function count(value: Json | undefined): number | undefined {
  return typeof value === "number" && value >= 0 ? Math.trunc(value) : undefined;
}

/** Every shape in which servers tell of an error under status 200: nested, flat, a string, LMDeploy's proxy. */
export function failureIn(json: Json): ApiError | undefined {
  if (!isObject(json)) return undefined;
  const { error } = json;
  const told = error !== undefined && error !== null && error !== "";
  if (!told && json.object !== "error" && json.error_code === undefined) return undefined;
  const source = isObject(error) ? error : json;
  const said = [typeof error === "string" ? error : source.message, source.text, source.detail].find(
    (text) => typeof text === "string",
  );
  const message = typeof said === "string" && said !== "" ? `: ${said.slice(0, 600)}` : "";
  return new ApiError("upstream_error", `the upstream reported an error${message}`);
}
