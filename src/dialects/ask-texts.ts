import { iterateBytes } from "../core/bytes.ts";
import type { Call, Reply } from "../core/call.ts";
import type { ChatEvent, CompletionRequest, EmbeddingRequest, Embeddings } from "../core/chat.ts";
import { ApiError } from "../core/errors.ts";
import { isObject, type Json, type JsonObject } from "../core/json.ts";
import type { Provider } from "../core/provider.ts";
import { failureOf, jsonOf } from "./ask-chat.ts";
import { decodeCompletionReply, decodeCompletionStream, encodeCompletionRequest } from "./completion-client.ts";
import { estimateTokens } from "./estimate.ts";

/** Asks a provider as a client of `/v1/completions` does, and reads its answer. Throws `ApiError`. */
export async function* askCompletion(
  provider: Provider,
  request: CompletionRequest,
  call: Call,
  signal: AbortSignal,
): AsyncGenerator<ChatEvent> {
  const json = encodeCompletionRequest(request);
  const reply = await ask(provider, call.with({ path: "/v1/completions", json, signal }));
  const decoding = { promptTokens: estimateTokens(request.prompt.length) };
  if (reply.headers["content-type"]?.startsWith("text/event-stream") === true)
    yield* decodeCompletionStream(iterateBytes(reply), decoding);
  else yield* decodeCompletionReply(await jsonOf(provider, reply), decoding);
}

/** Asks a provider as a client of `/v1/embeddings` does. Throws `ApiError`. */
export async function askEmbeddings(provider: Provider, request: EmbeddingRequest, call: Call): Promise<Embeddings> {
  const { model, input, dimensions, keepAlive } = request;
  const json: JsonObject = {
    model,
    input,
    ...(dimensions === undefined ? {} : { dimensions }),
    ...(keepAlive === undefined ? {} : { keep_alive: keepAlive }),
    encoding_format: "float",
  };
  const reply = await ask(provider, call.with({ path: "/v1/embeddings", json }));
  const told = await jsonOf(provider, reply);
  const vectors = isObject(told) && Array.isArray(told.data) ? told.data.map(toVector) : [];
  if (!isObject(told) || vectors.length !== input.length || vectors.some((vector) => vector === undefined))
    throw new ApiError("upstream_error", `${provider.name} answered without one embedding for each input`, {
      provider: provider.name,
    });
  return { vectors: vectors as number[][], promptTokens: countIn(told.usage) ?? estimateInputs(input) };
}

async function ask(provider: Provider, call: Call): Promise<Reply> {
  const reply = await provider.handle(call);
  if (reply.status !== 200) throw await failureOf(provider, reply);
  return reply;
}

function toVector(entry: Json): number[] | undefined {
  const vector = isObject(entry) ? entry.embedding : undefined;
  return Array.isArray(vector) && vector.every((value) => typeof value === "number") ? vector : undefined;
}

function countIn(usage: Json | undefined): number | undefined {
  return isObject(usage) && typeof usage.prompt_tokens === "number" ? usage.prompt_tokens : undefined;
}

function estimateInputs(input: EmbeddingRequest["input"]): number {
  return input.reduce((sum, one) => sum + (typeof one === "string" ? estimateTokens(one.length) : one.length), 0);
}
