import type { ChatEvent, ChatRequest, CompletionRequest } from "../core/chat.ts";
import type { Engine } from "../core/engine.ts";
import { ApiError } from "../core/errors.ts";
import { isObject, type JsonObject } from "../core/json.ts";
import type { Model } from "../core/model.ts";
import type { Health } from "../core/provider.ts";
import { clampMaxTokens, OpenAiClient } from "./openai-client.ts";
import { listModels, probe } from "./openai-models.ts";
import { upstreamError } from "./upstream-error.ts";
import type { Upstream } from "./upstream.ts";

/**
 * LMDeploy's `api_server` and its proxy. Read as events, for its `stop` cannot be used: it drops strings of more than
 * one token in silence and stops too early at others (lmdeploy/messages.py). They are enforced here.
 */
export class LmDeploy implements Engine {
  readonly name: string;
  readonly kind = "lmdeploy";
  readonly #upstream: Upstream;
  readonly #client: OpenAiClient;
  /** Context lengths by model, which only its refusals tell. */
  readonly #learnt = new Map<string, number>();

  constructor(upstream: Upstream) {
    this.name = upstream.name;
    this.#upstream = upstream;
    this.#client = new OpenAiClient(upstream, { toolChoice: "unknown", maxStops: 0, adapt, mend: clampMaxTokens });
  }

  chat(request: ChatRequest, signal: AbortSignal): AsyncIterable<ChatEvent> {
    return this.#learning(request.model, this.#client.chat(withEffort(request), signal));
  }

  complete(request: CompletionRequest, signal: AbortSignal): AsyncIterable<ChatEvent> {
    return this.#learning(request.model, this.#client.complete(request, signal));
  }

  async tokenize(model: string, text: string, signal: AbortSignal): Promise<number[]> {
    const body = JSON.stringify({ model, input: text, do_preprocess: false, add_bos: false });
    const reply = await this.#upstream.send({ method: "POST", path: "/v1/encode", body, signal });
    if (reply.status !== 200) throw upstreamError(this.name, reply.status, await reply.bytes(), reply.headers);
    const json = await reply.json();
    const ids = isObject(json) && Array.isArray(json.input_ids) ? json.input_ids.flat() : undefined;
    if (ids?.every((id) => typeof id === "number") !== true) {
      throw new ApiError("upstream_error", `${this.name} answered /v1/encode without input_ids`, {
        provider: this.name,
      });
    }
    return ids as number[];
  }

  async models(signal?: AbortSignal): Promise<Model[]> {
    const models = await listModels(this.#upstream, signal);
    return models.map((model) => {
      const contextLength = this.#learnt.get(model.id);
      return contextLength === undefined ? model : { ...model, contextLength };
    });
  }

  health(signal?: AbortSignal): Promise<Health> {
    return probe(this.#upstream, "/health", signal);
  }

  async close(): Promise<void> {
    await this.#upstream.close();
  }

  async *#learning(model: string, events: AsyncIterable<ChatEvent>): AsyncGenerator<ChatEvent> {
    try {
      yield* events;
    } catch (error) {
      const told = error instanceof ApiError && isObject(error.cause) ? error.cause.contextLength : undefined;
      if (typeof told === "number") this.#learnt.set(model, told);
      throw error;
    }
  }
}

/** It refuses every effort but these four, and switches thinking off by a variable of the template. */
function withEffort(request: ChatRequest): ChatRequest {
  const { reasoningEffort: effort, ...rest } = request;
  if (effort === undefined) return request;
  if (effort === "none") return { ...rest, templateVariables: { enable_thinking: false, ...rest.templateVariables } };
  const mapped = (
    { minimal: "low", low: "low", medium: "medium", high: "high", xhigh: "max", max: "max" } as Record<string, string>
  )[effort];
  return mapped === undefined ? rest : { ...rest, reasoningEffort: mapped };
}

function adapt(body: JsonObject): JsonObject {
  // A session id that is in use is refused, and nobody frees it; zero is outside of its range for top_p.
  const { session_id: _, repeat_penalty: __, prompt_cache_key: ___, ...rest } = body;
  return rest.top_p === 0 ? { ...rest, top_p: 0.001 } : rest;
}
