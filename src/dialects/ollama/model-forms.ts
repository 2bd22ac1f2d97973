import { createHash } from "node:crypto";
import { isObject, type Json, type JsonObject } from "../../core/json.ts";

/** A card of `GET /v1/models`. */
type Card = JsonObject;

/** The reply of `GET /api/tags`. */
export function encodeTags(cards: readonly Card[]): JsonObject {
  return {
    models: cards.map((card) => ({ ...identityOf(card), size: bytesOf(card), capabilities: capabilitiesOf(card) })),
  };
}

/** The reply of `GET /api/ps`: the models that are in memory. */
export function encodeRunning(cards: readonly Card[]): JsonObject {
  const loaded = cards.filter(({ state }) => state === "loaded");
  return {
    models: loaded.map((card) => ({
      ...identityOf(card),
      size: figure(card.memory_bytes) ?? bytesOf(card),
      size_vram: figure(card.gpu_bytes) ?? 0,
      // Clients compute with it, and what stays for ever leaves in centuries at Ollama too.
      expires_at: typeof card.expires_at === "string" ? card.expires_at : "2300-01-01T00:00:00Z",
      ...contextOf(card),
    })),
  };
}

/** The reply of `POST /api/show`. */
export function encodeShow(card: Card): JsonObject {
  const { context_length: context } = contextOf(card);
  const { architecture, parameters, license } = weightsOf(card);
  const family = typeof architecture === "string" ? architecture : "unknown";
  const name = String(card.id);
  return {
    license: typeof license === "string" ? license : "",
    modelfile: `FROM ${name}\n`,
    // Where editors look for the context that is in force rather than for the one of the training.
    parameters: [...(context === undefined ? [] : [`num_ctx ${context}`]), ...samplingLines(card)].join("\n"),
    // The model's own is not written in Go's language; editors look for the mark of a gap in it.
    template: canFillGaps(card) ? "{{ .Prompt }}{{ .Suffix }}" : "",
    system: "",
    details: detailsOf(card),
    model_info: {
      "general.architecture": family,
      "general.basename": name,
      ...(figure(parameters) === undefined ? {} : { "general.parameter_count": parameters }),
      ...wordsOf(card),
      ...(context === undefined ? {} : { [`${family}.context_length`]: context }),
    },
    capabilities: capabilitiesOf(card),
    modified_at: modifiedOf(card),
  };
}

/** In Ollama's words and form; of numbers only, for what it has no word for its clients cannot read. */
function samplingLines({ default_parameters: values }: Card): string[] {
  const names = ["temperature", "top_k", "top_p", "min_p", "typical_p", "repeat_penalty", "repeat_last_n", "seed"];
  if (!isObject(values)) return [];
  return names.flatMap((name) => (typeof values[name] === "number" ? [`${name} ${values[name]}`] : []));
}

/** What the model's maker says of it, under the keys of its GGUF file, as Ollama shows them. */
function wordsOf(card: Card): JsonObject {
  const { license, size_label: size, languages } = weightsOf(card);
  const told = {
    "general.description": card.description,
    "general.license": license,
    "general.size_label": size,
    "general.languages": languages,
  };
  return Object.fromEntries(Object.entries(told).filter(([, value]) => value !== undefined));
}

function identityOf(card: Card): JsonObject {
  const { digest } = weightsOf(card);
  return {
    name: card.id,
    model: card.id,
    modified_at: modifiedOf(card),
    digest: typeof digest === "string" ? digest : digestOf(card),
    details: { ...detailsOf(card), ...contextOf(card) },
  };
}

function detailsOf(card: Card): JsonObject {
  const { architecture, parameters, quantization } = weightsOf(card);
  const family = typeof architecture === "string" ? architecture : "";
  return {
    parent_model: "",
    format: family === "" ? "" : "gguf",
    family,
    families: family === "" ? [] : [family],
    parameter_size: toSize(figure(parameters)),
    quantization_level: typeof quantization === "string" ? quantization : "",
  };
}

/** In Ollama's words (types/model/capability.go there). */
function capabilitiesOf(card: Card): string[] {
  const can = isObject(card.capabilities) ? card.capabilities : {};
  const words = {
    chat: "completion",
    embeddings: "embedding",
    tools: "tools",
    vision: "vision",
    reasoning: "thinking",
  };
  const told = Object.entries(words).flatMap(([skill, word]) => (can[skill] === true ? [word] : []));
  return canFillGaps(card) ? [...told, "insert"] : told;
}

function canFillGaps(card: Card): boolean {
  return weightsOf(card).fills_gaps === true;
}

function contextOf({ context_length: length }: Card): { readonly context_length?: number } {
  const tokens = figure(length);
  return tokens === undefined ? {} : { context_length: tokens };
}

function modifiedOf({ created }: Card): string {
  return new Date((figure(created) ?? 0) * 1000).toISOString();
}

function bytesOf(card: Card): number {
  return figure(weightsOf(card).bytes) ?? figure(card.memory_bytes) ?? 0;
}

/** Of what its provider knows of a model, so that it changes when the model does. */
function digestOf(card: Card): string {
  const { id, created, owned_by: owner, weights } = card;
  return createHash("sha256")
    .update(JSON.stringify([id, created, owner, weights]))
    .digest("hex");
}

function weightsOf({ weights }: Card): JsonObject {
  return isObject(weights) ? weights : {};
}

function figure(value: Json | undefined): number | undefined {
  return typeof value === "number" && Number.isFinite(value) && value >= 0 ? value : undefined;
}

/** 8 190 735 360 → `8.2B`. */
function toSize(count: number | undefined): string {
  if (count === undefined || count === 0) return "";
  if (count >= 1e9) return `${(count / 1e9).toFixed(1)}B`;
  return count >= 1e6 ? `${(count / 1e6).toFixed(2)}M` : `${(count / 1e3).toFixed(2)}K`;
}
