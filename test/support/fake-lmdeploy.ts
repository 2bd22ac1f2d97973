import type { JsonObject } from "../../src/core/json.ts";
import { type Manner, playOpenAi, wordsOf } from "./fake-openai-wire.ts";
import { type FakeServer, type Script, sendJson, startFakeServer, stepsOf } from "./fake-server.ts";

export interface FakeLmDeployOptions {
  model?: string;
  reply?: Script;
  contextLength?: number;
  /** Started without `--tool-call-parser`. */
  noToolParser?: boolean;
  /** LMDeploy's proxy stands before it: failures are raw lines in a stream, and whole replies of status 200. */
  proxy?: boolean;
}

const flat = (status: number, message: string, type = "invalid_request_error"): JsonObject => ({
  message,
  type,
  code: status,
  param: null,
  object: "error",
});

/** LMDeploy 0.16: flat errors, a role in every delta, `stop` taken as token ids. */
export async function startFakeLmDeploy(options: FakeLmDeployOptions = {}): Promise<FakeServer> {
  const model = options.model ?? "internlm/internlm3-8b";
  const contextLength = options.contextLength ?? 4096;
  const manner: Manner = {
    reasoning: "reasoning_content",
    openFinish: undefined,
    role: "assistant",
    usage: "asked",
    ids: "stable",
    error: (text) =>
      options.proxy === true
        ? `{"error_code": 10402, "text": "${text}"}\n`
        : `data: ${JSON.stringify({ error: flat(500, text, "server_error") })}\n\n`,
    doneAfterError: options.proxy !== true,
  };
  let turn = 0;
  return startFakeServer(async (request, reply) => {
    const { path, body } = request;
    if (path === "/health") return sendJson(reply, 200, { status: "healthy" });
    if (path === "/v1/models")
      return sendJson(reply, 200, {
        object: "list",
        data: [
          { id: model, object: "model", created: 1, owned_by: "lmdeploy", root: model, parent: null, permission: [] },
        ],
      });
    if (path === "/v1/encode")
      return sendJson(reply, 200, {
        input_ids: String(body.input)
          .split(/\s+/)
          .map((_, index) => index + 1),
        length: 1,
      });
    if (path === "/v1/embeddings") return sendJson(reply, 400, flat(400, "Unsupported by turbomind."));
    if (path !== "/v1/chat/completions" && path !== "/v1/completions")
      return sendJson(reply, 404, { detail: "Not Found" });
    const refusal = refuse(body, model, contextLength, options);
    if (refusal !== undefined) return sendJson(reply, options.proxy === true ? 200 : Number(refusal.code), refusal);
    await playOpenAi(stepsOf(options.reply, body, turn++), request, reply, manner);
  });
}

function refuse(
  body: JsonObject,
  model: string,
  contextLength: number,
  options: FakeLmDeployOptions,
): JsonObject | undefined {
  if (body.model !== model) return flat(404, `The model '${String(body.model)}' does not exist.`, "not_found_error");
  if (body.session_id !== undefined) return flat(400, `The session_id ${String(body.session_id)} is occupied.`);
  if (body.reasoning_effort !== undefined && !["low", "medium", "high", "max"].includes(String(body.reasoning_effort)))
    return flat(400, "reasoning_effort: Input should be 'low', 'medium', 'high' or 'max'");
  if (body.stop !== undefined)
    return flat(
      400,
      "this fake refuses stop: the real server drops most stop strings and stops too early at the others",
    );
  if (body.tools !== undefined && options.noToolParser === true)
    return flat(400, "Please launch the api_server with --tool-call-parser if you want to use tools.");
  const words = wordsOf(body);
  return words > contextLength
    ? flat(400, `Input length (${words}) must be smaller than the model context length (${contextLength}).`)
    : undefined;
}
