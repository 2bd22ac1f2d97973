import type { RerankRequest, RerankResult } from "../core/chat.ts";
import { ApiError } from "../core/errors.ts";
import { isObject, type Json, type JsonObject } from "../core/json.ts";
import { invalidValue, readArray, readBoolean, readInteger, readString, required, wrongType } from "./fields.ts";

/** What of the result the caller wants to see. */
export interface RerankView {
  readonly topN: number;
  readonly withDocuments: boolean;
}

/** The body of `POST /v1/rerank` in the form of Jina and Cohere. Throws `ApiError` naming the field. */
export function decodeRerank(body: JsonObject, model: string): { request: RerankRequest; view: RerankView } {
  const query = required(readString(body, "query"), "query");
  // `texts` is the name that Hugging Face's server gave them, which llama-server also takes.
  const key = body.documents === undefined && body.texts !== undefined ? "texts" : "documents";
  const list = required(readArray(body, key), key);
  if (list.length === 0 || list.length > 2048) throw invalidValue(key, "must hold from 1 to 2048 documents");
  const documents = list.map((item, index) => decodeDocument(item, `${key}[${index}]`));
  const topN = readInteger(body, "top_n", { min: 1 }) ?? documents.length;
  const withDocuments = readBoolean(body, "return_documents") ?? readBoolean(body, "return_text") ?? false;
  return { request: { model, query, documents }, view: { topN, withDocuments } };
}

/** Scores → results, best first. */
export function encodeRerank(result: RerankResult, request: RerankRequest, view: RerankView, model: string): Json {
  const { scores, promptTokens } = result;
  const count = request.documents.length;
  if (scores.length !== count)
    throw new ApiError("upstream_error", `${scores.length} scores came for ${count} documents`);
  const ranked = scores.map((score, index) => ({ index, relevance_score: score }));
  ranked.sort((left, right) => right.relevance_score - left.relevance_score);
  const results = ranked
    .slice(0, view.topN)
    .map((one) => (view.withDocuments ? { ...one, document: { text: request.documents[one.index] } } : one));
  return { object: "list", model, results, usage: { prompt_tokens: promptTokens, total_tokens: promptTokens } };
}

function decodeDocument(item: Json, at: string): string {
  if (typeof item === "string") return item;
  if (isObject(item)) return required(readString(item, "text", at), `${at}.text`);
  throw wrongType(at, "a string or an object with `text`", item);
}
