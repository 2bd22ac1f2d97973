import type { ChatEvent, CompletionRequest, FinishReason, TokenLogprob } from "../core/chat.ts";
import { toApiError } from "../core/errors.ts";
import { isObject, type Json, type JsonObject } from "../core/json.ts";
import { type Answer, collectAnswers, endedEarly, totalUsage } from "./answer.ts";
import type { ChoiceEvent, Frames, ReplyHead } from "./dialect.ts";
import {
  defined,
  invalidValue,
  readBoolean,
  readInteger,
  readString,
  required,
  unsupportedParameter,
  without,
  wrongType,
} from "./fields.ts";
import { decodeKeepAlive } from "./keep-alive.ts";
import { decodeSampling, samplingFields } from "./openai-chat/request.ts";
import { decodeResponseFormat } from "./openai-chat/response-format.ts";
import { decodePriority } from "./priority.ts";
import { encodeStreamError, encodeTimings, encodeUsage, withComments } from "./openai-chat/wire.ts";

/** `POST /v1/completions`: one engine request for each answer, in the order of the choices. */
export interface CompletionCall {
  readonly requests: CompletionRequest[];
  readonly stream: boolean;
  /** Texts that the choices begin with; empty without `echo`. */
  readonly echoes: string[];
}

/** Throws `ApiError` naming the field. Several prompts and `n` multiply: prompt by prompt, as OpenAI numbers them. */
export function decodeCompletion(
  body: JsonObject,
  model: string,
): Omit<CompletionCall, "echoes"> & { readonly echo: boolean } {
  const prompts = decodePrompts(required(body.prompt ?? undefined, "prompt"));
  const n = readInteger(body, "n", { min: 1, max: 16 }) ?? 1;
  const bestOf = readInteger(body, "best_of", { min: 1 });
  if (bestOf !== undefined && bestOf > n)
    throw unsupportedParameter("best_of", "must not be larger than `n`: answers are not ranked here");
  if (prompts.length * n > 128)
    throw invalidValue("prompt", "asks for more than 128 answers in one request (prompts times `n`)");
  const echo = readBoolean(body, "echo") ?? false;
  const topLogprobs =
    readInteger(body, "logprobs", { min: 0, max: 20 }) ??
    (readInteger(body, "n_probs", { min: 0, max: 20 }) || undefined);
  const scored = echo && topLogprobs !== undefined;
  // Whoever wants to know how likely a text is asks for nothing besides.
  const nothing = scored && body.max_tokens === 0;
  const format = decodeResponseFormat(body);
  const base = {
    model,
    ...decodeSampling(nothing ? without(body, new Set(["max_tokens"])) : body),
    ...(nothing ? { maxTokens: 0 } : {}),
    ...(scored ? { promptLogprobs: true } : {}),
    ...defined({
      suffix: readString(body, "suffix"),
      topLogprobs,
      keepAlive: decodeKeepAlive(body),
      priority: decodePriority(body),
    }),
    ...(format.type === "text" ? {} : { responseFormat: format }),
    extra: without(body, knownFields),
  };
  const requests = prompts.flatMap((prompt) =>
    Array.from({ length: n }, (_, index) => withSeed({ ...base, prompt }, index)),
  );
  return {
    requests,
    stream: readBoolean(body, "stream") ?? false,
    echo,
  };
}

type Finish = ChatEvent & { readonly type: "finish" };

/** Events → `text_completion` frames. The usage chunk comes unless the client declined it. Failures as in a chat. */
export function encodeCompletionStream(
  events: AsyncIterable<ChoiceEvent>,
  call: CompletionCall,
  body: JsonObject,
  head: ReplyHead,
): Frames {
  return withComments(encodeChunks(events, call, body, head));
}

async function* encodeChunks(
  events: AsyncIterable<ChoiceEvent>,
  call: CompletionCall,
  body: JsonObject,
  head: ReplyHead,
): AsyncGenerator<string> {
  const prefix = `data: {"id":${JSON.stringify(head.id)},"object":"text_completion","created":${head.created},"model":${JSON.stringify(head.model)},"choices":[`;
  const frame = (index: number, text: string, logprobs: Json, reason: string | null): string =>
    `${prefix}{"index":${index},"text":${JSON.stringify(text)},"logprobs":${JSON.stringify(logprobs)},"finish_reason":${JSON.stringify(reason)}}]}\n\n`;
  const offsets = call.requests.map((_, index) => call.echoes[index]?.length ?? 0);
  const finishes: Finish[] = [];
  try {
    for (const [index, echo] of call.echoes.entries()) if (echo !== "") yield frame(index, echo, null, null);
    for await (const { choice, event } of events) {
      if (event.type === "text") yield frame(choice, event.text, null, null);
      else if (event.type === "logprobs" && event.prompt !== undefined) {
        yield frame(choice, "", encodeTokens(event.tokens, 0, event.prompt === "all"), null);
      } else if (event.type === "logprobs") {
        yield frame(choice, "", encodeTokens(event.tokens, offsets[choice] ?? 0), null);
        offsets[choice] = (offsets[choice] ?? 0) + lengthOf(event.tokens);
      } else if (event.type === "finish") {
        const last = finishes.push(event) === call.requests.length;
        yield frame(choice, "", null, finishReasons[event.reason]) + (last ? ending(prefix, finishes, body) : "");
        if (last) return;
      }
    }
    throw endedEarly();
  } catch (thrown) {
    yield encodeStreamError(toApiError(thrown));
    throw thrown;
  }
}

/** Events → one `text_completion`. */
export async function encodeCompletionReply(
  events: AsyncIterable<ChoiceEvent>,
  call: CompletionCall,
  head: ReplyHead,
): Promise<Json> {
  const answers = await collectAnswers(events, call.requests.length, () => "");
  const encodeChoice = (answer: Answer, index: number): JsonObject => ({
    index,
    text: (call.echoes[index] ?? "") + answer.text,
    logprobs: encodeAnswerTokens(answer, call.echoes[index]?.length ?? 0),
    finish_reason: finishReasons[answer.reason],
  });
  const [first] = answers;
  return {
    id: head.id,
    object: "text_completion",
    created: head.created,
    model: head.model,
    choices: answers.map(encodeChoice),
    usage: encodeUsage(totalUsage(answers.map((answer) => answer.usage))),
    ...(first?.timings === undefined ? {} : { timings: encodeTimings(first.usage, first.timings) }),
  };
}

/** Prompts are text or token ids, one or several. */
function decodePrompts(prompt: Json): (string | number[])[] {
  const prompts = decodeTexts(prompt, "prompt");
  if (prompts.length === 0) throw invalidValue("prompt", "must not be an empty array");
  return prompts;
}

/** `string | string[] | number[] | number[][]`, as completions and embeddings take it. Token ids are whole and not negative. */
export function decodeTexts(value: Json, param: string): (string | number[])[] {
  if (typeof value === "string") return [value];
  if (!Array.isArray(value)) throw wrongType(param, "a string, an array of strings or an array of token ids", value);
  if (typeof value[0] === "number") return [decodeTokens(value, param)];
  return value.map((item, index) => {
    if (typeof item === "string") return item;
    if (Array.isArray(item)) return decodeTokens(item, `${param}[${index}]`);
    throw wrongType(`${param}[${index}]`, "a string or an array of token ids", item);
  });
}

/** An array of token ids. */
export function decodeTokens(value: Json[], param: string): number[] {
  return value.map((token, index) => {
    if (typeof token === "number" && Number.isSafeInteger(token) && token >= 0) return token;
    throw wrongType(`${param}[${index}]`, "a token id (a whole number of 0 or more)", token);
  });
}

const knownFields: ReadonlySet<string> = new Set([
  ...samplingFields,
  ..."model prompt suffix stream stream_options n best_of echo logprobs n_probs keep_alive".split(" "),
]);

const finishReasons: Readonly<Record<FinishReason, string>> = {
  stop: "stop",
  length: "length",
  "tool-calls": "stop",
  "content-filter": "content_filter",
};

/** Answers with one seed would all be the same. */
function withSeed(request: CompletionRequest, index: number): CompletionRequest {
  return request.seed === undefined || index === 0 ? request : { ...request, seed: request.seed + index };
}

function ending(prefix: string, finishes: readonly Finish[], body: JsonObject): string {
  const declined = isObject(body.stream_options) && body.stream_options.include_usage === false;
  if (declined) return "data: [DONE]\n\n";
  const [first] = finishes;
  const timings =
    first?.timings === undefined ? "" : `,"timings":${JSON.stringify(encodeTimings(first.usage, first.timings))}`;
  const usage = JSON.stringify(encodeUsage(totalUsage(finishes.map((finish) => finish.usage))));
  return `${prefix}],"usage":${usage}${timings}}\n\ndata: [DONE]\n\n`;
}

/** Of the prompt, if they were asked for, and of the answer. `offset`: length of the echo. */
function encodeAnswerTokens({ prompt, logprobs }: Answer, offset: number): Json {
  if (prompt === undefined) return logprobs.length === 0 ? null : encodeTokens(logprobs, offset);
  const before = encodeTokens(prompt.tokens, 0, prompt.prompt === "all");
  const after = encodeTokens(logprobs, offset);
  return Object.fromEntries(Object.entries(before).map(([key, list]) => [key, [...list, ...(after[key] ?? [])]]));
}

/**
 * The old form of log probabilities: one array for each property. `offset`: characters before the first token.
 * `headless`: nothing came before the first token, so that its probability means nothing.
 */
function encodeTokens(tokens: readonly TokenLogprob[], offset: number, headless = false): Record<string, Json[]> {
  let at = offset;
  const offsets = tokens.map(({ token }) => {
    const start = at;
    at += token.length;
    return start;
  });
  return {
    tokens: tokens.map(({ token }) => token),
    token_logprobs: tokens.map(({ logprob }, index) => (headless && index === 0 ? null : logprob)),
    top_logprobs: tokens.map(({ top }, index) =>
      headless && index === 0 ? null : Object.fromEntries(top.map(({ token, logprob }) => [token, logprob])),
    ),
    text_offset: offsets,
  };
}

function lengthOf(tokens: readonly TokenLogprob[]): number {
  return tokens.reduce((sum, { token }) => sum + token.length, 0);
}
