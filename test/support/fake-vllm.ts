import type { JsonObject } from "../../src/core/json.ts";
import { type Manner, playOpenAi, wordsOf } from "./fake-openai-wire.ts";
import { type FakeServer, type Script, sendJson, startFakeServer, stepsOf } from "./fake-server.ts";

export interface FakeVllmOptions {
  model?: string;
  reply?: Script;
  contextLength?: number;
  key?: string;
  /** Started without `--enable-auto-tool-choice`. */
  noToolParser?: boolean;
}

const nested = (status: number, message: string, type: string): JsonObject => ({
  error: { message, type, param: null, code: status },
});

const manner: Manner = {
  reasoning: "reasoning",
  openFinish: null,
  opening: { role: "assistant", content: "" },
  usage: "asked",
  ids: "stable",
  error: (text) => `data: ${JSON.stringify(nested(500, text, "InternalServerError"))}\n\n`,
  doneAfterError: true,
};

/** vLLM: nested errors with a number for a code, a string for a bad key, prompt and `max_tokens` counted together. */
export async function startFakeVllm(options: FakeVllmOptions = {}): Promise<FakeServer> {
  const model = options.model ?? "Qwen/Qwen3-8B";
  const contextLength = options.contextLength ?? 4096;
  let turn = 0;
  return startFakeServer(async (request, reply) => {
    const { path, body } = request;
    if (path === "/health") return sendJson(reply, 200);
    if (options.key !== undefined && request.headers.authorization !== `Bearer ${options.key}`)
      return sendJson(reply, 401, { error: "Unauthorized" });
    if (path === "/v1/models")
      return sendJson(reply, 200, {
        object: "list",
        data: [
          {
            id: model,
            object: "model",
            created: 1,
            owned_by: "vllm",
            root: model,
            parent: null,
            max_model_len: contextLength,
            permission: [],
          },
        ],
      });
    const words = wordsOf(body);
    if (path === "/tokenize")
      return sendJson(reply, 200, {
        count: words,
        max_model_len: contextLength,
        tokens: Array.from({ length: words }, (_, index) => index),
      });
    if (path !== "/v1/chat/completions" && path !== "/v1/completions")
      return sendJson(reply, 404, { detail: "Not Found" });
    if (body.model !== model)
      return sendJson(reply, 404, nested(404, `The model \`${String(body.model)}\` does not exist.`, "NotFoundError"));
    const refusal = refuse(body, words, contextLength, options);
    if (refusal !== undefined) return sendJson(reply, 400, nested(400, refusal, "BadRequestError"));
    await playOpenAi(stepsOf(options.reply, body, turn++), request, reply, manner);
  });
}

function refuse(body: JsonObject, words: number, contextLength: number, options: FakeVllmOptions): string | undefined {
  if (Array.isArray(body.stop) && body.stop.length > 4)
    return "stop: List should have at most 4 items after validation";
  if (body.tools === undefined && body.tool_choice !== undefined)
    return "When using `tool_choice`, `tools` must be set.";
  if (body.tools !== undefined && options.noToolParser === true)
    return '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set';
  if (body.messages === undefined && body.prompt === undefined)
    return "[{'type': 'missing', 'loc': ('body', 'messages'), 'msg': 'Field required'}]";
  if (/"url":"data:[^,]*,[^"]*[^A-Za-z0-9+/="]/.test(JSON.stringify(body.messages ?? "")))
    return "Invalid base64-encoded string: Incorrect padding";
  const asked = Number(body.max_completion_tokens ?? body.max_tokens ?? 0);
  if (words >= contextLength)
    return `Input length (${words}) exceeds model's maximum context length (${contextLength}).`;
  if (words + asked <= contextLength) return undefined;
  return `This model's maximum context length is ${contextLength} tokens. However, you requested ${asked} output tokens and your prompt contains ${words} input tokens, for a total of ${words + asked} tokens. Please reduce the length of the input prompt or the number of requested output tokens.`;
}
