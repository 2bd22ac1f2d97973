import { toIterable } from "../core/bytes.ts";
import type { ChatEvent, ChatRequest, CompletionRequest, EmbeddingRequest, Embeddings } from "../core/chat.ts";
import type { Engine } from "../core/engine.ts";
import { ApiError } from "../core/errors.ts";
import { isObject, type Json, type JsonObject } from "../core/json.ts";
import type { Log } from "../core/log.ts";
import type { Model } from "../core/model.ts";
import type { Health, PullProgress } from "../core/provider.ts";
import { settlesWithin } from "../core/within.ts";
import { estimatePrompt, estimateTokens } from "../dialects/estimate.ts";
import { parseNdjson } from "../wire/ndjson.ts";
import { OllamaModels } from "./ollama-models.ts";
import { type OllamaOptions, toChatBody, toEvents, toGenerateBody } from "./ollama-wire.ts";
import type { ProviderSettings } from "./settings.ts";
import { enforceToolChoice } from "./tool-choice.ts";
import { errorInReply, upstreamError } from "./upstream-error.ts";
import type { Upstream } from "./upstream.ts";

/**
 * Ollama over its native API. Its OpenAI route cannot set the context size, cuts a long prompt in silence, swallows
 * errors in the middle of a stream and overrides the model's own sampling (docs/decisions/0005-ollama-native.md).
 */
export class Ollama implements Engine {
  readonly name: string;
  readonly kind = "ollama";
  readonly #upstream: Upstream;
  readonly #models: OllamaModels;
  readonly #keepAlive: string | number | undefined;
  readonly #log: Log;

  constructor(upstream: Upstream, settings: ProviderSettings, log: Log) {
    this.name = upstream.name;
    this.#upstream = upstream;
    this.#models = new OllamaModels(upstream, settings, log);
    this.#keepAlive = toKeepAlive(settings.keepAlive);
    this.#log = log;
  }

  chat(request: ChatRequest, signal: AbortSignal): AsyncIterable<ChatEvent> {
    return enforceToolChoice(this.name, request, "none", (asked) => this.#chat(asked, signal));
  }

  async *complete(request: CompletionRequest, signal: AbortSignal): AsyncGenerator<ChatEvent> {
    const { prompt } = request;
    if (typeof prompt !== "string") throw unsupported(this.name, "prompt", "takes prompts as text, not as token ids");
    refuseLogitBias(this.name, request);
    const options = await this.#options(request.model, signal);
    yield* this.#generate(
      "/api/generate",
      toGenerateBody({ ...request, prompt }, options),
      estimateTokens(prompt.length),
      signal,
    );
  }

  async embed(request: EmbeddingRequest, signal: AbortSignal): Promise<Embeddings> {
    const input = request.input.map((item) => {
      if (typeof item !== "string") throw unsupported(this.name, "input", "takes texts, not token ids");
      return item;
    });
    const body: JsonObject = {
      model: request.model,
      input,
      truncate: request.truncate ?? false,
      dimensions: request.dimensions,
      keep_alive: request.keepAlive ?? this.#keepAlive,
    };
    const reply = await this.#post("/api/embed", body, signal);
    const json = await reply.json();
    const vectors = isObject(json) && Array.isArray(json.embeddings) ? (json.embeddings as number[][]) : undefined;
    if (!isObject(json) || vectors?.length !== input.length) {
      throw new ApiError("upstream_error", `${this.name} answered without one embedding for each input`, {
        provider: this.name,
      });
    }
    const counted = json.prompt_eval_count;
    return {
      vectors,
      promptTokens:
        typeof counted === "number" && counted > 0
          ? counted
          : input.reduce((sum, text) => sum + estimateTokens(text.length), 0),
    };
  }

  /** With the context that chats ask for: with another one it would be loaded again by the first of them. */
  async load(model: string, signal: AbortSignal, keepAlive?: number): Promise<void> {
    const { capabilities } = await this.#models.details(model, signal);
    const { numCtx, keepAlive: usual } = await this.#options(model, signal);
    const stay = { keep_alive: keepAlive ?? usual };
    const generates = capabilities?.includes("completion") ?? true;
    const reply = generates
      ? await this.#post("/api/generate", { model, stream: false, options: { num_ctx: numCtx }, ...stay }, signal)
      : await this.#post("/api/embed", { model, input: [], ...stay }, signal);
    await reply.bytes();
  }

  async unload(model: string): Promise<void> {
    const { signal } = new AbortController();
    const reply = await this.#post("/api/generate", { model, stream: false, keep_alive: 0 }, signal);
    await reply.bytes();
  }

  /** From Ollama's own library, or a hub, by Ollama itself. */
  async *pullModel(model: string, signal: AbortSignal): AsyncGenerator<PullProgress> {
    const reply = await this.#post("/api/pull", { model, stream: true }, signal);
    for await (const line of parseNdjson(toIterable(reply.body))) {
      const error = errorInReply(this.name, line);
      if (error !== undefined) throw error;
      const progress = toProgress(line);
      if (progress.status === "success") return;
      yield progress;
    }
    throw new ApiError("upstream_error", `${this.name}: the pull ended early`, { provider: this.name });
  }

  async deleteModel(model: string, signal: AbortSignal): Promise<void> {
    const body = JSON.stringify({ model });
    const reply = await this.#upstream.send({ method: "DELETE", path: "/api/delete", body, signal });
    if (reply.status !== 200) throw upstreamError(this.name, reply.status, await reply.bytes(), reply.headers);
    await reply.bytes();
  }

  models(signal?: AbortSignal): Promise<Model[]> {
    return this.#models.list(signal);
  }

  async health(signal: AbortSignal = new AbortController().signal): Promise<Health> {
    try {
      const reply = await this.#upstream.send({ method: "GET", path: "/api/version", signal });
      await reply.bytes();
      return reply.status === 200
        ? { ok: true }
        : { ok: false, detail: upstreamError(this.name, reply.status, "", reply.headers).message };
    } catch (error) {
      return { ok: false, detail: error instanceof Error ? error.message : String(error) };
    }
  }

  async close(): Promise<void> {
    await this.#upstream.close();
  }

  async *#chat(request: ChatRequest, signal: AbortSignal): AsyncGenerator<ChatEvent> {
    refuseLogitBias(this.name, request);
    const options = await this.#options(request.model, signal);
    await this.#refuseIncapable(request, signal);
    yield* this.#generate("/api/chat", toChatBody(request, options), estimatePrompt(request), signal);
  }

  async *#generate(
    path: string,
    body: JsonObject,
    promptEstimate: number,
    signal: AbortSignal,
  ): AsyncGenerator<ChatEvent> {
    const pending = this.#post(path, body, signal);
    // What it refuses, it refuses at once, and says nothing while it loads a model.
    if (!this.#models.isLoaded(String(body.model)) && !(await settlesWithin(pending, 10)))
      yield loading(promptEstimate, Number((body.options as JsonObject).num_ctx));
    const reply = await pending;
    const lines: AsyncIterable<Json> = parseNdjson(toIterable(reply.body));
    for await (const event of toEvents(this.name, lines, promptEstimate)) {
      if (event.type === "finish") {
        this.#models.noteLoaded(String(body.model));
        this.#warnOfTruncation(body, promptEstimate, event.usage.promptTokens);
      }
      yield event;
    }
  }

  async #post(path: string, body: JsonObject, signal: AbortSignal) {
    const reply = await this.#upstream.send({ method: "POST", path, body: JSON.stringify(body), signal });
    if (reply.status !== 200) throw upstreamError(this.name, reply.status, await reply.bytes(), reply.headers);
    return reply;
  }

  async #options(model: string, signal: AbortSignal): Promise<OllamaOptions> {
    const details = await this.#models.details(model, signal);
    const numCtx = this.#models.numCtx(model, details);
    const thinking =
      details.capabilities?.includes("thinking") !== true ? "none" : details.levels ? "levels" : "switch";
    return { numCtx, thinking, ...(this.#keepAlive === undefined ? {} : { keepAlive: this.#keepAlive }) };
  }

  /** Said before the call, in words that name a way out; Ollama's own 400 comes late and differs by version. */
  async #refuseIncapable(request: ChatRequest, signal: AbortSignal): Promise<void> {
    const { capabilities } = await this.#models.details(request.model, signal);
    if (capabilities === undefined) return;
    const pictured = request.messages.findIndex((message) => message.content.some((part) => part.type === "image"));
    const missing =
      request.tools.length > 0 && !capabilities.includes("tools")
        ? "tools"
        : pictured !== -1 && !capabilities.includes("vision")
          ? "vision"
          : undefined;
    if (missing === undefined) return;
    const able = this.#models.able(missing).slice(0, 3);
    const advice = able.length === 0 ? "" : `; models here that do: ${able.join(", ")}`;
    const param = missing === "tools" ? "tools" : `messages[${pictured}].content`;
    throw new ApiError(
      "unsupported_capability",
      `${this.name}: the model ${request.model} does not support ${missing}${advice}`,
      { provider: this.name, param },
    );
  }

  /** Versions that do not know `truncate: false` drop the oldest messages and say nothing: only the count tells. */
  #warnOfTruncation(body: JsonObject, estimate: number, counted: number): void {
    const limit = isObject(body.options) ? Number(body.options.num_ctx) : 0;
    if (counted > limit || estimate < 1.5 * limit) return;
    this.#log.warn(
      { provider: this.name, model: body.model, counted, estimate, numCtx: limit },
      "Ollama seems to have cut the prompt; update it",
    );
  }
}

/** The word that a model is on its way. What was not refused so far is not refused any more, but for a prompt that is too long. */
function loading(promptEstimate: number, numCtx: number): ChatEvent {
  const accepted = 2 * promptEstimate <= numCtx;
  return { type: "progress", phase: "loading", ...(accepted ? { accepted } : {}) };
}

function toProgress(line: Json): PullProgress {
  const { status, digest, total, completed } = isObject(line) ? line : {};
  return {
    status: typeof status === "string" ? status : "",
    ...(typeof digest === "string" ? { digest } : {}),
    ...(typeof total === "number" ? { total } : {}),
    ...(typeof completed === "number" ? { completed } : {}),
  };
}

function refuseLogitBias(provider: string, request: Pick<ChatRequest, "logitBias">): void {
  if (Object.keys(request.logitBias ?? {}).length > 0) throw unsupported(provider, "logit_bias", "has no logit_bias");
}

function unsupported(provider: string, param: string, what: string): ApiError {
  return new ApiError("unsupported_parameter", `${provider} (Ollama) ${what}`, { provider, param });
}

/** A number without a unit is seconds, and must be a number there: the string "-1" is refused (Ollama's Duration). */
function toKeepAlive(value: string | number | undefined): string | number | undefined {
  return typeof value === "string" && /^-?\d+(\.\d+)?$/.test(value.trim()) ? Number(value) : value;
}
