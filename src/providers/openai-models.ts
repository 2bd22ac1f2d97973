import { isObject, type Json, type JsonObject } from "../core/json.ts";
import type { Capabilities, Model } from "../core/model.ts";
import type { Health } from "../core/provider.ts";
import { upstreamError } from "./upstream-error.ts";
import type { Upstream } from "./upstream.ts";

/** `GET /v1/models` of any OpenAI-compatible server, with what each tells beyond OpenAI's four fields. */
export async function listModels(upstream: Upstream, signal?: AbortSignal): Promise<Model[]> {
  return (await listCards(upstream, signal)).map(toModel);
}

/** A model as its server describes it. */
type ModelCard = JsonObject & { readonly id: string };

/** `GET /v1/models` as the server says it. */
export async function listCards(
  upstream: Upstream,
  signal: AbortSignal = new AbortController().signal,
): Promise<ModelCard[]> {
  const reply = await upstream.send({ method: "GET", path: "/v1/models", signal });
  if (reply.status !== 200) throw upstreamError(upstream.name, reply.status, await reply.bytes(), reply.headers);
  const json = await reply.json();
  const cards = isObject(json) && Array.isArray(json.data) ? json.data : Array.isArray(json) ? json : [];
  return cards.filter((card): card is ModelCard => isObject(card) && typeof card.id === "string" && card.id !== "");
}

/** Whether a server answers at all: `GET path` with any status below 500 but a refused key. Never throws. */
export async function probe(
  upstream: Upstream,
  path: string,
  signal: AbortSignal = new AbortController().signal,
): Promise<Health> {
  try {
    const reply = await upstream.send({ method: "GET", path, signal });
    const body = await reply.bytes();
    if (reply.status < 400 || reply.status === 404) return { ok: true };
    return { ok: false, detail: upstreamError(upstream.name, reply.status, body, reply.headers).message };
  } catch (error) {
    return { ok: false, detail: error instanceof Error ? error.message : String(error) };
  }
}

/** What a card says, in our words. */
export function toModel(card: ModelCard): Model {
  const { id } = card;
  const contextLength = contextOf(card);
  const maxOutput = firstCount(card.max_output_tokens, card.max_completion_tokens, card.max_output);
  const created = firstCount(card.created);
  return {
    id,
    capabilities: capabilitiesOf(card, id),
    state: stateOf(card),
    ...(contextLength === undefined ? {} : { contextLength }),
    ...(maxOutput === undefined ? {} : { maxOutput }),
    ...(created === undefined ? {} : { created }),
    ...(typeof card.owned_by === "string" ? { ownedBy: card.owned_by } : {}),
  };
}

/** llama-server (`meta.n_ctx`: in force for each slot), vLLM, LM Studio, and the names of hosted servers. */
function contextOf(card: JsonObject): number | undefined {
  const meta = isObject(card.meta) ? card.meta : {};
  return firstCount(
    meta.n_ctx,
    card.max_model_len,
    card.loaded_context_length,
    card.context_length,
    card.context_window,
    card.max_context_length,
    card.max_input_tokens,
    meta.n_ctx_train,
  );
}

function capabilitiesOf(card: JsonObject, id: string): Capabilities {
  const told = listOf(card.capabilities);
  const inputs = isObject(card.architecture)
    ? listOf(card.architecture.input_modalities)
    : listOf(card.input_modalities);
  const type = typeof card.type === "string" ? card.type : "";
  // Servers that list embedding models beside others do not mark them: their names do.
  const embeddings =
    told.has("embedding") ||
    told.has("embeddings") ||
    type.startsWith("embedding") ||
    (told.size === 0 && /embed|(?:^|[/-])(?:bge|e5|gte)-/i.test(id));
  const rerank = told.has("rerank") || type === "rerank" || /rerank/i.test(id);
  const flags = isObject(card.capabilities) ? card.capabilities : {};
  return {
    chat: flag(flags.chat) ?? (!embeddings && !rerank),
    tools: flag(flags.tools) ?? (!embeddings && !rerank),
    vision: told.has("vision") || told.has("multimodal") || inputs.has("image") || type === "vlm",
    reasoning: told.has("reasoning") || told.has("thinking"),
    embeddings: embeddings && !rerank,
    rerank,
  };
}

function stateOf(card: JsonObject): Model["state"] {
  const state = isObject(card.status) ? card.status.value : (card.state ?? card.status);
  if (state === "loaded" || state === "loading" || state === "unloaded" || state === "failed") return state;
  return state === "not-loaded" ? "unloaded" : "available";
}

function flag(value: Json | undefined): boolean | undefined {
  return typeof value === "boolean" ? value : undefined;
}

/** Capabilities as a list, or as an object of booleans (ours, Mistral's). */
function listOf(value: Json | undefined): Set<string> {
  if (Array.isArray(value)) return new Set(value.map(String));
  return new Set(isObject(value) ? Object.keys(value).filter((key) => value[key] === true) : []);
}

function firstCount(...values: (Json | undefined)[]): number | undefined {
  return values.find((value): value is number => typeof value === "number" && Number.isInteger(value) && value > 0);
}
