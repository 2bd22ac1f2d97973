import type { ChatEvent, ChatRequest, CompletionRequest, Message, Part, TokenLogprob, Usage } from "../core/chat.ts";
import { ApiError } from "../core/errors.ts";
import { isObject, type Json, type JsonObject } from "../core/json.ts";
import { toOllamaParameters } from "./json-schema.ts";
import { newCallId } from "./tool-choice.ts";
import { errorInReply } from "./upstream-error.ts";

/** What shapes a request besides the request itself. */
export interface OllamaOptions {
  /** Sent with every request: a model is loaded anew whenever this differs from the last one's (Ollama's sched.go). */
  readonly numCtx: number;
  readonly keepAlive?: string | number;
  readonly thinking: "none" | "switch" | "levels";
}

/** A chat as `POST /api/chat` takes it. Overflow is an error (`truncate`, `shift`: false), never a silent loss. */
export function toChatBody(request: ChatRequest, options: OllamaOptions): JsonObject {
  return {
    model: request.model,
    stream: true,
    messages: toMessages(request.messages),
    ...(request.tools.length === 0 ? {} : { tools: request.tools.map(toTool) }),
    ...toFormat(request.responseFormat),
    ...toThink(request, options.thinking),
    ...common(request, options),
  };
}

/** A raw prompt, or one with a gap to fill (`suffix`, which needs the model's own template), for `POST /api/generate`. */
export function toGenerateBody(
  request: CompletionRequest & { readonly prompt: string },
  options: OllamaOptions,
): JsonObject {
  return {
    model: request.model,
    stream: true,
    prompt: request.prompt,
    ...(request.suffix === undefined || request.suffix === ""
      ? { raw: true }
      : { suffix: request.suffix, think: false }),
    ...toFormat(request.responseFormat),
    ...common(request, options),
  };
}

/** Lines of `/api/chat` or `/api/generate` → events. Throws for an error line and for an end without `done`. */
export async function* toEvents(
  provider: string,
  lines: AsyncIterable<Json>,
  promptEstimate: number,
): AsyncGenerator<ChatEvent> {
  let calls = 0;
  for await (const line of lines) {
    const error = errorInReply(provider, line);
    if (error !== undefined) throw error;
    if (!isObject(line)) continue;
    const message = isObject(line.message) ? line.message : { content: line.response, thinking: line.thinking };
    if (typeof message.thinking === "string" && message.thinking !== "")
      yield { type: "reasoning", text: message.thinking };
    if (typeof message.content === "string" && message.content !== "") yield { type: "text", text: message.content };
    if (Array.isArray(line.logprobs) && line.logprobs.length > 0)
      yield { type: "logprobs", tokens: line.logprobs.filter(isObject).map(toLogprob) };
    for (const call of Array.isArray(message.tool_calls) ? message.tool_calls : []) {
      const event = toToolCall(call, calls);
      if (event === undefined) continue;
      calls++;
      yield event;
    }
    if (line.done !== true) continue;
    const reason = calls > 0 ? "tool-calls" : line.done_reason === "length" ? "length" : "stop";
    return yield { type: "finish", reason, usage: toUsage(line, promptEstimate) };
  }
  throw new ApiError("upstream_error", `${provider}: the stream ended early, the answer is not complete`, { provider });
}

function common(request: CompletionRequest | ChatRequest, options: OllamaOptions): JsonObject {
  const keepAlive = request.keepAlive ?? options.keepAlive;
  return {
    truncate: false,
    shift: false,
    ...(keepAlive === undefined ? {} : { keep_alive: keepAlive }),
    ...(request.topLogprobs === undefined ? {} : { logprobs: true, top_logprobs: request.topLogprobs }),
    options: {
      num_ctx: options.numCtx,
      num_predict: request.maxTokens,
      temperature: request.temperature,
      top_p: request.topP,
      top_k: request.topK,
      min_p: request.minP,
      seed: request.seed,
      presence_penalty: request.presencePenalty,
      frequency_penalty: request.frequencyPenalty,
      repeat_penalty: request.repeatPenalty,
      repeat_last_n: request.repeatLastN,
      typical_p: request.typicalP,
      mirostat: request.mirostat,
      mirostat_tau: request.mirostatTau,
      mirostat_eta: request.mirostatEta,
      draft_num_predict: request.draftMax,
      stop: request.stop.length === 0 ? undefined : request.stop,
    },
  };
}

function toMessages(messages: readonly Message[]): JsonObject[] {
  const names = new Map<string, string>();
  return messages.map((message) => {
    const content = textOf(message.content);
    const images = message.content.flatMap((part) => (part.type === "image" ? [part.base64] : []));
    const base: JsonObject = { role: message.role === "developer" ? "system" : message.role, content };
    if (images.length > 0) base.images = images;
    if (message.role === "assistant") {
      if (message.reasoning !== undefined) base.thinking = message.reasoning;
      for (const call of message.toolCalls) names.set(call.id, call.name);
      if (message.toolCalls.length > 0) base.tool_calls = message.toolCalls.map((call, index) => toCall(call, index));
    } else if (message.role === "tool") {
      base.tool_call_id = message.toolCallId;
      const name = names.get(message.toolCallId) ?? message.name;
      if (name !== undefined) base.tool_name = name;
    }
    return base;
  });
}

/** Content must be one string there: a list of parts would be split into several messages. */
function textOf(content: readonly Part[]): string {
  return content.flatMap((part) => (part.type === "text" ? [part.text] : [])).join("\n");
}

function toCall(call: { id: string; name: string; arguments: string }, index: number): JsonObject {
  return { id: call.id, function: { index, name: call.name, arguments: toArguments(call.arguments) } };
}

/** Arguments are an object there. What a model once wrote and is none stays readable for it. */
function toArguments(text: string): JsonObject {
  try {
    const json: unknown = JSON.parse(text === "" ? "{}" : text);
    if (isObject(json)) return json;
  } catch {
    // Broken JSON of an earlier answer.
  }
  return { arguments: text };
}

function toTool(tool: ChatRequest["tools"][number]): JsonObject {
  return {
    type: "function",
    function: { name: tool.name, description: tool.description ?? "", parameters: toOllamaParameters(tool.parameters) },
  };
}

function toFormat(responseFormat: ChatRequest["responseFormat"] = { type: "text" }): JsonObject {
  if (responseFormat.type === "json") return { format: "json" };
  if (responseFormat.type === "json-schema") return { format: responseFormat.schema };
  if (responseFormat.type === "text") return {};
  throw new ApiError(
    "unsupported_parameter",
    `Ollama holds an answer to JSON schemas, not to a ${responseFormat.type}; use response_format`,
    { param: "response_format" },
  );
}

/** Absent leaves a thinking model thinking. gpt-oss knows levels only and cannot be switched off. */
function toThink(request: ChatRequest, thinking: OllamaOptions["thinking"]): JsonObject {
  const switched = request.templateVariables?.enable_thinking;
  const effort = request.reasoningEffort ?? (switched === false ? "none" : switched === true ? "medium" : undefined);
  if (thinking === "none" || effort === undefined) return {};
  if (thinking === "switch") return { think: effort !== "none" };
  return {
    think:
      effort === "none" || effort === "minimal" || effort === "low" ? "low" : effort === "medium" ? "medium" : "high",
  };
}

function toToolCall(call: Json, index: number): ChatEvent | undefined {
  if (!isObject(call) || !isObject(call.function) || typeof call.function.name !== "string") return undefined;
  const { name, arguments: args } = call.function;
  const id = typeof call.id === "string" && call.id !== "" ? call.id : newCallId();
  return {
    type: "tool-call",
    index,
    id,
    name,
    arguments: typeof args === "string" && args !== "" ? args : JSON.stringify(isObject(args) ? args : {}),
  };
}

function toUsage(line: JsonObject, promptEstimate: number): Usage {
  const prompt = line.prompt_eval_count;
  // The count is left out when it is zero, which no prompt is: then all of it came from the cache.
  return {
    promptTokens: typeof prompt === "number" && prompt > 0 ? prompt : promptEstimate,
    completionTokens: typeof line.eval_count === "number" ? line.eval_count : 0,
  };
}

function toLogprob(json: JsonObject): TokenLogprob {
  const top = Array.isArray(json.top_logprobs) ? json.top_logprobs.filter(isObject) : [];
  return { ...toToken(json), top: top.map(toToken) };
}

function toToken(json: JsonObject): { token: string; logprob: number; bytes: number[] | null } {
  const token = typeof json.token === "string" ? json.token : "";
  const bytes = Array.isArray(json.bytes)
    ? json.bytes.filter((byte) => typeof byte === "number")
    : [...Buffer.from(token)];
  return { token, logprob: typeof json.logprob === "number" ? json.logprob : 0, bytes };
}
