import type { ServerResponse } from "node:http";
import { isObject, type Json, type JsonObject } from "../../src/core/json.ts";
import { type FakeRequest, playCommon, sendJson, type SpokenCall, type Step } from "./fake-server.ts";

/** How a server writes OpenAI's format. */
export interface Manner {
  readonly reasoning: "reasoning" | "reasoning_content" | "inline";
  /** `finish_reason` of the chunks before the last: left out, null or "". */
  readonly openFinish: null | "" | undefined;
  /** First delta of a stream, in a chunk of its own. */
  readonly opening?: JsonObject;
  /** In each delta. */
  readonly role?: "assistant";
  readonly usage: "always" | "asked" | "never";
  /** An error in the middle of a stream, and whether `[DONE]` follows it. */
  readonly error: (text: string) => string;
  readonly doneAfterError: boolean;
  readonly ids: "stable" | "changing";
}

/** Plays the steps as the SSE or the JSON that was asked for. */
export async function playOpenAi(
  steps: Step[],
  request: FakeRequest,
  reply: ServerResponse,
  manner: Manner,
): Promise<void> {
  if (request.body.stream === true) await playStream(steps, request, reply, manner);
  else await playWhole(steps, request, reply, manner);
}

async function playStream(steps: Step[], request: FakeRequest, reply: ServerResponse, manner: Manner): Promise<void> {
  const text = request.path.endsWith("/completions") && !request.path.endsWith("/chat/completions");
  const wantsUsage = isObject(request.body.stream_options) && request.body.stream_options.include_usage === true;
  let chunks = 0;
  let calls = 0;
  const send = (json: Json): void => {
    if (!reply.headersSent) reply.writeHead(200, { "content-type": "text/event-stream; charset=utf-8" });
    reply.write(`data: ${JSON.stringify(json)}\n\n`);
  };
  const chunk = (choices: Json[], beside: JsonObject = {}): void => {
    const id = manner.ids === "stable" ? "chatcmpl-1" : `chatcmpl-${++chunks}`;
    send({
      id,
      object: text ? "text_completion" : "chat.completion.chunk",
      created: 1,
      model: request.body.model ?? null,
      choices,
      ...beside,
    });
  };
  const delta = (part: JsonObject, finish: string | null | undefined = manner.openFinish): void => {
    const body: JsonObject = text
      ? { text: part.content ?? "" }
      : { delta: { ...(manner.role === undefined ? {} : { role: manner.role }), ...part } };
    chunk([{ index: 0, ...body, ...(finish === undefined ? {} : { finish_reason: finish }) }]);
  };
  for (const step of steps) {
    if (await playCommon(step, reply)) {
      if ("status" in step || "die" in step || "end" in step) return;
      continue;
    }
    if (!reply.headersSent && manner.opening !== undefined && !("error" in step)) delta(manner.opening);
    if ("text" in step) delta({ content: step.text });
    else if ("reasoning" in step)
      delta(
        manner.reasoning === "inline"
          ? { content: `<think>${step.reasoning}</think>` }
          : { [manner.reasoning]: step.reasoning },
      );
    else if ("call" in step) delta({ tool_calls: [toCall(step.call, calls++)] });
    else if ("error" in step) {
      if (!reply.headersSent) reply.writeHead(200, { "content-type": "text/event-stream" });
      reply.write(manner.error(step.error));
      if (manner.doneAfterError) reply.write("data: [DONE]\n\n");
      reply.end();
      return;
    } else if ("finish" in step) {
      delta({}, step.finish);
      const usage = { prompt_tokens: step.prompt ?? 7, completion_tokens: step.completion ?? 2, total_tokens: 9 };
      if (manner.usage === "always" || (manner.usage === "asked" && wantsUsage)) chunk([], { usage });
    }
  }
  if (!reply.headersSent) reply.writeHead(200, { "content-type": "text/event-stream" });
  reply.end("data: [DONE]\n\n");
}

async function playWhole(steps: Step[], request: FakeRequest, reply: ServerResponse, manner: Manner): Promise<void> {
  const message: JsonObject = { role: "assistant", content: "" };
  const calls: Json[] = [];
  let finish: Extract<Step, { finish: unknown }> | undefined;
  for (const step of steps) {
    if ("error" in step)
      return sendJson(reply, 500, {
        error: { message: step.error, type: "InternalServerError", param: null, code: 500 },
      });
    if (await playCommon(step, reply)) {
      if ("status" in step || "die" in step || "end" in step) return;
    } else if ("text" in step) message.content = String(message.content) + step.text;
    else if ("reasoning" in step)
      message[manner.reasoning === "inline" ? "content" : manner.reasoning] = step.reasoning;
    else if ("call" in step) calls.push(toCall(step.call, calls.length));
    else if ("finish" in step) finish = step;
  }
  if (calls.length > 0) message.tool_calls = calls;
  const usage = { prompt_tokens: finish?.prompt ?? 7, completion_tokens: finish?.completion ?? 2, total_tokens: 9 };
  const text = request.path === "/v1/completions";
  const choice = text
    ? { text: message.content, logprobs: null }
    : { message: { refusal: null, ...message }, logprobs: null };
  sendJson(reply, 200, {
    id: "chatcmpl-1",
    object: text ? "text_completion" : "chat.completion",
    created: 1,
    model: request.body.model ?? null,
    choices: [{ index: 0, ...choice, finish_reason: finish?.finish ?? null }],
    ...(manner.usage === "never" ? {} : { usage }),
  });
}

function toCall(call: SpokenCall, index: number): JsonObject {
  return {
    index,
    id: call.id ?? `chatcmpl-tool-${index}`,
    type: "function",
    function: { name: call.name, arguments: call.written ?? JSON.stringify(call.arguments) },
  };
}

/** All the words of a chat's messages. */
export function wordsOf(body: JsonObject): number {
  const messages = Array.isArray(body.messages) ? body.messages.filter(isObject) : [];
  const text =
    messages.length > 0
      ? messages
          .map((message) =>
            typeof message.content === "string" ? message.content : JSON.stringify(message.content ?? ""),
          )
          .join(" ")
      : String(body.prompt ?? "");
  return text.split(/\s+/).filter((word) => word !== "").length;
}
