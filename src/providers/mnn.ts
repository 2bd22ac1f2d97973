import { type ByteSink, type ByteStream, toIterable } from "../core/bytes.ts";
import type { ChatEvent, ChatRequest, Message, Usage } from "../core/chat.ts";
import type { Engine } from "../core/engine.ts";
import { ApiError } from "../core/errors.ts";
import type { Json, JsonObject } from "../core/json.ts";
import { chatModel, type Model } from "../core/model.ts";
import type { Health } from "../core/provider.ts";
import { estimatePrompt, estimateTokens } from "../dialects/estimate.ts";
import { type DecodeOptions, decodeReply, decodeStream } from "../dialects/openai-chat/client.ts";
import { Gate } from "./gate.ts";
import { probe } from "./openai-models.ts";
import { readPromptedCalls, withPromptedTools } from "./prompted-tools.ts";
import { stopAt } from "./stop-strings.ts";
import { splitThinking } from "./tag-scanner.ts";
import { enforceToolChoice } from "./tool-choice.ts";
import { errorInReply, upstreamError } from "./upstream-error.ts";
import type { Upstream, UpstreamReply } from "./upstream.ts";
import { waitFor } from "./wait.ts";

/** The model that a server has, whatever its name: what the server lists is a constant of its source. */
const onlyModel = "default";
/** What the Android app calls its model; its server is the one that takes images. */
const androidModel = "mnn-local";
/** `mnncli` and the Android app, then `mls`. */
const paths = ["/v1/chat/completions", "/chat/completions"] as const;

/**
 * MNN's servers, which honour `messages` and little else: no stop, limit, tools or usage, one call at a time, and no
 * end of the work when a client leaves. Always streamed, for a whole reply that hits its limit of 512 tokens is empty.
 */
export class Mnn implements Engine {
  readonly name: string;
  readonly kind = "mnn";
  readonly #upstream: Upstream;
  readonly #gate: Gate;
  readonly #decode: DecodeOptions;
  #path: string = paths[0];

  constructor(upstream: Upstream) {
    this.name = upstream.name;
    this.#upstream = upstream;
    this.#gate = new Gate(upstream.origins.length);
    // At the length limit it says nothing: only a model that ends by itself gets "stop".
    this.#decode = { missingFinish: "length", failureIn: (json) => errorInReply(upstream.name, json) };
  }

  async *chat(request: ChatRequest, signal: AbortSignal): AsyncGenerator<ChatEvent> {
    this.#refuse(request);
    yield* enforceToolChoice(this.name, request, "none", (asked) => this.#chat(asked, signal));
  }

  models(): Promise<Model[]> {
    return Promise.resolve([{ id: onlyModel, capabilities: chatModel, state: "available", ownedBy: "mnn" }]);
  }

  health(signal?: AbortSignal): Promise<Health> {
    return probe(this.#upstream, "/v1/models", signal);
  }

  async close(): Promise<void> {
    await this.#upstream.close();
  }

  async *#chat(request: ChatRequest, signal: AbortSignal): AsyncGenerator<ChatEvent> {
    const promptTokens = estimatePrompt(request);
    const count = (said: string): Usage => ({ promptTokens, completionTokens: estimateTokens(said.length) });
    const spoken = splitThinking(this.#speak(withPromptedTools(request), signal));
    const limited = request.maxTokens === undefined ? spoken : limitTokens(spoken, request.maxTokens, promptTokens);
    const stopped = request.stop.length === 0 ? limited : stopAt(limited, request.stop, count);
    yield* request.tools.length === 0 ? stopped : readPromptedCalls(stopped, request.tools);
  }

  /** One answer. The place is kept until the server is done, also when nobody listens any more: it does not stop. */
  async *#speak(request: ChatRequest, signal: AbortSignal): AsyncGenerator<ChatEvent> {
    if (this.#gate.full) yield { type: "progress", phase: "queued", position: this.#gate.ahead + 1 };
    const leave = await this.#gate.enter(signal);
    const reply = await this.#begin(toBody(request), signal, leave);
    const body = toIterable(drained(reply.body, signal, leave));
    if (reply.headers["content-type"]?.includes("application/json") === true)
      yield* decodeReply(await readJson(this.name, body), request, this.#decode);
    else yield* decodeStream(body, request, this.#decode);
  }

  async #begin(body: JsonObject, signal: AbortSignal, leave: () => void): Promise<UpstreamReply> {
    const pending = this.#post(body);
    try {
      return await waitFor(pending, signal);
    } catch (error) {
      if (!signal.aborted) leave();
      else void pending.then((reply) => drained(reply.body, signal, leave).cancel(), leave);
      throw error;
    }
  }

  /** The caller's leaving does not stop the server, so it must not break the connection that tells when it is done. */
  async #post(body: JsonObject): Promise<UpstreamReply> {
    const { signal } = new AbortController();
    for (;;) {
      const path = this.#path;
      const reply = await this.#upstream.send({ method: "POST", path, body: JSON.stringify(body), signal });
      if (reply.status === 200) return reply;
      const said = await reply.bytes();
      if (reply.status !== 404 || path === paths[1]) throw upstreamError(this.name, reply.status, said, reply.headers);
      this.#path = paths[1];
    }
  }

  #refuse(request: ChatRequest): void {
    const refuse = (code: "unsupported_parameter" | "unsupported_capability", param: string, what: string): never => {
      throw new ApiError(code, `${this.name} (MNN) ${what}`, { provider: this.name, param });
    };
    if (request.responseFormat.type !== "text")
      refuse("unsupported_parameter", "response_format", "cannot hold a model to a format");
    if (request.topLogprobs !== undefined) refuse("unsupported_parameter", "logprobs", "has no log probabilities");
    const pictured = request.messages.findIndex((message) => message.content.some((part) => part.type === "image"));
    if (pictured !== -1 && request.model !== androidModel) {
      refuse(
        "unsupported_capability",
        `messages[${pictured}].content`,
        `takes no images; only the Android app does, under the model name ${androidModel}`,
      );
    }
  }
}

function toBody(request: ChatRequest): JsonObject {
  return {
    model: request.model,
    messages: request.messages.map((message) => ({
      role: message.role === "developer" ? "system" : message.role,
      content: toContent(message),
    })),
    stream: true,
    max_tokens: request.maxTokens,
    temperature: request.temperature,
    top_p: request.topP,
    frequency_penalty: request.frequencyPenalty,
    presence_penalty: request.presencePenalty,
  };
}

/** One content that is no string makes the whole stream empty, or drops all messages after it. */
function toContent(message: Message): string | JsonObject[] {
  const text = message.content.flatMap((part) => (part.type === "text" ? [withoutTags(part.text)] : [])).join("\n");
  const images = message.content.flatMap((part) =>
    part.type === "image" ? [`data:${part.mediaType};base64,${part.base64}`] : [],
  );
  if (images.length === 0) return text;
  return [{ type: "text", text }, ...images.map((url) => ({ type: "image_url", image_url: { url } }))];
}

/**
 * MNN takes `<img>…</img>` and `<audio>…</audio>` in a prompt's text for an address to fetch, or a file of its machine to
 * read (transformers/llm/engine/src/omni.cpp: tokenizer_encode, multimodeProcess). With a space in it, the tag is text.
 */
function withoutTags(text: string): string {
  return text.replace(/<(img|audio)>/g, "<$1 >");
}

/** Each chunk of its stream is one token. */
async function* limitTokens(
  events: AsyncIterable<ChatEvent>,
  limit: number,
  promptTokens: number,
): AsyncGenerator<ChatEvent> {
  let tokens = 0;
  for await (const event of events) {
    yield event;
    if (event.type !== "text" && event.type !== "reasoning") continue;
    if (++tokens < limit) continue;
    yield { type: "finish", reason: "length", usage: { promptTokens, completionTokens: tokens } };
    return;
  }
}

/** The body for a reader who may leave: it is read to its end all the same, and then `over` is called. */
function drained(body: ByteStream, signal: AbortSignal, over: () => void): ByteStream {
  let sink: ByteSink | undefined;
  let started = false;
  const detach = (): void => {
    sink?.fail(new ApiError("client_closed_request", "the client closed the connection"));
    sink = undefined;
    flow();
  };
  const done = (): void => {
    signal.removeEventListener("abort", detach);
    over();
  };
  const flow = (): void => {
    if (started) return body.resume();
    started = true;
    body.start({
      write: (chunk) => sink?.write(chunk) ?? true,
      end() {
        done();
        sink?.end();
      },
      fail(error) {
        done();
        sink?.fail(error);
      },
    });
  };
  return {
    start(reader) {
      sink = reader;
      signal.addEventListener("abort", detach, { once: true });
      flow();
      if (signal.aborted) detach();
    },
    resume: () => body.resume(),
    cancel() {
      sink = undefined;
      flow();
    },
  };
}

async function readJson(provider: string, body: AsyncIterable<Uint8Array>): Promise<Json> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of body) chunks.push(chunk);
  try {
    return JSON.parse(Buffer.concat(chunks).toString()) as Json;
  } catch (cause) {
    throw new ApiError("upstream_error", `${provider} answered with something that is no JSON`, { provider, cause });
  }
}
