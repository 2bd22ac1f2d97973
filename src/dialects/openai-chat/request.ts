import type { Headers } from "../../core/call.ts";
import type { ChatRequest, SamplingRequest } from "../../core/chat.ts";
import type { Json, JsonObject } from "../../core/json.ts";
import { decodeExtendedSampling, encodeExtendedSampling, extendedSamplingFields } from "../extended-sampling.ts";
import {
  defined,
  invalidValue,
  quoted,
  readArray,
  readBoolean,
  readInteger,
  readNumber,
  readObject,
  readString,
  without,
  wrongType,
} from "../fields.ts";
import { decodeKeepAlive } from "../keep-alive.ts";
import { decodePriority } from "../priority.ts";
import { decodeMessages, encodeMessages } from "./messages.ts";
import { decodeResponseFormat, encodeResponseFormat, responseFormatFields } from "./response-format.ts";
import { decodeTools, encodeToolChoice, encodeTools } from "./tools.ts";

/** The body of `POST /v1/chat/completions`. `model` is the id at the provider. Throws `ApiError` naming the field. */
export function decodeRequest(body: JsonObject, model: string, headers: Headers): ChatRequest {
  readBoolean(readObject(body, "stream_options") ?? {}, "include_usage", "stream_options");
  return {
    model,
    messages: decodeMessages(body),
    ...decodeTools(body),
    parallelToolCalls: readBoolean(body, "parallel_tool_calls") ?? true,
    responseFormat: decodeResponseFormat(body),
    stream: readBoolean(body, "stream") ?? false,
    n: readInteger(body, "n", { min: 1, max: 16 }) ?? 1,
    ...decodeSampling(body),
    ...defined({
      topLogprobs: decodeLogprobs(body),
      reasoningEffort: readString(body, "reasoning_effort"),
      templateVariables: readObject(body, "chat_template_kwargs"),
      session: decodeSession(body, headers),
      keepAlive: decodeKeepAlive(body),
      priority: decodePriority(body),
    }),
    extra: without(body, knownFields),
  };
}

/** The fields on how tokens are chosen and when they end, which chats and text completions share. */
export function decodeSampling(body: JsonObject): SamplingRequest {
  return {
    stop: decodeStop(body),
    ...defined({
      maxTokens:
        decodeMaxTokens(body, "max_completion_tokens") ??
        decodeMaxTokens(body, "max_tokens") ??
        // llama-server's own name.
        decodeMaxTokens(body, "n_predict"),
      temperature: readNumber(body, "temperature", { min: 0, max: 2 }),
      topP: readNumber(body, "top_p", { min: 0, max: 1 }),
      // 0 (llama.cpp) and −1 (vLLM) both mean: all tokens.
      topK: readInteger(body, "top_k", { min: -1 }),
      minP: readNumber(body, "min_p", { min: 0, max: 1 }),
      seed: readInteger(body, "seed"),
      presencePenalty: readNumber(body, "presence_penalty", { min: -2, max: 2 }),
      frequencyPenalty: readNumber(body, "frequency_penalty", { min: -2, max: 2 }),
      // llama.cpp's name, and that of vLLM and LMDeploy.
      repeatPenalty:
        readNumber(body, "repeat_penalty", { min: 0 }) ?? readNumber(body, "repetition_penalty", { min: 0 }),
      logitBias: decodeLogitBias(body),
    }),
    ...decodeExtendedSampling(body),
  };
}

/** A key by which requests of one conversation are known: opencode's headers, or the field of OpenAI. */
export function decodeSession(body: JsonObject, headers: Headers): string | undefined {
  const key = headers["x-session-id"] ?? headers["x-session-affinity"] ?? readString(body, "prompt_cache_key");
  return key === undefined || key === "" ? undefined : key.slice(0, 256);
}

/** The request as another OpenAI-compatible server takes it. `developer` messages become `system`. */
export function encodeRequest(request: ChatRequest): JsonObject {
  return {
    ...request.extra,
    model: request.model,
    messages: encodeMessages(request.messages),
    ...encodeToolFields(request),
    ...encodeResponseFormat(request.responseFormat),
    ...encodeSampling(request),
    ...(request.n === 1 ? {} : { n: request.n }),
    ...(request.topLogprobs === undefined ? {} : { logprobs: true, top_logprobs: request.topLogprobs }),
    ...defined({
      reasoning_effort: request.reasoningEffort,
      chat_template_kwargs: request.templateVariables,
      prompt_cache_key: request.session,
      keep_alive: request.keepAlive,
    }),
    stream: request.stream,
    ...(request.stream ? { stream_options: { include_usage: true } } : {}),
  };
}

/** The wire's names of what `decodeSampling` reads. */
export const samplingFields: readonly string[] = [
  ...`stop max_tokens max_completion_tokens n_predict temperature top_p top_k min_p seed presence_penalty
  frequency_penalty repeat_penalty repetition_penalty logit_bias`.split(/\s+/),
  ...extendedSamplingFields,
];

const knownFields: ReadonlySet<string> = new Set([
  ...samplingFields,
  ...responseFormatFields,
  ...`model messages tools tool_choice functions function_call parallel_tool_calls stream stream_options n
  logprobs top_logprobs n_probs reasoning_effort chat_template_kwargs prompt_cache_key
  keep_alive`.split(/\s+/),
]);

function decodeMaxTokens(body: JsonObject, key: string): number | undefined {
  const limit = readInteger(body, key, { min: -1 });
  if (limit === 0) throw invalidValue(key, "must be at least 1");
  // llama.cpp's way to say: until the model ends or the context is full.
  return limit === -1 ? undefined : limit;
}

function decodeStop(body: JsonObject): string[] {
  if (typeof body.stop === "string") return body.stop === "" ? [] : [body.stop];
  if (body.stop !== undefined && body.stop !== null && !Array.isArray(body.stop)) {
    throw wrongType("stop", "a string or an array of strings", body.stop);
  }
  const list = readArray(body, "stop") ?? [];
  if (list.length > 32) throw invalidValue("stop", "may hold at most 32 strings");
  const stops = list.map((item, index) => {
    if (typeof item !== "string") throw wrongType(`stop[${index}]`, "a string", item);
    return item;
  });
  return stops.filter((stop) => stop !== "");
}

function decodeLogprobs(body: JsonObject): number | undefined {
  // `n_probs` is llama-server's way to ask for both at once.
  const count = readInteger(body, "n_probs", { min: 0, max: 20 }) ?? 0;
  const wanted = readBoolean(body, "logprobs") ?? count > 0;
  const top = readInteger(body, "top_logprobs", { min: 0, max: 20 }) ?? (count > 0 ? count : undefined);
  if (!wanted && top !== undefined && top > 0) throw invalidValue("top_logprobs", "needs `logprobs` to be true");
  return wanted ? (top ?? 0) : undefined;
}

/** An object of OpenAI's form, or llama-server's list of `[token, bias]`, in which `false` forbids. */
function decodeLogitBias(body: JsonObject): Record<string, number> | undefined {
  if (Array.isArray(body.logit_bias)) return decodeBiasList(body.logit_bias);
  const biases = readObject(body, "logit_bias");
  if (biases === undefined) return undefined;
  const decoded: Record<string, number> = {};
  for (const token of Object.keys(biases)) {
    if (!/^\d{1,9}$/.test(token)) throw invalidValue("logit_bias", `must have token ids as keys, not ${quoted(token)}`);
    const bias = readNumber(biases, token, { min: -100, max: 100 }, "logit_bias");
    if (bias !== undefined) decoded[token] = bias;
  }
  return decoded;
}

function decodeBiasList(list: readonly Json[]): Record<string, number> {
  const decoded: Record<string, number> = {};
  for (const [index, item] of list.entries()) {
    const at = `logit_bias[${index}]`;
    const [token, bias] = Array.isArray(item) ? item : [];
    if (typeof token !== "number" || !Number.isSafeInteger(token) || token < 0)
      throw invalidValue(at, "must be a token id and its bias");
    const value = bias === false ? -100 : readNumber({ bias: bias ?? null }, "bias", { min: -100, max: 100 }, at);
    if (value !== undefined) decoded[token] = value;
  }
  return decoded;
}

function encodeToolFields({ tools, toolChoice, parallelToolCalls }: ChatRequest): JsonObject {
  if (tools.length === 0) return {};
  return {
    tools: encodeTools(tools),
    tool_choice: encodeToolChoice(toolChoice),
    ...(parallelToolCalls ? {} : { parallel_tool_calls: false }),
  };
}

/** The same fields as OpenAI, vLLM, LMDeploy and llama.cpp name them. */
export function encodeSampling(request: SamplingRequest): JsonObject {
  return defined({
    max_tokens: request.maxTokens,
    temperature: request.temperature,
    top_p: request.topP,
    top_k: request.topK,
    min_p: request.minP,
    seed: request.seed,
    presence_penalty: request.presencePenalty,
    frequency_penalty: request.frequencyPenalty,
    repeat_penalty: request.repeatPenalty,
    repetition_penalty: request.repeatPenalty,
    logit_bias: request.logitBias,
    stop: request.stop.length === 0 ? undefined : request.stop,
    ...encodeExtendedSampling(request),
  });
}
