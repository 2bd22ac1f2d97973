import { type Call, type Handler, jsonReply } from "../core/call.ts";
import type { CompletionRequest } from "../core/chat.ts";
import type { Engine } from "../core/engine.ts";
import type { Endpoint } from "../core/provider.ts";
import { unsupportedParameter } from "./fields.ts";
import { decodeInfill, encodeInfillReply, encodeInfillStream } from "./infill.ts";
import { answer, blame, bodyOf, headOf, type LiftOptions, targetOf } from "./lift.ts";
import { openaiChat } from "./openai-chat.ts";
import { decodeCompletion, encodeCompletionReply, encodeCompletionStream } from "./openai-completions.ts";
import { decodeEmbedding, encodeEmbeddings } from "./openai-embeddings.ts";
import { decodeRerank, encodeRerank } from "./rerank.ts";
import { whileHere } from "./stream-reply.ts";
import { decodeDetokenize, decodeTokenize, encodeDetokenize, encodeTokenize } from "./tokenize.ts";

/** The endpoints besides chat that the engine has a method for. */
export function engineRoutes(engine: Engine, options: LiftOptions): Map<Endpoint, Handler> {
  const routes = new Map<Endpoint, Handler>();
  if (engine.complete !== undefined) {
    const complete = engine.complete.bind(engine);
    routes.set("/v1/completions", completions(engine, complete, options));
    if (engine.fillsGaps === true) routes.set("/infill", infill(engine, complete, options));
  }
  if (engine.embed !== undefined) routes.set("/v1/embeddings", embeddings(engine, engine.embed.bind(engine)));
  if (engine.rerank !== undefined) routes.set("/v1/rerank", rerank(engine, engine.rerank.bind(engine)));
  if (engine.applyTemplate !== undefined)
    routes.set("/apply-template", applyTemplate(engine, engine.applyTemplate.bind(engine)));
  if (engine.tokenize !== undefined) routes.set("/tokenize", tokenize(engine, engine.tokenize.bind(engine)));
  if (engine.detokenize !== undefined) routes.set("/detokenize", detokenize(engine, engine.detokenize.bind(engine)));
  return routes;
}

type Method<Name extends keyof Engine> = NonNullable<Engine[Name]>;

function completions(engine: Engine, complete: Method<"complete">, options: LiftOptions): Handler {
  return async (call) => {
    const body = await bodyOf(call);
    const { echo, ...asked } = decodeCompletion(body, targetOf(call).model);
    const completion = { ...asked, echoes: await echoesOf(engine, call, echo ? asked.requests : []) };
    const head = headOf(call, "cmpl-");
    return answer(call, engine.name, options, {
      stream: completion.stream,
      sources: (signal) => completion.requests.map((request) => complete(request, signal)),
      encodeStream: (events) => encodeCompletionStream(events, completion, body, head),
      encodeReply: (events) => encodeCompletionReply(events, completion, head),
    });
  };
}

function infill(engine: Engine, complete: Method<"complete">, options: LiftOptions): Handler {
  return async (call) => {
    const { request, stream } = decodeInfill(await bodyOf(call), targetOf(call).model);
    const head = headOf(call, "infill-");
    return answer(call, engine.name, options, {
      stream,
      sources: (signal) => [complete(request, signal)],
      encodeStream: (events) => encodeInfillStream(events, head),
      encodeReply: (events) => encodeInfillReply(events, head),
    });
  };
}

function embeddings(engine: Engine, embed: Method<"embed">): Handler {
  return async (call) => {
    const { model, requested } = targetOf(call);
    const { request, format } = decodeEmbedding(await bodyOf(call), model);
    const result = await blamed(engine, call, embed(request, call.signal));
    return jsonReply(200, encodeEmbeddings(result, request.input.length, format, requested));
  };
}

function rerank(engine: Engine, score: Method<"rerank">): Handler {
  return async (call) => {
    const { model, requested } = targetOf(call);
    const { request, view } = decodeRerank(await bodyOf(call), model);
    return jsonReply(
      200,
      encodeRerank(await blamed(engine, call, score(request, call.signal)), request, view, requested),
    );
  };
}

/** llama-server's: the body of a chat, answered by its prompt. */
function applyTemplate(engine: Engine, toPrompt: Method<"applyTemplate">): Handler {
  return async (call) => {
    const request = openaiChat.decodeRequest(await bodyOf(call), targetOf(call).model, call.headers);
    return jsonReply(200, { prompt: await blamed(engine, call, toPrompt(request, call.signal)) });
  };
}

function tokenize(engine: Engine, toTokens: Method<"tokenize">): Handler {
  return async (call) => {
    const { text, form, options, withPieces } = decodeTokenize(await bodyOf(call));
    const { model } = targetOf(call);
    if (withPieces && engine.pieces === undefined)
      throw unsupportedParameter(form === "content" ? "with_pieces" : "return_token_strs", "is not supported here");
    const tokens = await blamed(engine, call, toTokens(model, text, call.signal, options));
    const pieces = withPieces ? engine.pieces?.(model, tokens, call.signal) : undefined;
    const about = {
      pieces: pieces === undefined ? undefined : await blamed(engine, call, pieces),
      maxModelLength: form === "prompt" ? await contextLength(engine, call) : undefined,
    };
    return jsonReply(200, encodeTokenize(tokens, form, about));
  };
}

function detokenize(engine: Engine, toText: Method<"detokenize">): Handler {
  return async (call) => {
    const tokens = decodeDetokenize(await bodyOf(call));
    return jsonReply(
      200,
      encodeDetokenize(await blamed(engine, call, toText(targetOf(call).model, tokens, call.signal))),
    );
  };
}

/** The prompts as texts. */
function echoesOf(engine: Engine, call: Call, requests: readonly CompletionRequest[]): Promise<string[]> {
  const toText = engine.detokenize?.bind(engine);
  return Promise.all(
    requests.map(async ({ prompt, model }) => {
      if (typeof prompt === "string") return prompt;
      if (toText === undefined) throw unsupportedParameter("echo", "is not supported here for a prompt of token ids");
      return blamed(engine, call, toText(model, prompt, call.signal));
    }),
  );
}

async function contextLength(engine: Engine, call: Call): Promise<number | undefined> {
  const models = await blamed(engine, call, engine.models(call.signal));
  return models.find(({ id }) => id === targetOf(call).model)?.contextLength;
}

async function blamed<Result>(engine: Engine, call: Call, result: Promise<Result>): Promise<Result> {
  try {
    return await whileHere(result, call.signal);
  } catch (thrown) {
    throw blame(thrown, engine.name);
  }
}
