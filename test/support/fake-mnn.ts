import { isObject, type JsonObject } from "../../src/core/json.ts";
import { type Manner, playOpenAi } from "./fake-openai-wire.ts";
import { type FakeServer, type Script, sendJson, startFakeServer, stepsOf, type Step } from "./fake-server.ts";

export interface FakeMnnOptions {
  reply?: Script;
  /** `mls serve`: no `/v1`. */
  mls?: boolean;
}

export interface FakeMnn extends FakeServer {
  /** Most calls that were being answered at a time. */
  readonly busiest: () => number;
  /** Answers that were finished, read or not. */
  readonly finished: () => number;
}

const manner: Manner = {
  reasoning: "inline",
  openFinish: "",
  usage: "never",
  ids: "changing",
  error: (text) => `data: ${JSON.stringify({ error: text })}\n\n`,
  doneAfterError: false,
};

/** `mnncli serve`: a constant model list, no limits but its own, one call after the other, and no notice of who leaves. */
export async function startFakeMnn(options: FakeMnnOptions = {}): Promise<FakeMnn> {
  let turn = 0;
  let inside = 0;
  let busiest = 0;
  let finished = 0;
  let last = Promise.resolve();
  const server = await startFakeServer(async (request, reply) => {
    const { path, body } = request;
    if (path === "/v1/models" && options.mls !== true)
      return sendJson(reply, 200, {
        object: "list",
        data: [{ id: "ModelScope/MNN/Qwen2.5-0.5B-Instruct", object: "model" }],
      });
    const served = options.mls === true ? ["/chat/completions"] : ["/chat/completions", "/v1/chat/completions"];
    if (!served.includes(path)) return sendJson(reply, 404);
    if (!Array.isArray(body.messages)) return sendJson(reply, 400, { error: "Request body must be a JSON object." });
    busiest = Math.max(busiest, ++inside);
    const turnOf = last;
    let done = (): void => {};
    last = new Promise((resolve) => (done = resolve));
    await turnOf;
    await playOpenAi(toMnn(stepsOf(options.reply, body, turn++), body), request, reply, manner);
    finished++;
    inside--;
    done();
  });
  return { ...server, busiest: () => busiest, finished: () => finished };
}

/** A message whose content is no string makes the answer empty; at the length limit the server says nothing. */
function toMnn(steps: Step[], body: JsonObject): Step[] {
  const messages = Array.isArray(body.messages) ? body.messages.filter(isObject) : [];
  if (messages.some((message) => typeof message.content !== "string")) return [];
  return steps.filter((step) => !("finish" in step) || step.finish === "stop");
}
