import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import OpenAI from "openai";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { toIterable } from "../../src/core/bytes.ts";
import { Call } from "../../src/core/call.ts";
import type { ChatEvent } from "../../src/core/chat.ts";
import type { Engine } from "../../src/core/engine.ts";
import { ApiError, toApiError } from "../../src/core/errors.ts";
import { fromEngine } from "../../src/dialects/translate.ts";
import { finish, reasoning, saying, text } from "../support/chat.ts";

const turn: ChatEvent[] = [
  reasoning("hm"),
  text("I will "),
  text("look."),
  { type: "tool-call", index: 0, name: "ls", arguments: '{"path"' },
  { type: "tool-call", index: 0, arguments: ':"a"}' },
  { type: "tool-call", index: 1, name: "ls", arguments: "{}" },
  finish("stop"),
];

/** What the user asked for is what the engine does. */
const engine: Engine = {
  name: "box",
  kind: "fake",
  chat(request) {
    const [part] = request.messages.at(-1)?.content ?? [];
    const wanted = part?.type === "text" ? part.text : "";
    if (wanted === "fail first")
      throw new ApiError("context_length_exceeded", "This model's maximum context length is 8 tokens.", {
        param: "messages",
      });
    return wanted === "turn"
      ? saying(...turn)
      : wanted === "break"
        ? breaking()
        : wanted === "wait"
          ? late()
          : saying(text("Hello"), finish());
  },
  embed: async ({ input }) => ({ vectors: input.map((_, index) => [0.25, index]), promptTokens: 2 }),
  complete: ({ prompt }) => saying(text(`${String(prompt)}!`), finish()),
  models: async () => [],
  health: async () => ({ ok: true }),
  close: async () => undefined,
};

async function* breaking(): AsyncGenerator<ChatEvent> {
  yield text("Hel");
  throw new ApiError("engine_crashed", "the engine is gone");
}

/** Silent until the head and two heartbeats have gone out. */
async function* late(): AsyncGenerator<ChatEvent> {
  yield { type: "progress", phase: "prefill", done: 1, total: 2 };
  await new Promise<void>((resolve) => (onBeat = { left: 2, resolve }));
  yield* saying(text("Hello"), finish());
}

let onBeat: { left: number; readonly resolve: () => void } | undefined;

function watch(chunk: string): void {
  const isBeat =
    chunk === ": ping\n\n" || (chunk.startsWith("event: response.in_progress") && !chunk.includes("response.created"));
  if (isBeat && onBeat !== undefined && --onBeat.left === 0) onBeat.resolve();
}

let server: Server;
let client: OpenAI;

beforeAll(async () => {
  const provider = fromEngine(engine, { headDelay: 10, heartbeatInterval: 10 });
  server = createServer((request, response) => {
    const answer = async (): Promise<void> => {
      const chunks: Buffer[] = [];
      for await (const chunk of request) chunks.push(chunk as Buffer);
      const call = new Call({
        id: "1",
        method: "POST",
        path: request.url ?? "",
        signal: new AbortController().signal,
        body: Buffer.concat(chunks),
      });
      call.target = { provider, model: "m", requested: "box:m" };
      const { status, headers, body } = await provider.handle(call);
      response.writeHead(status, headers);
      if (typeof body === "string" || body === null || Buffer.isBuffer(body)) response.end(body);
      else {
        for await (const chunk of toIterable(body)) {
          response.write(chunk);
          watch(Buffer.from(chunk).toString());
        }
        response.end();
      }
    };
    answer().catch((thrown: unknown) => {
      const error = toApiError(thrown);
      response.writeHead(error.status, { "content-type": "application/json" }).end(JSON.stringify(error.toJson()));
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  client = new OpenAI({ baseURL: `http://127.0.0.1:${port}/v1`, apiKey: "none", maxRetries: 0 });
});

afterAll(() => new Promise((resolve) => server.close(resolve)));

const say = (content: string) => ({ model: "box:m", messages: [{ role: "user" as const, content }] });

describe("the official OpenAI SDK", () => {
  test("reads a chat with tools", async () => {
    const { choices, usage } = await client.chat.completions.create(say("turn"));
    expect(choices[0]).toMatchObject({ finish_reason: "tool_calls", message: { content: "I will look." } });
    expect(choices[0]?.message.tool_calls).toMatchObject([
      { function: { name: "ls", arguments: '{"path":"a"}' } },
      { function: { name: "ls" } },
    ]);
    expect(usage?.total_tokens).toBe(10);
  });

  test("puts the streamed chat together to the same", async () => {
    const streamed = await client.chat.completions
      .stream({ ...say("turn"), stream_options: { include_usage: true } })
      .finalChatCompletion();
    const whole = await client.chat.completions.create(say("turn"));
    expect(streamed.choices[0]?.message.content).toBe(whole.choices[0]?.message.content);
    expect(streamed.choices[0]?.message.tool_calls?.map((call) => call.id)).toEqual(
      whole.choices[0]?.message.tool_calls?.map((call) => call.id),
    );
    expect(streamed.choices[0]?.finish_reason).toBe("tool_calls");
    expect(streamed.usage?.total_tokens).toBe(10);
  });

  test("sees several answers", async () => {
    const { choices } = await client.chat.completions.stream({ ...say("hi"), n: 2 }).finalChatCompletion();
    expect(choices.map(({ index, message }) => [index, message.content])).toEqual([
      [0, "Hello"],
      [1, "Hello"],
    ]);
  });

  test("waits through heartbeats, on chat and on Responses", async () => {
    expect((await client.chat.completions.stream(say("wait")).finalChatCompletion()).choices[0]?.message.content).toBe(
      "Hello",
    );
    expect((await client.responses.stream({ model: "box:m", input: "wait" }).finalResponse()).output_text).toBe(
      "Hello",
    );
  });

  test("is told of a failure before the stream by its status", async () => {
    await expect(client.chat.completions.create({ ...say("fail first"), stream: true })).rejects.toMatchObject({
      status: 400,
      code: "context_length_exceeded",
      param: "messages",
    });
  });

  test("is told of a failure in the stream, and takes nothing for an answer", async () => {
    await expect(client.chat.completions.stream(say("break")).finalChatCompletion()).rejects.toThrow(
      "the engine is gone",
    );
    const events = await client.responses.create({ model: "box:m", input: "break", stream: true });
    const types: string[] = [];
    for await (const event of events) types.push(event.type);
    expect(types.at(-1)).toBe("response.failed");
  });

  test("reads Responses, streamed and whole", async () => {
    const whole = await client.responses.create({ model: "box:m", input: "turn" });
    const streamed = await client.responses.stream({ model: "box:m", input: "turn" }).finalResponse();
    expect(whole.output_text).toBe("I will look.");
    expect(streamed.output_text).toBe(whole.output_text);
    expect(streamed.output.map(({ type }) => type)).toEqual(["reasoning", "message", "function_call", "function_call"]);
  });

  test("reads embeddings, which it asks for in base64", async () => {
    const { data } = await client.embeddings.create({ model: "box:m", input: ["a", "b"] });
    expect(data.map(({ embedding }) => embedding)).toEqual([
      [0.25, 0],
      [0.25, 1],
    ]);
  });

  test("reads completions", async () => {
    const said: string[] = [];
    for await (const chunk of await client.completions.create({ model: "box:m", prompt: "Hi", stream: true }))
      said.push(chunk.choices[0]?.text ?? "");
    expect(said.join("")).toBe("Hi!");
  });
});
