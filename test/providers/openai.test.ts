import { describe, expect, test } from "vitest";
import type { JsonObject } from "../../src/core/json.ts";
import type { Provider } from "../../src/core/provider.ts";
import type { ProviderSettings } from "../../src/providers/settings.ts";
import { type FakeOpenAiOptions, startFakeOpenAi } from "../support/fake-openai.ts";
import { type FakeServer, gate } from "../support/fake-server.ts";
import { closedAfterEach, jsonOf, post, providerOf, readChat } from "./calls.ts";
import { upstreamContract } from "./contract.ts";

const model = "gemma-3-4b";

upstreamContract("openai", {
  model,
  chatPath: "/v1/chat/completions",
  startServer: (reply) => startFakeOpenAi(reply === undefined ? {} : { reply }),
  provider: (urls) => providerOf("openai", urls),
  servesAnyModel: true,
  callSteps: (name, args) => [{ call: { name, arguments: args } }, { finish: "tool_calls" }],
  tooLong: "word ".repeat(5000),
});

const open = closedAfterEach();

async function over(
  options: FakeOpenAiOptions = {},
  settings: Partial<ProviderSettings> = {},
): Promise<{ server: FakeServer; provider: Provider; chat: (body?: JsonObject) => ReturnType<typeof post> }> {
  const server = await startFakeOpenAi(options);
  const provider = providerOf("openai", [server.url], settings);
  open.push(
    () => provider.close(),
    () => server.close(),
  );
  return {
    server,
    provider,
    chat: (body = {}) =>
      post(provider, "/v1/chat/completions", { model, messages: [{ role: "user", content: "Hi" }], ...body }),
  };
}

const tools = ["look", "write"].map((name) => ({
  type: "function",
  function: { name, parameters: { type: "object", properties: {} } },
}));

test("key and headers of the configuration are sent", async () => {
  const { server, chat } = await over({ key: "k-123456" }, { key: "k-123456", headers: { "x-team": "blue" } });
  await jsonOf(await chat());
  expect((await server.next("/v1/chat/completions")).headers).toMatchObject({
    authorization: "Bearer k-123456",
    "x-team": "blue",
  });
});

test("an address that ends in /v1 is the same server", async () => {
  const { server } = await over();
  const provider = providerOf("openai", [`${server.url}/v1`]);
  open.push(() => provider.close());
  expect((await provider.models()).map((one) => one.id)).toEqual([model]);
});

test('a named tool is forced by sending only that one as required: the object form is "auto" to llama-server', async () => {
  const { server, chat } = await over({
    reply: [{ call: { name: "write", arguments: {} } }, { finish: "tool_calls" }],
  });
  const said = await readChat(
    await chat({ stream: true, tools, tool_choice: { type: "function", function: { name: "write" } } }),
  );
  expect(said.calls).toMatchObject([{ name: "write" }]);
  const { body } = await server.next("/v1/chat/completions");
  expect(body.tool_choice).toBe("required");
  expect(body.tools).toMatchObject([{ function: { name: "write" } }]);
  expect(server.to("/v1/chat/completions")).toHaveLength(1);
});

test("the head of a forced call's stream does not wait for the whole call", async () => {
  const { opened, open: letOn } = gate();
  const { chat } = await over({
    reply: [{ call: { name: "write", arguments: {} } }, { wait: opened }, { finish: "tool_calls" }],
  });
  const reply = await chat({ stream: true, tools, tool_choice: "required" });
  letOn();
  expect((await readChat(reply)).finish).toBe("tool_calls");
});

test.each<[string, JsonObject, string]>([
  [
    "an image without eyes",
    {
      messages: [
        { role: "user", content: [{ type: "image_url", image_url: { url: "data:image/png;base64,iVBORw0KGgo=" } }] },
      ],
    },
    "unsupported_capability",
  ],
  [
    "an image by address, which the server would fetch",
    { messages: [{ role: "user", content: [{ type: "image_url", image_url: { url: "http://10.0.0.1/secret" } }] }] },
    "invalid_image",
  ],
])("%s is the client's fault", async (_, body, code) => {
  const { chat } = await over();
  await expect(chat(body)).rejects.toMatchObject({ status: 400, code });
});

describe("embeddings", () => {
  test("pass through, under the name that the client used", async () => {
    const { provider } = await over({ embeddings: true });
    const json = await jsonOf(await post(provider, "/v1/embeddings", { model, input: ["a", "b"] }));
    expect(json).toMatchObject({
      model: `openai:${model}`,
      data: [{ embedding: [0.5, -0.25, 0] }, { embedding: [0.5, -0.25, 1] }],
    });
  });

  test("that are not switched on are refused for good: a 5xx would be repeated", async () => {
    const { provider } = await over();
    await expect(post(provider, "/v1/embeddings", { model, input: "a" })).rejects.toMatchObject({
      status: 400,
      code: "unsupported_capability",
    });
  });
});

test("tokens are counted in either form of the question", async () => {
  const { provider } = await over();
  expect(await jsonOf(await post(provider, "/tokenize", { model, prompt: "a b" }))).toMatchObject({ tokens: [1, 2] });
});

describe("the offered models", () => {
  const models = ["gpt-4o", "gpt-4o-mini", "text-embedding-3-small", "whisper-1"];

  test("are those of the patterns, and the aliases", async () => {
    const { provider } = await over(
      { models },
      { models: { include: ["gpt-*", "text-*"], exclude: ["*-mini"] }, aliases: { best: "gpt-4o", gone: "gpt-2" } },
    );
    const listed = await provider.models();
    expect(listed.map((one) => one.id)).toEqual(["best", "gone", "gpt-4o", "text-embedding-3-small"]);
    expect(listed[1]).toMatchObject({ state: "failed", problem: expect.stringContaining("gpt-2") });
    expect(listed[3]).toMatchObject({ capabilities: { chat: false, embeddings: true } });
  });

  test("are the only ones that are served", async () => {
    const { server, chat } = await over({ models }, { models: { exclude: ["*-mini"] }, aliases: { best: "gpt-4o" } });
    await expect(chat({ model: "gpt-4o-mini" })).rejects.toMatchObject({ status: 404, code: "model_not_found" });
    const json = await jsonOf(await chat({ model: "best" }));
    expect(json.model).toBe("openai:best");
    expect((await server.next("/v1/chat/completions")).body.model).toBe("gpt-4o");
  });

  test("have the figures that the user knows better", async () => {
    const { provider } = await over({ contextLength: 4096 }, { contextLength: { [model]: 2048 }, maxOutput: 512 });
    expect(await provider.models()).toMatchObject([{ contextLength: 2048, maxOutput: 512 }]);
  });
});

test("no more calls at a time than allowed", async () => {
  const gates = [gate(), gate(), gate()];
  const { server, chat } = await over(
    { reply: (_, turn) => [{ wait: gates[turn]?.opened ?? Promise.resolve() }, { text: "x" }, { finish: "stop" }] },
    { maxConcurrent: 2 },
  );
  const calls = [chat(), chat(), chat()];
  await server.next("/v1/chat/completions");
  await server.next("/v1/chat/completions");
  expect(server.to("/v1/chat/completions")).toHaveLength(2);
  gates[0]?.open();
  await server.next("/v1/chat/completions");
  for (const { open: letOn } of gates) letOn();
  await Promise.all(calls.map(async (call) => jsonOf(await call)));
});
