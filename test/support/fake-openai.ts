import { isObject, type Json, type JsonObject } from "../../src/core/json.ts";
import { type Manner, playOpenAi, wordsOf } from "./fake-openai-wire.ts";
import { type FakeServer, type Script, sendJson, startFakeServer, stepsOf } from "./fake-server.ts";

export interface FakeOpenAiOptions {
  model?: string;
  reply?: Script;
  contextLength?: number;
  key?: string;
  /** Started with `--embeddings`. */
  embeddings?: boolean;
  /** Every header, body and path is taken; for tests of what is sent on. */
  models?: string[];
}

const nested = (code: number, type: string, message: string, beside: JsonObject = {}): JsonObject => ({
  error: { code, message, type, ...beside },
});

const manner: Manner = {
  reasoning: "reasoning_content",
  openFinish: null,
  opening: { role: "assistant", content: null },
  usage: "asked",
  ids: "stable",
  error: (text) => `data: ${JSON.stringify(nested(500, "server_error", text))}\n\n`,
  doneAfterError: false,
};

/** llama-server with one model: serves any model's name, 500 for what the client did wrong, `tool_choice` objects are "auto" there. */
export async function startFakeOpenAi(options: FakeOpenAiOptions = {}): Promise<FakeServer> {
  const models = options.models ?? [options.model ?? "gemma-3-4b"];
  const contextLength = options.contextLength ?? 4096;
  let turn = 0;
  return startFakeServer(async (request, reply) => {
    const { path, body } = request;
    if (path === "/health") return sendJson(reply, 200, { status: "ok" });
    if (options.key !== undefined && request.headers.authorization !== `Bearer ${options.key}`)
      return sendJson(reply, 401, nested(401, "authentication_error", "Invalid API Key"));
    if (path === "/v1/models") {
      const meta = { n_ctx: contextLength, n_ctx_train: 131072, n_embd: 2560, n_params: 4e9, size: 3e9 };
      return sendJson(reply, 200, {
        object: "list",
        data: models.map((id) => ({ id, object: "model", created: 1, owned_by: "llamacpp", meta })),
      });
    }
    if (path === "/tokenize")
      return sendJson(reply, 200, {
        tokens: String(body.content)
          .split(/\s+/)
          .map((_, index) => index + 1),
      });
    if (path === "/v1/embeddings")
      return options.embeddings === true
        ? sendJson(reply, 200, embeddings(body))
        : sendJson(
            reply,
            501,
            nested(501, "not_supported_error", "This server does not support embeddings. Start it with `--embeddings`"),
          );
    if (path !== "/v1/chat/completions" && path !== "/v1/completions")
      return sendJson(reply, 404, nested(404, "not_found_error", "File Not Found"));
    if (body.messages === undefined && body.prompt === undefined)
      return sendJson(reply, 400, nested(400, "invalid_request_error", "'messages' is required"));
    const words = wordsOf(body);
    if (words > contextLength) {
      const text = `request (${words} tokens) exceeds the available context size (${contextLength} tokens), try increasing it`;
      return sendJson(
        reply,
        400,
        nested(400, "exceed_context_size_error", text, { n_prompt_tokens: words, n_ctx: contextLength }),
      );
    }
    if (JSON.stringify(body.messages ?? "").includes("image_url"))
      return sendJson(
        reply,
        500,
        nested(
          500,
          "server_error",
          "image input is not supported - hint: if this is unexpected, you may need to provide the mmproj",
        ),
      );
    await playOpenAi(
      stepsOf(options.reply, isObject(body.tool_choice) ? { ...body, tool_choice: "auto" } : body, turn++),
      request,
      reply,
      manner,
    );
  });
}

function embeddings(body: JsonObject): Json {
  const inputs = [body.input].flat();
  return {
    object: "list",
    model: body.model ?? null,
    data: inputs.map((_, index) => ({ object: "embedding", index, embedding: [0.5, -0.25, index] })),
    usage: { prompt_tokens: inputs.length, total_tokens: inputs.length },
  };
}
