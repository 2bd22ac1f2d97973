import type { ChatRequest } from "../core/chat.ts";
import { ApiError } from "../core/errors.ts";
import { isObject, type Json, type JsonObject } from "../core/json.ts";
import type { Provider } from "../core/provider.ts";
import { encodeRequest } from "../dialects/openai-chat/request.ts";
import { upstreamError } from "./upstream-error.ts";
import type { Upstream } from "./upstream.ts";

type CountTokens = NonNullable<Provider["countTokens"]>;

/** Counts as vLLM does: its `/tokenize` takes a whole chat. Throws `ApiError`. */
export function countedByChat(upstream: Upstream): CountTokens {
  return async (request, signal) => {
    const { count } = await ask(upstream, "/tokenize", toPrompt(request), signal);
    if (typeof count === "number") return count;
    throw uncounted(upstream, "/tokenize");
  };
}

/** Counts as llama-server does: its `/apply-template` makes a text of a chat, its `/tokenize` tokens of that. Throws `ApiError`. */
export function countedByText(upstream: Upstream): CountTokens {
  return async (request, signal) => {
    const { prompt } = await ask(upstream, "/apply-template", toPrompt(request), signal);
    if (typeof prompt !== "string") throw uncounted(upstream, "/apply-template");
    const text = { content: prompt, add_special: true };
    const { tokens } = await ask(upstream, "/tokenize", text, signal);
    if (Array.isArray(tokens)) return tokens.length;
    throw uncounted(upstream, "/tokenize");
  };
}

/** What of a chat becomes its prompt. */
function toPrompt(request: ChatRequest): JsonObject {
  const { model, messages, tools, chat_template_kwargs: variables } = encodeRequest(request);
  return {
    model,
    messages,
    ...(tools === undefined || request.toolChoice === "none" ? {} : { tools }),
    ...(variables === undefined ? {} : { chat_template_kwargs: variables }),
  };
}

async function ask(upstream: Upstream, path: string, json: JsonObject, signal: AbortSignal): Promise<JsonObject> {
  const reply = await upstream.send({ method: "POST", path, body: JSON.stringify(json), signal });
  if (reply.status !== 200) throw upstreamError(upstream.name, reply.status, await reply.bytes(), reply.headers);
  const answer: Json = await reply.json();
  if (isObject(answer)) return answer;
  throw uncounted(upstream, path);
}

function uncounted({ name }: Upstream, path: string): ApiError {
  return new ApiError("upstream_error", `${name} answered ${path} with no count`, { provider: name });
}
