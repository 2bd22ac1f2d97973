import type { ServerResponse } from "node:http";
import { isObject, type Json, type JsonObject } from "../../src/core/json.ts";
import {
  type FakeRequest,
  type FakeServer,
  playCommon,
  type Script,
  sendJson,
  startFakeServer,
  stepsOf,
  type Step,
} from "./fake-server.ts";

export interface FakeOllamaModel {
  name: string;
  /** Default: completion and tools. `null`: a server too old to tell. */
  capabilities?: string[] | null;
  trained?: number;
  /** Text of `/api/show`'s parameters, e.g. `num_ctx 8192`. */
  parameters?: string;
  /** `context_length` that `/api/ps` tells: the model is loaded. */
  loaded?: number;
  family?: string;
}

export interface FakeOllamaOptions {
  models?: FakeOllamaModel[];
  reply?: Script;
  /** Answers every request with an empty 403, as Ollama on loopback does to a foreign Host. */
  refuseHost?: boolean;
  /** As versions without `truncate` and `shift` do. */
  old?: boolean;
}

export interface FakeOllama extends FakeServer {
  /** Every load of a model: a `num_ctx` other than the loaded one is a load. */
  readonly loads: { model: string; numCtx: number }[];
}

/** Ollama's native API with its quirks: a prompt of more than `num_ctx` words is refused, or cut in silence without `truncate: false`. */
export async function startFakeOllama(options: FakeOllamaOptions = {}): Promise<FakeOllama> {
  const models = options.models ?? [{ name: "qwen3:8b" }];
  const loads: { model: string; numCtx: number }[] = [];
  let turn = 0;
  const server = await startFakeServer(async (request, reply) => {
    if (options.refuseHost === true) return sendJson(reply, 403);
    const { path, body } = request;
    if (path === "/api/version") return sendJson(reply, 200, { version: "0.32.0" });
    if (path === "/api/tags") return sendJson(reply, 200, { models: models.map(toTag) });
    if (path === "/api/ps")
      return sendJson(reply, 200, { models: models.filter((model) => model.loaded !== undefined).map(toRunning) });
    if (path === "/api/pull") return pull(models, body, reply);
    const model = models.find(({ name }) => name === body.model);
    if (path === "/api/delete" && model !== undefined) {
      models.splice(models.indexOf(model), 1);
      return sendJson(reply, 200);
    }
    if (!["/api/show", "/api/chat", "/api/generate", "/api/embed", "/api/delete"].includes(path))
      return sendJson(reply, 404, "404 page not found");
    if (model === undefined) return sendJson(reply, 404, { error: `model '${String(body.model)}' not found` });
    if (path === "/api/show") return sendJson(reply, 200, toShow(model));
    const refusal = refuse(request, model, options.old === true);
    if (refusal !== undefined) return sendJson(reply, refusal.status, { error: refusal.error });
    if (path === "/api/embed") return embed(body, reply);
    const numCtx = isObject(body.options) && typeof body.options.num_ctx === "number" ? body.options.num_ctx : 4096;
    if (model.loaded !== numCtx) loads.push({ model: model.name, numCtx });
    model.loaded = Math.min(numCtx, model.trained ?? numCtx);
    if (path === "/api/generate" && (body.prompt ?? "") === "" && (body.suffix ?? "") === "") {
      if (body.keep_alive === 0) delete model.loaded;
      const done_reason = body.keep_alive === 0 ? "unload" : "load";
      return sendJson(reply, 200, { model: model.name, response: "", done: true, done_reason });
    }
    await play(stepsOf(options.reply, body, turn++), request, reply);
  });
  return { ...server, loads };
}

function refuse(
  { path, body }: FakeRequest,
  model: FakeOllamaModel,
  old: boolean,
): { status: number; error: string } | undefined {
  const capabilities = model.capabilities ?? ["completion", "tools"];
  if (body.keep_alive === "-1") return { status: 400, error: 'time: missing unit in duration "-1"' };
  if (path === "/api/embed") {
    const long = [body.input]
      .flat()
      .some((text) => typeof text === "string" && text.split(/\s+/).length > (model.trained ?? 4096));
    return long && body.truncate === false
      ? { status: 400, error: "the input length exceeds the context length" }
      : undefined;
  }
  const messages = Array.isArray(body.messages) ? body.messages.filter(isObject) : [];
  if (messages.some((message) => typeof message.content !== "string"))
    return {
      status: 400,
      error: "json: cannot unmarshal array into Go struct field ChatRequest.messages.content of type string",
    };
  if (
    messages.some((message) =>
      (Array.isArray(message.images) ? message.images : []).some((image) => !/^[A-Za-z0-9+/]+=*$/.test(String(image))),
    )
  ) {
    return { status: 400, error: "illegal base64 data at input byte 0" };
  }
  if (body.tools !== undefined && !capabilities.includes("tools"))
    return { status: 400, error: `${model.name} does not support tools` };
  if (body.think === true && !capabilities.includes("thinking"))
    return { status: 400, error: `"${model.name}" does not support thinking` };
  const words = (
    messages.length > 0 ? messages.map((message) => message.content).join(" ") : String(body.prompt)
  ).split(/\s+/).length;
  const limit = isObject(body.options) ? Number(body.options.num_ctx ?? 4096) : 4096;
  if (words > limit && body.truncate === false && !old) {
    const inner = {
      error: {
        code: 400,
        message: `request (${words} tokens) exceeds the available context size (${limit} tokens), try increasing it`,
        type: "exceed_context_size_error",
        n_prompt_tokens: words,
        n_ctx: limit,
      },
    };
    return { status: 400, error: JSON.stringify(inner) };
  }
  return undefined;
}

/** Fetches any model but one that is called `nowhere`. */
function pull(models: FakeOllamaModel[], { model }: JsonObject, reply: ServerResponse): void {
  const lines: JsonObject[] =
    model === "nowhere"
      ? [{ status: "pulling manifest" }, { error: "pull model manifest: file does not exist" }]
      : [
          { status: "pulling manifest" },
          { status: "pulling aabb", digest: "sha256:aabb", total: 200 },
          { status: "pulling aabb", digest: "sha256:aabb", total: 200, completed: 200 },
          { status: "verifying sha256 digest" },
          { status: "success" },
        ];
  if (model !== "nowhere") models.push({ name: String(model) });
  reply.writeHead(200, { "content-type": "application/x-ndjson" });
  reply.end(lines.map((line) => `${JSON.stringify(line)}\n`).join(""));
}

async function play(steps: Step[], request: FakeRequest, reply: ServerResponse): Promise<void> {
  const line = (json: JsonObject): void => {
    if (!reply.headersSent) reply.writeHead(200, { "content-type": "application/x-ndjson" });
    reply.write(
      `${JSON.stringify({ model: request.body.model ?? null, created_at: "2026-11-22T00:00:00Z", ...json })}\n`,
    );
  };
  const chat = request.path === "/api/chat";
  const say = (message: JsonObject): void =>
    line(
      chat
        ? { message: { role: "assistant", content: "", ...message }, done: false }
        : { response: message.content, done: false },
    );
  for (const step of steps) {
    if (reply.destroyed) return;
    if (await playCommon(step, reply)) {
      if ("status" in step || "die" in step || "end" in step) return;
      continue;
    }
    if ("text" in step) say({ content: step.text });
    else if ("reasoning" in step) say({ thinking: step.reasoning });
    else if ("call" in step) say({ tool_calls: [toCall(step.call)] });
    else if ("error" in step) {
      if (!reply.headersSent) return sendJson(reply, 500, { error: step.error });
      reply.write(`${JSON.stringify({ error: step.error })}\n`);
    } else if ("finish" in step) {
      const counts: JsonObject = {
        eval_count: step.completion ?? 2,
        ...(step.prompt === 0 ? {} : { prompt_eval_count: step.prompt ?? 7 }),
      };
      line({
        ...(chat ? { message: { role: "assistant", content: "" } } : { response: "" }),
        done: true,
        done_reason: step.finish,
        ...counts,
      });
    }
  }
  reply.end();
}

function toCall(call: { name: string; arguments: JsonObject; id?: string }): JsonObject {
  return {
    ...(call.id === undefined ? {} : { id: call.id }),
    function: { index: 0, name: call.name, arguments: call.arguments },
  };
}

function embed(body: JsonObject, reply: ServerResponse): void {
  const inputs = [body.input].flat();
  const size = typeof body.dimensions === "number" ? body.dimensions : 4;
  sendJson(reply, 200, {
    model: body.model ?? null,
    embeddings: inputs.map((_, index) => Array.from({ length: size }, (__, at) => index + at / 8)),
    prompt_eval_count: inputs.length * 3,
  });
}

function toTag(model: FakeOllamaModel): Json {
  return {
    name: model.name,
    model: model.name,
    modified_at: "2026-08-01T10:00:00Z",
    size: 1,
    digest: `sha256:${model.name}`,
    details: { family: model.family ?? "qwen3" },
  };
}

function toRunning(model: FakeOllamaModel): Json {
  return { name: model.name, model: model.name, size: 1, size_vram: 1, context_length: model.loaded };
}

function toShow(model: FakeOllamaModel): Json {
  const family = model.family ?? "qwen3";
  return {
    details: { family },
    model_info: { "general.architecture": family, [`${family}.context_length`]: model.trained ?? 40960 },
    ...(model.parameters === undefined ? {} : { parameters: model.parameters }),
    ...(model.capabilities === null ? {} : { capabilities: model.capabilities ?? ["completion", "tools"] }),
  };
}
