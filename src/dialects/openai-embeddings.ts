import type { Embeddings, EmbeddingRequest } from "../core/chat.ts";
import { ApiError } from "../core/errors.ts";
import type { Json, JsonObject } from "../core/json.ts";
import { defined, invalidValue, quoted, readInteger, readString, required } from "./fields.ts";
import { decodeKeepAlive } from "./keep-alive.ts";
import { decodeTexts } from "./openai-completions.ts";

/** How the vectors are written: JSON numbers, or little-endian float32 in base64 (what the OpenAI SDK asks for by default). */
export type EncodingFormat = "float" | "base64";

/** The body of `POST /v1/embeddings`. Throws `ApiError` naming the field. */
export function decodeEmbedding(
  body: JsonObject,
  model: string,
): { request: EmbeddingRequest; format: EncodingFormat } {
  const input = decodeTexts(required(body.input ?? undefined, "input"), "input");
  // OpenAI's own bound.
  if (input.length === 0 || input.length > 2048) throw invalidValue("input", "must hold from 1 to 2048 inputs");
  const empty = input.findIndex((one) => one.length === 0);
  if (empty !== -1)
    throw invalidValue(typeof body.input === "string" ? "input" : `input[${empty}]`, "must not be empty");
  const format = readString(body, "encoding_format") ?? "float";
  if (format !== "float" && format !== "base64")
    throw invalidValue("encoding_format", `must be float or base64, not ${quoted(format)}`);
  const dimensions = readInteger(body, "dimensions", { min: 1 });
  return { request: { model, input, ...defined({ dimensions, keepAlive: decodeKeepAlive(body) }) }, format };
}

/** Vectors → OpenAI's reply. `model` is the name as the client wrote it. Throws where the engine kept not to its count. */
export function encodeEmbeddings(embeddings: Embeddings, count: number, format: EncodingFormat, model: string): Json {
  const { vectors, promptTokens } = embeddings;
  if (vectors.length !== count)
    throw new ApiError("upstream_error", `${vectors.length} embeddings came for ${count} inputs`);
  return {
    object: "list",
    model,
    data: vectors.map((vector, index) => ({
      object: "embedding",
      index,
      embedding: format === "float" ? vector : toBase64(vector),
    })),
    usage: { prompt_tokens: promptTokens, total_tokens: promptTokens },
  };
}

function toBase64(vector: readonly number[]): string {
  const bytes = Buffer.allocUnsafe(vector.length * 4);
  for (const [index, value] of vector.entries()) bytes.writeFloatLE(value, index * 4);
  return bytes.toString("base64");
}
