import { parseSse } from "../wire/sse.ts";
import { isObject, type Json, type JsonObject } from "../core/json.ts";

/** Where a chat goes. */
export interface Server {
  /** e.g. `http://127.0.0.1:18080` */
  readonly url: string;
  readonly key: string | undefined;
}

export interface Turn {
  readonly role: "system" | "user" | "assistant";
  readonly content: string;
}

/** A piece of an answer, or how it went. */
export type Said =
  | { readonly type: "text" | "reasoning"; readonly text: string }
  | { readonly type: "end"; readonly tokens: number; readonly tokensPerSecond: number | undefined };

/** The server said no, or cannot be understood; the message is for the user. */
export class ChatError extends Error {}

/** Cards of all models of a server, its own order. Throws `ChatError`. */
export async function listCards(server: Server, signal: AbortSignal): Promise<JsonObject[]> {
  const answer = await readJson(await ask(server, "/v1/models", { signal }));
  return Array.isArray(answer["data"]) ? answer["data"].filter(isObject) : [];
}

/** The card of a model under any name that the server takes, listed or not. Throws `ChatError`. */
export async function findCard(server: Server, name: string, signal: AbortSignal): Promise<JsonObject> {
  return readJson(await ask(server, `/v1/models/${encodeURIComponent(name)}`, { signal }));
}

/** A model that can be chatted with. */
export interface ChatModel {
  readonly id: string;
  readonly card: JsonObject;
}

/** The models that can be chatted with, the server's own order. Throws `ChatError`. */
export async function listModels(server: Server, signal: AbortSignal): Promise<ChatModel[]> {
  const listed = await listCards(server, signal);
  return listed.flatMap((card) => {
    const { id, capabilities, state } = card;
    const chats = state !== "failed" && !(isObject(capabilities) && capabilities["chat"] === false);
    return chats && typeof id === "string" ? [{ id, card }] : [];
  });
}

/** Streams the answer to a conversation. Throws `ChatError`, and the signal's reason when it is aborted. */
export async function* streamChat(
  server: Server,
  request: { readonly model: string; readonly messages: readonly Turn[] },
  signal: AbortSignal,
): AsyncGenerator<Said> {
  const body = JSON.stringify({ ...request, stream: true, stream_options: { include_usage: true } });
  const reply = await ask(server, "/v1/chat/completions", { method: "POST", body, signal });
  if (reply.body === null) throw new ChatError("the server sent an empty answer");
  let tokens = 0;
  let tokensPerSecond: number | undefined;
  for await (const { data } of parseSse(reply.body)) {
    if (data === "[DONE]") break;
    const chunk = parse(data);
    if (isObject(chunk["error"])) throw new ChatError(String(chunk["error"]["message"]));
    const [choice] = Array.isArray(chunk["choices"]) ? chunk["choices"].filter(isObject) : [];
    const delta = isObject(choice?.["delta"]) ? choice["delta"] : {};
    const { reasoning_content: reasoning, content } = delta;
    if (typeof reasoning === "string" && reasoning !== "") yield { type: "reasoning", text: reasoning };
    if (typeof content === "string" && content !== "") yield { type: "text", text: content };
    if (isObject(chunk["usage"])) tokens = Number(chunk["usage"]["completion_tokens"] ?? 0);
    if (isObject(chunk["timings"])) tokensPerSecond = Number(chunk["timings"]["predicted_per_second"]);
  }
  yield { type: "end", tokens, tokensPerSecond };
}

async function ask({ url, key }: Server, path: string, init: RequestInit): Promise<Response> {
  const headers = {
    "content-type": "application/json",
    ...(key === undefined ? {} : { authorization: `Bearer ${key}` }),
  };
  let reply: Response;
  try {
    reply = await fetch(url + path, { ...init, headers });
  } catch (error) {
    init.signal?.throwIfAborted();
    throw new ChatError(`${url} does not answer; is lair serve running there?`, { cause: error });
  }
  if (reply.ok) return reply;
  const answer = parse(await reply.text());
  const message = isObject(answer["error"]) ? answer["error"]["message"] : undefined;
  throw new ChatError(typeof message === "string" ? message : `${url} answered ${reply.status}`);
}

async function readJson(reply: Response): Promise<JsonObject> {
  return parse(await reply.text());
}

function parse(text: string): JsonObject {
  try {
    const value = JSON.parse(text) as Json;
    return isObject(value) ? value : {};
  } catch {
    return {};
  }
}
