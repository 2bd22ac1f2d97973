import { ApiError } from "../core/errors.ts";
import { isObject, type Json, type JsonObject } from "../core/json.ts";
import type { Log } from "../core/log.ts";
import type { Model, ModelWeights } from "../core/model.ts";
import { configuredContext, type ProviderSettings } from "./settings.ts";
import { upstreamError } from "./upstream-error.ts";
import type { Upstream } from "./upstream.ts";
import { waitFor } from "./wait.ts";

/** What `/api/show` tells of a model. */
export interface OllamaDetails {
  /** `completion tools insert vision embedding thinking …`; absent with servers too old to tell. */
  readonly capabilities: readonly string[] | undefined;
  /** Tokens of context that it was trained for. */
  readonly trained: number | undefined;
  /** `num_ctx` of its Modelfile. */
  readonly fixed: number | undefined;
  /** gpt-oss thinks at levels and cannot be switched off. */
  readonly levels: boolean;
}

/** A model that is in memory. */
interface Loaded {
  /** Tokens. */
  readonly context: number | undefined;
  readonly memory?: Pick<Model, "memoryBytes" | "gpuBytes" | "expiresAt">;
}

/** What an agent's prompt needs with room to work; Ollama's own default on a small card is 4096, which truncates it. */
const defaultContext = 32768;
/** 2200-01-01, in milliseconds since 1970. */
const farAway = 7_258_118_400_000;
const listLifetime = 3000;
const detailsLifetime = 60_000;
const parallelShows = 4;
/** Milliseconds for an answer about models, which needs no computing. */
const patience = 10_000;

/** What one Ollama has, asked for as rarely as is sound. */
export class OllamaModels {
  readonly #upstream: Upstream;
  readonly #settings: ProviderSettings;
  readonly #log: Log;
  readonly #details = new Map<string, { until: number; digest: string | undefined; value: Promise<OllamaDetails> }>();
  /** What each model is asked for, fixed at its first use: another value would load it anew. */
  readonly #numCtx = new Map<string, number>();
  readonly #asked = new Set<string>();
  /** What `/api/ps` tells of the models that are loaded. */
  #loaded = new Map<string, Loaded>();
  #known: Model[] = [];
  #list: { until: number; value: Promise<Model[]> } | undefined;

  constructor(upstream: Upstream, settings: ProviderSettings, log: Log) {
    this.#upstream = upstream;
    this.#settings = settings;
    this.#log = log;
  }

  /** All models; asked for once in a few seconds, however many ask. */
  list(signal?: AbortSignal): Promise<Model[]> {
    const now = performance.now();
    if (this.#list !== undefined && this.#list.until > now) return waitFor(this.#list.value, signal);
    const value = this.#read();
    const entry = { until: now + listLifetime, value };
    this.#list = entry;
    value.catch(() => {
      if (this.#list === entry) this.#list = undefined;
    });
    return waitFor(value, signal);
  }

  /** Throws `model_not_found`. With servers that do not tell, all is unknown. */
  details(model: string, signal?: AbortSignal, digest?: string): Promise<OllamaDetails> {
    const known = this.#details.get(model);
    if (known !== undefined && (digest === undefined ? known.until > performance.now() : known.digest === digest))
      return waitFor(known.value, signal);
    // What is loaded counts for the choice of `num_ctx`, which is made once.
    const first = digest === undefined && !this.#numCtx.has(model);
    const value = first ? this.#readLoaded().then(() => this.#show(model)) : this.#show(model);
    const entry = { until: performance.now() + detailsLifetime, digest, value };
    this.#details.set(model, entry);
    value.catch(() => {
      if (this.#details.get(model) === entry) this.#details.delete(model);
    });
    return waitFor(value, signal);
  }

  /**
   * The one `num_ctx` for a model: the configured one, else its Modelfile's, else what it was trained for up to 32768 or
   * what it is loaded with, if that is more.
   */
  numCtx(model: string, details: OllamaDetails): number {
    this.#asked.add(model);
    const known = this.#numCtx.get(model);
    if (known !== undefined) return known;
    const value = this.#choose(model, details);
    this.#numCtx.set(model, value);
    const loaded = this.#loaded.get(model)?.context;
    if (loaded !== undefined && loaded !== value) {
      this.#log.warn(
        { provider: this.#upstream.name, model, loaded, numCtx: value },
        "Ollama must load the model anew with our context length",
      );
    }
    return value;
  }

  /** As far as is known: whether a request has to wait until the model is in memory. */
  isLoaded(model: string): boolean {
    return this.#loaded.has(model);
  }

  /** It has answered. */
  noteLoaded(model: string): void {
    if (!this.#loaded.has(model)) this.#loaded.set(model, { context: this.#numCtx.get(model) });
  }

  /** Ids of the models that have a capability, as of the last list. */
  able(capability: "tools" | "vision"): string[] {
    return this.#known.filter((model) => model.capabilities[capability]).map((model) => model.id);
  }

  #choose(model: string, { trained, fixed }: OllamaDetails): number {
    const wanted =
      configuredContext(this.#settings, model) ??
      fixed ??
      Math.max(this.#loaded.get(model)?.context ?? 0, Math.min(trained ?? defaultContext, defaultContext));
    return trained === undefined ? wanted : Math.min(wanted, trained);
  }

  async #read(): Promise<Model[]> {
    const [tags] = await Promise.all([this.#ask("GET", "/api/tags"), this.#readLoaded()]);
    const items = (isObject(tags) && Array.isArray(tags.models) ? tags.models : []).filter(isObject);
    const models: Model[] = [];
    let next = 0;
    const work = async (): Promise<void> => {
      for (let index = next++; index < items.length; index = next++)
        models[index] = await this.#toModel(items[index] as JsonObject);
    };
    await Promise.all(Array.from({ length: parallelShows }, work));
    this.#known = models;
    return models;
  }

  async #toModel(item: JsonObject): Promise<Model> {
    const id = String(item.model ?? item.name);
    const digest = typeof item.digest === "string" ? item.digest : "";
    // One model whose details cannot be read must not hide the others.
    const details = await this.details(id, undefined, digest).catch(() => unknown);
    const capabilities =
      details.capabilities ?? (Array.isArray(item.capabilities) ? item.capabilities : ["completion"]);
    const created = Date.parse(String(item.modified_at));
    return {
      id,
      contextLength: this.#effective(id, details),
      capabilities: {
        chat: capabilities.includes("completion"),
        tools: capabilities.includes("tools"),
        vision: capabilities.includes("vision"),
        reasoning: capabilities.includes("thinking"),
        embeddings: capabilities.includes("embedding"),
        rerank: false,
      },
      state: this.#loaded.has(id) ? "loaded" : "unloaded",
      ownedBy: "ollama",
      ...this.#loaded.get(id)?.memory,
      weights: toWeights(item, capabilities.includes("insert")),
      ...(Number.isFinite(created) ? { created: Math.floor(created / 1000) } : {}),
    };
  }

  /** What a request of ours gets. Once we have asked, a smaller loaded context is all that the server could give. */
  #effective(model: string, details: OllamaDetails): number {
    const ours = this.#numCtx.get(model) ?? this.#choose(model, details);
    const loaded = this.#loaded.get(model)?.context;
    if (loaded === undefined || !this.#asked.has(model) || loaded === ours) return ours;
    this.#log.warn(
      { provider: this.#upstream.name, model, loaded, numCtx: ours },
      "another client of this Ollama has loaded the model with another context length: each change loads it anew",
    );
    return Math.min(loaded, ours);
  }

  async #readLoaded(): Promise<void> {
    // Clones of Ollama may lack this route, which is no reason to fail.
    const running = await this.#ask("GET", "/api/ps").catch((error: unknown) => {
      if (error instanceof ApiError && error.code !== "unknown_url" && error.code !== "upstream_error") throw error;
      return null;
    });
    const items = (isObject(running) && Array.isArray(running.models) ? running.models : []).filter(isObject);
    this.#loaded = new Map(items.map((item) => [String(item.model ?? item.name), toLoaded(item)]));
  }

  async #show(model: string): Promise<OllamaDetails> {
    let json: Json;
    try {
      json = await this.#ask("POST", "/api/show", { model });
    } catch (error) {
      if (error instanceof ApiError && (error.code === "unknown_url" || error.code === "upstream_error"))
        return unknown;
      throw error;
    }
    return isObject(json) ? toDetails(json) : unknown;
  }

  async #ask(method: "GET" | "POST", path: string, body?: JsonObject): Promise<Json> {
    const { signal } = new AbortController();
    const reply = await this.#upstream.send({
      method,
      path,
      body: body === undefined ? null : JSON.stringify(body),
      signal,
      firstByteTimeout: patience,
    });
    if (reply.status !== 200)
      throw upstreamError(this.#upstream.name, reply.status, await reply.bytes(), reply.headers);
    return reply.json();
  }
}

const unknown: OllamaDetails = { capabilities: undefined, trained: undefined, fixed: undefined, levels: false };

function toDetails(json: JsonObject): OllamaDetails {
  const info = isObject(json.model_info) ? json.model_info : {};
  const family = String(info["general.architecture"] ?? (isObject(json.details) ? json.details.family : ""));
  const fixed = typeof json.parameters === "string" ? /^\s*num_ctx\s+(\d+)/m.exec(json.parameters)?.[1] : undefined;
  return {
    capabilities: Array.isArray(json.capabilities) ? json.capabilities.map(String) : undefined,
    trained: positive(info[`${family}.context_length`]),
    fixed: fixed === undefined ? undefined : positive(Number(fixed)),
    levels: /^gpt-?oss/.test(family),
  };
}

function toLoaded({ context_length: context, size, size_vram: inGpu, expires_at: until }: JsonObject): Loaded {
  const memoryBytes = positive(size);
  const expiresAt = Date.parse(String(until));
  return {
    context: positive(context),
    memory: {
      ...(memoryBytes === undefined ? {} : { memoryBytes }),
      ...(typeof inGpu === "number" ? { gpuBytes: inGpu } : {}),
      // What stays for ever leaves in centuries there.
      ...(expiresAt < farAway ? { expiresAt } : {}),
    },
  };
}

/** An entry of `/api/tags`. */
function toWeights(item: JsonObject, fillsGaps: boolean): ModelWeights {
  const details = isObject(item.details) ? item.details : {};
  const { family, parameter_size: parameters, quantization_level: quantization } = details;
  const bytes = positive(item.size);
  const count = toCount(String(parameters));
  return {
    fillsGaps,
    ...(typeof family === "string" && family !== "" ? { architecture: family } : {}),
    ...(typeof quantization === "string" && quantization !== "" ? { quantization } : {}),
    ...(count === undefined ? {} : { parameters: count }),
    ...(bytes === undefined ? {} : { bytes }),
    ...(typeof item.digest === "string" ? { digest: item.digest.replace(/^sha256:/, "") } : {}),
  };
}

/** `8.2B` → 8 200 000 000. */
function toCount(text: string): number | undefined {
  const [, figure = "", unit = ""] = /^(\d{1,6}(?:\.\d{1,6})?)([KMBT])$/.exec(text) ?? [];
  const scale = { K: 1e3, M: 1e6, B: 1e9, T: 1e12 }[unit];
  return scale === undefined ? undefined : Math.round(Number(figure) * scale);
}

function positive(value: Json | undefined): number | undefined {
  return typeof value === "number" && Number.isInteger(value) && value > 0 ? value : undefined;
}
