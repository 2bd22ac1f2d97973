import { expect, test } from "vitest";
import type { JsonObject } from "../../src/core/json.ts";
import type { Provider } from "../../src/core/provider.ts";
import { type FakeLmDeployOptions, startFakeLmDeploy } from "../support/fake-lmdeploy.ts";
import { type FakeServer, gate } from "../support/fake-server.ts";
import { closedAfterEach, jsonOf, post, providerOf, readChat } from "./calls.ts";
import { upstreamContract } from "./contract.ts";

const model = "internlm/internlm3-8b";

upstreamContract("lmdeploy", {
  model,
  chatPath: "/v1/chat/completions",
  startServer: (reply) => startFakeLmDeploy(reply === undefined ? {} : { reply }),
  provider: (urls) => providerOf("lmdeploy", urls),
  callSteps: (name, args) => [{ call: { name, arguments: args } }, { finish: "tool_calls" }],
  tooLong: "word ".repeat(5000),
});

const open = closedAfterEach();

async function over(
  options: FakeLmDeployOptions = {},
): Promise<{ server: FakeServer; provider: Provider; chat: (body?: JsonObject) => ReturnType<typeof post> }> {
  const server = await startFakeLmDeploy(options);
  const provider = providerOf("lmdeploy", [server.url]);
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

test("a stop string is kept though the server drops it: also across packets, and the server is stopped", async () => {
  const { opened, open: letOn } = gate();
  const { server, chat } = await over({
    reply: [
      { text: "one <|e" },
      { text: "n" },
      { text: "d|> two" },
      { wait: opened },
      { text: "three" },
      { finish: "stop" },
    ],
  });
  const said = await readChat(await chat({ stream: true, stop: ["<|end|>"] }));
  expect([said.text, said.finish]).toEqual(["one ", "stop"]);
  expect(said.usage?.prompt_tokens).toBeGreaterThan(0);
  await (
    await server.next("/v1/chat/completions")
  ).left;
  letOn();
});

test("what only looked like a stop string is said", async () => {
  const { chat } = await over({ reply: [{ text: "a <|e" }, { text: "nough" }, { text: "<|en" }, { finish: "stop" }] });
  expect((await readChat(await chat({ stream: true, stop: ["<|end|>"] }))).text).toBe("a <|enough<|en");
});

test("a completion keeps its stop strings too", async () => {
  const { provider } = await over({ reply: [{ text: "one\n" }, { text: "\ntwo" }, { finish: "length" }] });
  const json = await jsonOf(await post(provider, "/v1/completions", { model, prompt: "x", stop: "\n\n" }));
  expect(json.choices).toMatchObject([{ text: "one", finish_reason: "stop" }]);
});

test("a completion that ends without saying why is no complete answer", async () => {
  const { provider } = await over({ reply: [{ text: "one" }] });
  await expect(post(provider, "/v1/completions", { model, prompt: "x" })).rejects.toMatchObject({
    status: 502,
    code: "upstream_error",
  });
});

test.each<[string | undefined, JsonObject]>([
  ["none", { reasoning_effort: undefined, chat_template_kwargs: { enable_thinking: false } }],
  ["minimal", { reasoning_effort: "low" }],
  ["xhigh", { reasoning_effort: "max" }],
  ["medium", { reasoning_effort: "medium" }],
])("the effort %s is said in the words that it takes", async (effort, sent) => {
  const { server, chat } = await over();
  await jsonOf(await chat({ reasoning_effort: effort }));
  const { body } = await server.next("/v1/chat/completions");
  expect({ reasoning_effort: body.reasoning_effort, chat_template_kwargs: body.chat_template_kwargs }).toEqual({
    chat_template_kwargs: undefined,
    ...sent,
  });
});

test("a session id is never sent: one in use is refused", async () => {
  const { chat } = await over();
  expect((await chat({ session_id: 5 })).status).toBe(200);
});

test.each([
  ["parse_error", "stop"],
  ["length", "length"],
])("the finish reason %s becomes %s", async (told, ours) => {
  const { chat } = await over({ reply: [{ text: "x" }, { finish: told }] });
  expect((await readChat(await chat({ stream: true }))).finish).toBe(ours);
});

test.each(["abort", "error"])("the finish reason %s is a failure", async (told) => {
  const { chat } = await over({ reply: [{ text: "x" }, { finish: told }] });
  const said = await readChat(await chat({ stream: true }));
  expect([said.finish, said.error?.code]).toEqual([undefined, "upstream_error"]);
});

test("its proxy's line of an error inside a stream is found", async () => {
  const { chat } = await over({
    proxy: true,
    reply: [{ text: "x" }, { error: "Failed to get response after a period of time" }],
  });
  const said = await readChat(await chat({ stream: true }));
  expect([said.text, said.finish, said.error?.code]).toEqual(["x", undefined, "upstream_timeout"]);
});

test("its proxy's status 200 with an error inside is an error", async () => {
  const { chat } = await over({ proxy: true });
  await expect(chat({ model: "other" })).rejects.toMatchObject({ status: 404, code: "model_not_found" });
});

test("bytes of every legal and half legal kind are read", async () => {
  const head = ': comment\r\ndata: {"choices":[{"index":0,"delta":{"role":"assistant","content":"n';
  const middle = Buffer.from('aïve"}}]}\r\n\r\ndata: {"choices":[{"index":0,\ndata: "delta":{"content":"!"}}]}\n\n');
  const tail =
    'data: {"choices":[],"usage":null}\n\nid: 7\nevent: x\ndata: {"choices":[{"index":0,"delta":{"content":""},"finish_reason":"stop"}]}';
  // The two bytes of "ï" come in different packets, an event in two lines, and the last event without its line end.
  const cut = middle.indexOf(0xc3) + 1;
  const { chat } = await over({
    reply: [
      { raw: head },
      { raw: middle.subarray(0, cut) },
      { raw: middle.subarray(cut) },
      { raw: tail },
      { end: true },
    ],
  });
  const said = await readChat(await chat({ stream: true }));
  expect([said.text, said.finish]).toEqual(["naïve!", "stop"]);
});

test("the context length is learnt from a refusal", async () => {
  const { provider, chat } = await over({ contextLength: 2000 });
  expect((await provider.models())[0]?.contextLength).toBeUndefined();
  await expect(chat({ messages: [{ role: "user", content: "word ".repeat(3000) }] })).rejects.toThrow("2000 tokens");
  expect((await provider.models())[0]?.contextLength).toBe(2000);
});

test("text is cut into tokens by its encoder", async () => {
  const { provider } = await over();
  expect(await jsonOf(await post(provider, "/tokenize", { model, content: "a b c" }))).toEqual({ tokens: [1, 2, 3] });
});

test("what it cannot do at all is said without asking it", async () => {
  const { provider, server } = await over();
  await expect(post(provider, "/v1/embeddings", { model, input: "x" })).rejects.toMatchObject({
    status: 400,
    code: "unsupported_capability",
  });
  expect(server.requests).toEqual([]);
});

test("tools without its parser: a forced call works all the same, else the answer says how to start it", async () => {
  const { chat } = await over({ noToolParser: true });
  const tools = [{ type: "function", function: { name: "f", parameters: {} } }];
  const forced = await over({
    noToolParser: true,
    reply: [{ text: '{"name":"f","arguments":{}}' }, { finish: "stop" }],
  });
  expect((await readChat(await forced.chat({ stream: true, tools, tool_choice: "required" }))).calls).toMatchObject([
    { name: "f" },
  ]);
  await expect(chat({ tools })).rejects.toMatchObject({
    status: 400,
    code: "unsupported_capability",
    message: expect.stringContaining("--tool-call-parser"),
  });
});
