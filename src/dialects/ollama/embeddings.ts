import type { EmbeddingRequest, Embeddings } from "../../core/chat.ts";
import { ApiError } from "../../core/errors.ts";
import type { JsonObject } from "../../core/json.ts";
import type { ReplyHead } from "../dialect.ts";
import { defined, readBoolean, readString } from "../fields.ts";
import { decodeKeepAlive } from "../keep-alive.ts";
import { decodeEmbedding } from "../openai-embeddings.ts";
import { quietMetrics } from "./metrics.ts";

/** The body of `POST /api/embed`; undefined: it has no input, and only asks for the model to be loaded. Throws `ApiError` naming the field. */
export function decodeEmbed(body: JsonObject, model: string): EmbeddingRequest | undefined {
  const { input } = body;
  if (input === undefined || input === null || input === "" || (Array.isArray(input) && input.length === 0))
    return undefined;
  const { request } = decodeEmbedding({ input, dimensions: body.dimensions, keep_alive: body.keep_alive }, model);
  // Unlike everywhere else here, Ollama's callers have asked for a cut where they have not asked for an error.
  return { ...request, truncate: readBoolean(body, "truncate") ?? true };
}

/** The body of `POST /api/embeddings`, the older form for one text; undefined as of `decodeEmbed`. */
export function decodeOldEmbed(body: JsonObject, model: string): EmbeddingRequest | undefined {
  const prompt = readString(body, "prompt") ?? "";
  if (prompt === "") return undefined;
  return { model, input: [prompt], truncate: true, ...defined({ keepAlive: decodeKeepAlive(body) }) };
}

/** `embeddings` undefined: of a call without input. Throws where there is not one vector for each of the `count` inputs. */
export function encodeEmbed(embeddings: Embeddings | undefined, count: number, head: ReplyHead): JsonObject {
  return {
    model: head.model,
    embeddings: vectorsOf(embeddings, count),
    ...quietMetrics(head, embeddings),
  };
}

/** The reply of `/api/embeddings`. Throws as `encodeEmbed`. */
export function encodeOldEmbed(embeddings: Embeddings | undefined, count: number): JsonObject {
  return { embedding: vectorsOf(embeddings, count)[0] ?? [] };
}

function vectorsOf(embeddings: Embeddings | undefined, count: number): number[][] {
  const vectors = embeddings?.vectors ?? [];
  if (vectors.length === count) return vectors;
  throw new ApiError("upstream_error", `${vectors.length} embeddings came for ${count} inputs`);
}
