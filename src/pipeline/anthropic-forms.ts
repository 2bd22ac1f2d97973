import { isStream, toBytes } from "../core/bytes.ts";
import { type Call, type Handler, jsonReply, type Middleware, type Reply } from "../core/call.ts";
import { isObject, type Json, type JsonObject } from "../core/json.ts";
import { decodeModelPage, encodeModelInfo, encodeModelPage } from "../dialects/anthropic-messages/models.ts";
import { speaksAnthropic } from "../dialects/failures.ts";

/**
 * What clients of Anthropic's ask beside messages: the models in its form, where its headers ask for them, and whether
 * anybody is there (`/api/hello`). Each of its answers tells the request's id by the name that its SDK reads.
 */
export const anthropicForms: Middleware = (call, next: Handler) => {
  const read = call.method === "GET" || call.method === "HEAD";
  if (read && call.path === "/api/hello") return Promise.resolve(jsonReply(200, { message: "hello" }));
  return speaksAnthropic(call) ? withRequestId(call, read ? answerModels(call, next) : next(call)) : next(call);
};

async function withRequestId(call: Call, pending: Promise<Reply>): Promise<Reply> {
  const reply = await pending;
  return { ...reply, headers: { ...reply.headers, "request-id": call.id } };
}

async function answerModels(call: Call, next: Handler): Promise<Reply> {
  const listed = call.path === "/v1/models" || call.path === "/v1/models/";
  const page = listed ? decodeModelPage(call.search) : undefined;
  const reply = await next(call.with({ search: "" }));
  const json = reply.status === 200 ? readJson(reply) : undefined;
  if (json === undefined) return reply;
  if (page === undefined) return jsonReply(200, encodeModelInfo(json), reply.headers);
  const cards = Array.isArray(json.data) ? json.data.filter(isObject) : [];
  return jsonReply(200, encodeModelPage(cards, page), reply.headers);
}

function readJson({ body, encoding }: Reply): JsonObject | undefined {
  if (body === null || isStream(body)) return undefined;
  const json = JSON.parse(toBytes(body, encoding).toString()) as Json;
  return isObject(json) ? json : undefined;
}
