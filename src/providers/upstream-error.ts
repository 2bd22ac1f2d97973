import type { Headers } from "../core/call.ts";
import { ApiError, type ApiErrorOptions, type ErrorCode } from "../core/errors.ts";
import { isObject, type Json, type JsonObject } from "../core/json.ts";

/** The figures that a server gave when a request did not fit its context; each absent when it did not say. */
export interface Overflow {
  readonly contextLength?: number;
  readonly promptTokens?: number;
  /** The `max_tokens` that the server added to the prompt (vLLM). */
  readonly outputTokens?: number;
}

/** What a failed reply says, whatever its shape. */
interface Failure {
  readonly status: number;
  readonly text: string;
  readonly type: string;
  readonly code: string;
  readonly param: string | undefined;
  readonly overflow: Overflow | undefined;
  readonly retryAfter: number | undefined;
}

/**
 * A failed reply of any server → the error that our caller gets. Understands OpenAI's envelope, LMDeploy's flat one,
 * error strings (Ollama, MNN, vLLM's 401), FastAPI's `detail`, `error_code` of LMDeploy's proxy, NDJSON, HTML and
 * nothing at all. An overflow of the context carries its `Overflow` as `cause`.
 */
export function upstreamError(
  provider: string,
  status: number,
  body: Buffer | string,
  headers: Headers = {},
): ApiError {
  const text = (typeof body === "string" ? body : body.toString("utf8", 0, bodyLimit)).trim();
  return toError(provider, { ...read(text), status, retryAfter: retryAfterSeconds(headers["retry-after"]) });
}

/** The error that a JSON body of status 200, or one frame of a stream, tells of; undefined when it tells of none. */
export function errorInReply(provider: string, json: Json | undefined): ApiError | undefined {
  if (!isObject(json)) return undefined;
  const said =
    (json.error !== undefined && json.error !== null && json.error !== "") ||
    json.object === "error" ||
    json.type === "error";
  if (!said && json.error_code === undefined) return undefined;
  const failure = readJson(json);
  const code = Number(failure.code);
  const status = proxyCodes.get(code) ?? (code >= 400 && code < 600 ? code : 500);
  return toError(provider, { ...failure, status, retryAfter: undefined });
}

/** The figures in a text that tells of a context overflow, in the words of any server; undefined for other texts. */
export function overflowIn(text: string, type = ""): Overflow | undefined {
  for (const [pattern, names] of overflowTexts) {
    const match = pattern.exec(text);
    if (match === null) continue;
    const figures = names.map((name, index) => [name, Number(match[index + 1])] as const);
    return Object.fromEntries(figures.filter(([, figure]) => Number.isFinite(figure)));
  }
  return type === "exceed_context_size_error" || type === "context_length_exceeded" ? {} : undefined;
}

/** The message by which all clients know an overflow and compact the conversation (opencode, Codex, Claude Code). */
function overflowError(provider: string, overflow: Overflow): ApiError {
  const { contextLength, promptTokens, outputTokens = 0 } = overflow;
  // A prompt that fits by itself did not fit together with the answer that was asked for.
  const fits = promptTokens !== undefined && contextLength !== undefined && promptTokens <= contextLength;
  const tokens = promptTokens === undefined ? undefined : fits ? promptTokens + outputTokens : promptTokens;
  const message =
    contextLength === undefined
      ? "the input length exceeds the context length of the model; shorten the messages or serve the model with a larger context"
      : `This model's maximum context length is ${contextLength} tokens. However, your messages resulted in ${tokens === undefined ? "more" : tokens} tokens.`;
  return new ApiError("context_length_exceeded", message, { provider, param: "messages", cause: overflow });
}

/** `error_code` of LMDeploy's proxy (its proxy/utils.py) → the status that it should have been. */
const proxyCodes = new Map([
  [10400, 404],
  [10401, 503],
  [10402, 504],
]);

const bodyLimit = 64 * 1024;
const messageLimit = 600;

const overflowTexts: [RegExp, (keyof Overflow)[]][] = [
  // llama-server
  [/\((\d+) tokens\) exceeds the available context size \((\d+) tokens\)/i, ["promptTokens", "contextLength"]],
  // LMDeploy
  [
    /input length \((\d+)\) must be smaller than the model context length \((\d+)\)/i,
    ["promptTokens", "contextLength"],
  ],
  // vLLM, new and old
  [
    /maximum context length is (\d+) tokens\. However, you requested (\d+) output tokens and your prompt contains (?:at least )?(\d+)/i,
    ["contextLength", "outputTokens", "promptTokens"],
  ],
  [
    /maximum context length is (\d+) tokens\. However, you requested \d+ tokens \((\d+) in the (?:messages|prompt), (\d+) in the completion\)/i,
    ["contextLength", "promptTokens", "outputTokens"],
  ],
  [/input length \((\d+)\) exceeds model's maximum context length \((\d+)\)/i, ["promptTokens", "contextLength"]],
  // OpenAI, and our own
  [
    /maximum context length is (\d+) tokens\. However, your (?:messages|prompt) resulted in (\d+) tokens/i,
    ["contextLength", "promptTokens"],
  ],
  [/maximum context length (?:is|of) (\d+)/i, ["contextLength"]],
  // LM Studio
  [
    /keep the first (\d+) tokens when context the overflows.*?context length of only (\d+)/is,
    ["promptTokens", "contextLength"],
  ],
  [
    /exceeds? the (?:available |maximum |model's )?context (?:size|length|window)|exceeds? (?:the )?maximum context length/i,
    [],
  ],
  [
    /input (?:length|is).{0,40}(?:exceeds?|longer|larger|greater).{0,40}context|greater than the context length|context[_ ]length[_ ]exceeded/i,
    [],
  ],
  [/prompt is too long|context (?:window|size|length) (?:is )?exceeded/i, []],
];

/** Texts that tell more than the status that came with them, first match wins. */
const knownTexts: [RegExp, ErrorCode][] = [
  [
    /(?:requires|needs) more (?:system )?memory|out of memory|insufficient memory|failed to allocate/i,
    "insufficient_memory",
  ],
  [/loading model|model is (?:still )?loading|model is being loaded/i, "model_loading"],
  [
    /model\b.{0,200}\b(?:not found|does not exist|is not (?:found|loaded|available))|no such model|unknown model/is,
    "model_not_found",
  ],
  [/does not support (?:tools|thinking|image|vision|chat|generate|embed|completion|insert)/i, "unsupported_capability"],
  [
    /image input is not supported|not a multimodal model|at most 0 image|--tool-call-parser|unsupported by turbomind/i,
    "unsupported_capability",
  ],
  [
    /invalid image|cannot identify image|(?:invalid|incorrect) (?:base64|padding)|failed to (?:load|decode|process|fetch) (?:the )?image/i,
    "invalid_image",
  ],
];

/** Texts of a 500 that the request itself is to blame for (llama-server answers 500 to any exception of its parsers). */
const clientFault =
  /parse error|failed to parse|json\.exception|type must be|invalid (?:argument|json|request|message|grammar)|unable to generate parser|unsupported content\[\]/i;

function toError(provider: string, failure: Failure): ApiError {
  if (failure.overflow !== undefined) return overflowError(provider, failure.overflow);
  const code = codeOf(failure);
  const options: ApiErrorOptions = { provider };
  if (failure.param !== undefined) options.param = failure.param;
  if (failure.retryAfter !== undefined) options.retryAfter = failure.retryAfter;
  const error = new ApiError(code, `${provider}: ${sentence(code, failure)}`, options);
  return error.status < 500 && error.status !== 429
    ? new ApiError(code, withoutRetryWords(error.message), options)
    : error;
}

function codeOf({ status, text, code }: Failure): ErrorCode {
  if (status === 401 || status === 403) return "upstream_auth_failed";
  const known = knownTexts.find(([pattern]) => pattern.test(text))?.[1];
  if (status === 429) return code === "insufficient_quota" ? code : "rate_limit_exceeded";
  if (status === 503 || status === 529)
    return known === "model_loading" || known === "insufficient_memory" ? known : "service_unavailable";
  if (status === 413) return "request_too_large";
  if (status === 408 || status === 504) return "upstream_timeout";
  if (code === "model_not_found") return code;
  if (known !== undefined && (known !== "model_not_found" || status < 500)) return known;
  if (status === 404) return "unknown_url";
  // Not implemented or not switched on there: no repetition mends that.
  if (status === 501) return "unsupported_capability";
  if (status >= 400 && status < 499) return "invalid_request";
  return status === 500 && clientFault.test(text) ? "invalid_request" : "upstream_error";
}

function sentence(code: ErrorCode, { status, text }: Failure): string {
  const said = text === "" ? "" : `: ${clean(text)}`;
  if (code === "upstream_auth_failed") {
    if (status === 403 && text === "")
      return "refused (HTTP 403, empty body): it does not accept requests for this host name; use its IP address or name that it allows";
    return `refused the key that this server sent (HTTP ${status})${said}; check the provider's key in the configuration`;
  }
  if (status >= 300 && status < 400) return `answered with a redirection (HTTP ${status}); configure its final address`;
  if (text === "") return `answered HTTP ${status} without saying why`;
  return clean(text);
}

/** Bounded, on one line, and without what looks like a credential. */
function clean(text: string): string {
  const line = text
    .slice(0, 4 * messageLimit)
    .replace(/[\p{Cc}\s]+/gu, " ")
    .replace(/\/\/[^\s/@]+@/g, "//***@")
    .replace(/\b(bearer|basic)\s+[\w.~+/=-]{6,}/gi, "$1 ***")
    .replace(/\b(?:sk|hf|ghp|lk)[-_][\w-]{8,}/g, "***")
    .replace(/((?:api[-_]?key|token|secret|password|signature)["']?\s*[=:]\s*["']?)[^\s"'&,;}]{4,}/gi, "$1***")
    .trim();
  return line.length > messageLimit ? `${line.slice(0, messageLimit)} …` : line;
}

/**
 * opencode repeats a request when the text of a 4xx holds such words, or a number such as 500 anywhere ("max_tokens
 * may be at most 500" was sent five times): the words are changed, and a narrow space splits the number.
 */
function withoutRetryWords(message: string): string {
  let text = message;
  for (const [pattern, replacement] of retryWords) text = text.replace(pattern, replacement);
  return text.replace(/(?<=[4])(?=29)|(?<=5)(?=0[0234]|24)/g, "\u202f");
}

const retryWords: [RegExp, string][] = [
  [/[,;]?\s*(?:please )?(?:try|retry) again(?: later)?\.?/gi, "."],
  [/\boverloaded\b/gi, "too busy"],
  [/\btimed out\b|\btimeout\b/gi, "took too long"],
  [/\b(?:internal )?server error\b/gi, "failure"],
  [/\bservice unavailable\b|\btemporarily unavailable\b/gi, "not available"],
  [/\btoo many requests\b|\brate limit\w*/gi, "too much at once"],
];

function read(text: string): Omit<Failure, "status" | "retryAfter"> {
  if (text === "" || /^\s*<(?:!doctype|html|\?xml)/i.test(text))
    return { ...nothing, text: /<title>\s*([^<]{1,200})/i.exec(text)?.[1]?.trim() ?? "" };
  // NDJSON, SSE, or one JSON text: the first thing that parses and tells of an error.
  const whole = parsed(text);
  if (whole !== undefined) return readJson(whole);
  for (const line of text.split(/\r?\n/, 20)) {
    const json = parsed(line.replace(/^data:\s*/, ""));
    if (isObject(json)) return readJson(json);
  }
  return { ...nothing, text, overflow: overflowIn(text) };
}

function readJson(json: Json, depth = 0): Omit<Failure, "status" | "retryAfter"> {
  if (typeof json === "string") return readText(json, depth);
  if (Array.isArray(json)) return json[0] === undefined || depth > 3 ? nothing : readJson(json[0], depth + 1);
  if (!isObject(json)) return nothing;
  if (depth < 4 && (isObject(json.error) || typeof json.error === "string" || Array.isArray(json.error)))
    return readJson(json.error, depth + 1);
  const text = [json.message, json.text, json.detail, json.msg, json.error_description].find(
    (value) => value !== undefined && value !== null && value !== "",
  );
  const inner =
    typeof text === "string" ? readText(text, depth) : { ...nothing, text: text === undefined ? "" : detail(text) };
  const type = typeof json.type === "string" ? json.type : inner.type;
  const code = json.code ?? json.error_code;
  return {
    text: inner.text,
    type,
    code: typeof code === "string" || typeof code === "number" ? String(code) : inner.code,
    param: typeof json.param === "string" && json.param !== "" ? json.param.slice(0, 200) : inner.param,
    overflow:
      figures(json) ?? inner.overflow ?? overflowIn(inner.text, code === "context_length_exceeded" ? code : type),
  };
}

/** Ollama hands on the JSON of the llama-server below it as the text of its own error. */
function readText(text: string, depth: number): Omit<Failure, "status" | "retryAfter"> {
  const brace = text.indexOf("{");
  const inner = brace === -1 || depth > 3 ? undefined : parsed(text.slice(brace));
  if (isObject(inner)) {
    const read = readJson(inner, depth + 1);
    if (read.text !== "") return read;
  }
  return { ...nothing, text, overflow: overflowIn(text) };
}

function figures(json: JsonObject): Overflow | undefined {
  const { n_prompt_tokens: promptTokens, n_ctx: contextLength } = json;
  return typeof promptTokens === "number" && typeof contextLength === "number"
    ? { promptTokens, contextLength }
    : undefined;
}

/** FastAPI's list of what is wrong: `[{ loc: ["body", "messages"], msg: "Field required" }]`. */
function detail(json: Json): string {
  if (!Array.isArray(json)) return JSON.stringify(json).slice(0, messageLimit);
  const said = json.slice(0, 5).map((item) => {
    if (!isObject(item)) return JSON.stringify(item);
    const where = Array.isArray(item.loc) ? item.loc.join(".") : "";
    return `${where === "" ? "" : `${where}: `}${typeof item.msg === "string" ? item.msg : "is invalid"}`;
  });
  return said.join("; ");
}

const nothing = { text: "", type: "", code: "", param: undefined, overflow: undefined } as const;

function parsed(text: string): Json | undefined {
  try {
    return JSON.parse(text) as Json;
  } catch {
    return undefined;
  }
}

/** `Retry-After` in seconds or as a date → whole seconds from 1 to an hour. */
function retryAfterSeconds(value: string | undefined): number | undefined {
  if (value === undefined) return undefined;
  const seconds = /^\s*\d+(?:\.\d+)?\s*$/.test(value) ? Number(value) : (Date.parse(value) - Date.now()) / 1000;
  return Number.isFinite(seconds) ? Math.min(3600, Math.max(1, Math.ceil(seconds))) : undefined;
}
