import { expect, test } from "vitest";
import type { JsonObject } from "../../src/core/json.ts";
import type { Provider } from "../../src/core/provider.ts";
import { type FakeServer, gate } from "../support/fake-server.ts";
import { type FakeVllmOptions, startFakeVllm } from "../support/fake-vllm.ts";
import { closedAfterEach, jsonOf, post, providerOf, readChat } from "./calls.ts";
import { upstreamContract } from "./contract.ts";

const model = "Qwen/Qwen3-8B";

upstreamContract("vllm", {
  model,
  chatPath: "/v1/chat/completions",
  startServer: (reply) => startFakeVllm(reply === undefined ? {} : { reply }),
  provider: (urls) => providerOf("vllm", urls),
  callSteps: (name, args) => [{ call: { name, arguments: args } }, { finish: "tool_calls" }],
  tooLong: "word ".repeat(5000),
});

const open = closedAfterEach();

async function over(
  options: FakeVllmOptions = {},
  key?: string,
): Promise<{ server: FakeServer; provider: Provider; chat: (body?: JsonObject) => ReturnType<typeof post> }> {
  const server = await startFakeVllm(options);
  const provider = providerOf("vllm", [server.url], key === undefined ? {} : { key });
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

test.each(["max_tokens", "max_completion_tokens"])(
  "a %s that leaves no room is cut to what fits, and asked once more",
  async (field) => {
    const { server, chat } = await over({ contextLength: 1000 });
    const said = await readChat(
      await chat({ stream: true, [field]: 32000, messages: [{ role: "user", content: "word ".repeat(100) }] }),
    );
    expect(said.text).toBe("Hello");
    expect(server.to("/v1/chat/completions").map(({ body }) => body[field])).toEqual([32000, 899]);
  },
);

test("a prompt that does not fit by itself is not asked twice", async () => {
  const { server, chat } = await over({ contextLength: 50 });
  await expect(
    chat({ max_tokens: 10, messages: [{ role: "user", content: "word ".repeat(100) }] }),
  ).rejects.toMatchObject({ code: "context_length_exceeded" });
  expect(server.to("/v1/chat/completions")).toHaveLength(1);
});

test("more stop strings than it takes are kept by us, and the server is stopped", async () => {
  const { opened, open: letOn } = gate();
  const { server, chat } = await over({
    reply: [{ text: "one E" }, { text: "ND two" }, { wait: opened }, { finish: "stop" }],
  });
  const said = await readChat(
    await chat({ stream: true, stop: ["a", "b", "c", "d", "END"].map((stop) => (stop === "END" ? stop : `${stop}!`)) }),
  );
  expect([said.text, said.finish]).toEqual(["one ", "stop"]);
  const asked = await server.next("/v1/chat/completions");
  expect(asked.body.stop).toBeUndefined();
  await asked.left;
  letOn();
});

test("up to four stop strings are its own business", async () => {
  const { server, chat } = await over();
  await jsonOf(await chat({ stop: ["a", "b", "c", "d"] }));
  expect((await server.next("/v1/chat/completions")).body.stop).toEqual(["a", "b", "c", "d"]);
});

test("the configured key is sent; a wrong one is told as ours, without it", async () => {
  const { chat } = await over({ key: "right-key-123" }, "right-key-123");
  expect((await chat()).status).toBe(200);
  const { chat: refused } = await over({ key: "right-key-123" }, "wrong-key-456");
  const error = await refused().catch((thrown: unknown) => thrown as Error);
  expect(error).toMatchObject({ status: 502, code: "upstream_auth_failed" });
  expect(String(error)).not.toContain("wrong-key-456");
});

test("tools on a server started without a parser: the answer says how to start it", async () => {
  const { chat } = await over({ noToolParser: true });
  const tools = [{ type: "function", function: { name: "f", parameters: {} } }];
  await expect(chat({ tools })).rejects.toMatchObject({
    status: 400,
    code: "unsupported_capability",
    message: expect.stringContaining("--enable-auto-tool-choice"),
  });
});

test("the list tells the context that is in force", async () => {
  const { provider } = await over({ contextLength: 12345 });
  expect(await provider.models()).toMatchObject([{ id: model, contextLength: 12345, ownedBy: "vllm" }]);
});

test("text and whole chats are counted by its tokenizer", async () => {
  const { provider } = await over();
  expect(await jsonOf(await post(provider, "/tokenize", { model, content: "a b c" }))).toMatchObject({
    count: 3,
    tokens: [0, 1, 2],
  });
  expect(
    await jsonOf(await post(provider, "/tokenize", { model, messages: [{ role: "user", content: "a b" }] })),
  ).toMatchObject({ count: 2 });
});

test("/v1/responses, which it is not asked for, is answered from its chats", async () => {
  const { provider, server } = await over();
  const json = await jsonOf(await post(provider, "/v1/responses", { model, input: "Hi" }));
  expect(JSON.stringify(json.output)).toContain("Hello");
  expect(server.to("/v1/responses")).toEqual([]);
});
