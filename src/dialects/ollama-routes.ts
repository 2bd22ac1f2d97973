import { type Call, type Handler, jsonReply, type Reply } from "../core/call.ts";
import type { EmbeddingRequest } from "../core/chat.ts";
import { ApiError } from "../core/errors.ts";
import type { JsonObject } from "../core/json.ts";
import type { Endpoint } from "../core/provider.ts";
import { linesHeaders } from "../wire/headers.ts";
import type { ServerDialect } from "./dialect.ts";
import { decodeKeepAlive } from "./keep-alive.ts";
import { answer, blame, bodyOf, headOf, type LiftOptions, targetOf } from "./lift.ts";
import { ollamaChat, ollamaGenerate } from "./ollama-chat.ts";
import { encodeLines, encodePresence, encodeWhole, type Form } from "./ollama/answer-lines.ts";
import { decodeEmbed, decodeOldEmbed, encodeEmbed, encodeOldEmbed } from "./ollama/embeddings.ts";
import { decodeCompletion, decodePresence, isCompletion, isStreamed } from "./ollama/request.ts";
import type { Source } from "./source.ts";
import { whileHere } from "./stream-reply.ts";

/** What the routes are made of. */
export interface OllamaParts {
  readonly source: Source;
  readonly options: LiftOptions;
  /** Answers a call as a chat in this dialect. */
  readonly chat: (dialect: ServerDialect, call: Call) => Promise<Reply>;
}

/** Ollama's API of models at work: `/api/chat`, `/api/generate`, `/api/embed`, `/api/embeddings`. */
export function ollamaRoutes(parts: OllamaParts): Map<Endpoint, Handler> {
  const routes = new Map<Endpoint, Handler>([
    ["/api/chat", (call) => chat(parts, call)],
    ["/api/generate", (call) => generate(parts, call)],
  ]);
  const embed = parts.source.embed?.bind(parts.source);
  if (embed !== undefined) {
    routes.set("/api/embed", (call) => embedInputs(parts.source, embed, call));
    routes.set("/api/embeddings", (call) => embedPrompt(parts.source, embed, call));
  }
  return routes;
}

type Embed = NonNullable<Source["embed"]>;

async function chat({ source, chat: answerChat }: OllamaParts, call: Call): Promise<Reply> {
  return (await presence(source, call, "chat")) ?? answerChat(ollamaChat, call);
}

async function generate(parts: OllamaParts, call: Call): Promise<Reply> {
  const told = await presence(parts.source, call, "generate");
  if (told !== undefined) return told;
  return isCompletion(await bodyOf(call)) ? complete(parts, call) : parts.chat(ollamaGenerate, call);
}

async function complete({ source, options }: OllamaParts, call: Call): Promise<Reply> {
  if (source.complete === undefined)
    throw new ApiError(
      "unsupported_capability",
      `${source.name} completes no texts: send no \`raw\` and no \`suffix\``,
      {
        provider: source.name,
      },
    );
  const body = await bodyOf(call);
  const request = decodeCompletion(body, targetOf(call).model);
  const complete = source.complete.bind(source);
  const head = headOf(call, ollamaGenerate.idPrefix);
  return answer(call, source.name, options, {
    stream: isStreamed(body),
    streamHeaders: linesHeaders,
    sources: (signal) => [complete(request, call, signal)],
    encodeStream: (events) => encodeLines(events, head, "generate"),
    encodeReply: (events) => encodeWhole(events, head, "generate"),
  });
}

/** The answer of a call that wants a model loaded or unloaded, and nothing else; undefined: it wants more. */
async function presence(source: Source, call: Call, form: Form): Promise<Reply | undefined> {
  const body = await bodyOf(call);
  const wanted = decodePresence(body);
  if (wanted === undefined) return undefined;
  const head = headOf(call, "");
  await blamed(source, call, wanted === "load" ? load(source, call, body) : source.unload(targetOf(call).model, call));
  return jsonReply(200, encodePresence(wanted, head, form));
}

function load(source: Source, call: Call, body: JsonObject): Promise<void> {
  return source.load(targetOf(call).model, call, decodeKeepAlive(body));
}

async function embedInputs(source: Source, embed: Embed, call: Call): Promise<Reply> {
  const body = await bodyOf(call);
  const head = headOf(call, "");
  const request = decodeEmbed(body, targetOf(call).model);
  return jsonReply(200, encodeEmbed(await vectors(source, embed, call, request), request?.input.length ?? 0, head));
}

async function embedPrompt(source: Source, embed: Embed, call: Call): Promise<Reply> {
  const request = decodeOldEmbed(await bodyOf(call), targetOf(call).model);
  return jsonReply(200, encodeOldEmbed(await vectors(source, embed, call, request), request?.input.length ?? 0));
}

/** The vectors that are asked for; of a request for none, the model is loaded. */
async function vectors(source: Source, embed: Embed, call: Call, request: EmbeddingRequest | undefined) {
  if (request !== undefined) return blamed(source, call, embed(request, call));
  await blamed(source, call, load(source, call, await bodyOf(call)));
  return undefined;
}

async function blamed<Result>(source: Source, call: Call, result: Promise<Result>): Promise<Result> {
  try {
    return await whileHere(result, call.signal);
  } catch (thrown) {
    throw blame(thrown, source.name);
  }
}
