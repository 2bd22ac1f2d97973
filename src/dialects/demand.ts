import type { Call } from "../core/call.ts";
import type { Demand } from "../core/demand.ts";
import { ApiError } from "../core/errors.ts";
import { checkModelKey, checkModelName } from "../core/model-name.ts";
import { isObject, type Json, type JsonObject } from "../core/json.ts";
import { type Endpoint, endpoints } from "../core/provider.ts";
import { estimateTokens } from "./estimate.ts";

/** Larger bounds of an answer than this are taken for this: far beyond every model, and no sum of them overflows. */
const mostOutput = 100_000_000;
/** Answers that one call may ask for; all dialects allow fewer. */
const mostAnswers = 128;
/** What an image is taken for: about OpenAI's count for a picture of 1024 × 1024 in full detail. */
const imageTokens = 765;

/** Paths that pass to others as they are, with the endpoint that asks for the same. */
const nearest: Readonly<Record<string, Endpoint>> = {
  "/rerank": "/v1/rerank",
  "/v1/messages": "/v1/chat/completions",
  "/v1/messages/count_tokens": "/tokenize",
  "/v1/responses/compact": "/v1/responses",
  "/v1/responses/input_tokens": "/tokenize",
  "/api/chat": "/v1/chat/completions",
  "/api/generate": "/v1/completions",
  "/api/embed": "/v1/embeddings",
  "/api/embeddings": "/v1/embeddings",
};
const byPath = new Map<string, Endpoint>([
  ...endpoints.map((path) => [path, path] as const),
  ...Object.entries(nearest),
]);

/** Which endpoint a call asks, its aliases and those of other dialects included; undefined when it asks no model. */
export function endpointOf({ method, path }: Pick<Call, "method" | "path">): Endpoint | undefined {
  if (method !== "POST") return undefined;
  const known = byPath.get(path);
  if (known !== undefined || !path.endsWith("/")) return known;
  return byPath.get(path.slice(0, -1));
}

/** Whether the model is made to work at all, and whether it writes. */
export function workOf(endpoint: Endpoint): "generates" | "reads" | "nothing" {
  if (endpoint === "/tokenize" || endpoint === "/detokenize" || endpoint === "/apply-template") return "nothing";
  return endpoint === "/v1/embeddings" || endpoint === "/v1/rerank" ? "reads" : "generates";
}

/**
 * What the call asks for, kept in `call.demand`; undefined when it asks no model, or its body is no JSON object: who
 * answers says so. Numbers that make no sense count as absent, huge ones are bounded. Throws when the body cannot be read
 * (`request_too_large`, or the client left), and `invalid_value` when others could read another model in it.
 */
export async function readDemand(call: Call): Promise<Demand | undefined> {
  if (call.demand !== undefined) return call.demand;
  const endpoint = endpointOf(call);
  if (endpoint === undefined) return undefined;
  // Of what is usual, ASCII, this is the text that the JSON is read from.
  const text = await call.latin1();
  let body: Json;
  try {
    body = await call.json();
  } catch (error) {
    if (error instanceof ApiError) return undefined;
    throw error;
  }
  if (!isObject(body)) return undefined;
  call.demand = toDemand(call.path, endpoint, body, text);
  return call.demand;
}

function toDemand(path: string, endpoint: Endpoint, body: JsonObject, text: string): Demand {
  const { stream } = body;
  // Older clients of Ollama's say `name`.
  const named = body["model"] ?? (path.startsWith("/api/") ? body["name"] : undefined);
  const model = typeof named === "string" ? named : "";
  checkModelKey(body);
  checkModelName(model);
  const work = workOf(endpoint);
  const images = work === "generates" && hasImages(body, text);
  return {
    endpoint,
    model,
    // Ollama's own paths stream unless they are told not to.
    streamed: stream === true || (stream === undefined && (path === "/api/chat" || path === "/api/generate")),
    promptTokens: work === "nothing" ? 0 : promptTokens(text),
    outputTokens: work === "generates" ? outputTokens(body) : 0,
    tools: isFilled(body["tools"]) || isFilled(body["functions"]),
    images,
  };
}

/** By the length of the body, pictures and sounds aside, which are not read as text. */
function promptTokens(text: string): number {
  let { length } = text;
  let pictures = 0;
  for (let at = text.indexOf(";base64,"); at !== -1; at = text.indexOf(";base64,", at)) {
    const close = text.indexOf('"', at);
    const end = close === -1 ? text.length : close;
    length -= end - at;
    pictures++;
    at = end;
  }
  // Anthropic's form has the bytes alone.
  if (pictures === 0 && text.includes('"base64"')) {
    for (const { 0: bytes } of text.matchAll(/"data"\s*:\s*"[A-Za-z0-9+/=]{64,}"/g)) {
      length -= bytes.length;
      pictures++;
    }
  }
  return estimateTokens(length) + pictures * imageTokens;
}

function outputTokens(body: JsonObject): number | undefined {
  const { options } = body;
  const asked =
    toCount(body["max_completion_tokens"]) ??
    toCount(body["max_tokens"]) ??
    toCount(body["max_output_tokens"]) ??
    toCount(body["n_predict"]) ??
    (isObject(options) ? toCount(options["num_predict"]) : undefined);
  return asked === undefined ? undefined : Math.min(asked * answers(body), mostOutput);
}

function answers({ n, best_of: bestOf, prompt }: JsonObject): number {
  const each = Math.max(1, toCount(n) ?? 1, toCount(bestOf) ?? 1);
  // An array of numbers is one prompt, of token ids.
  const prompts = Array.isArray(prompt) && typeof prompt[0] !== "number" ? prompt.length : 1;
  return Math.min(each * Math.max(1, prompts), mostAnswers);
}

/** −1 means "no bound" to llama-server and Ollama, and nothing to others. */
function toCount(value: Json | undefined): number | undefined {
  if (typeof value !== "number" || !(value >= 0) || value === Infinity) return undefined;
  return Math.min(Math.ceil(value), mostOutput);
}

function isFilled(value: Json | undefined): boolean {
  return Array.isArray(value) && value.length > 0;
}

const pictureMarks = ['"image_url"', '"input_image"', '"image"', '"images"'];

/** Most bodies hold none of the words, and are not walked through. */
function hasImages({ messages, input }: JsonObject, text: string): boolean {
  if (!pictureMarks.some((mark) => text.includes(mark))) return false;
  const list = [messages, input].find((one) => Array.isArray(one)) as Json[] | undefined;
  return list?.some((item) => isObject(item) && holdsImage(item)) === true;
}

function holdsImage({ type, content, images }: JsonObject): boolean {
  if (type === "input_image" || isFilled(images)) return true;
  return Array.isArray(content) && content.some((part) => isObject(part) && (isImage(part) || hasImagePart(part)));
}

/** Anthropic's results of tools hold parts of their own. */
function hasImagePart({ content }: JsonObject): boolean {
  return Array.isArray(content) && content.some((part) => isObject(part) && isImage(part));
}

function isImage({ type }: JsonObject): boolean {
  return type === "image_url" || type === "input_image" || type === "image";
}
