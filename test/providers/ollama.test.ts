import { describe, expect, test } from "vitest";
import type { JsonObject } from "../../src/core/json.ts";
import { silent } from "../../src/core/log.ts";
import type { Provider } from "../../src/core/provider.ts";
import { Ollama } from "../../src/providers/ollama.ts";
import type { ProviderSettings } from "../../src/providers/settings.ts";
import { Upstream } from "../../src/providers/upstream.ts";
import { chatRequest } from "../support/chat-request.ts";
import { gate } from "../support/fake-server.ts";
import { type FakeOllama, type FakeOllamaOptions, startFakeOllama } from "../support/fake-ollama.ts";
import { closedAfterEach, jsonOf, post, providerOf, readChat } from "./calls.ts";
import { upstreamContract } from "./contract.ts";

upstreamContract("ollama", {
  model: "qwen3:8b",
  chatPath: "/api/chat",
  startServer: (reply) => startFakeOllama(reply === undefined ? {} : { reply }),
  provider: (urls) => providerOf("ollama", urls),
  callSteps: (name, args) => [{ call: { name, arguments: args } }, { finish: "stop" }],
  tooLong: "word ".repeat(40_000),
});

const open = closedAfterEach();

async function over(
  options: FakeOllamaOptions = {},
  settings: Partial<ProviderSettings> = {},
): Promise<{ server: FakeOllama; provider: Provider; chat: (body?: JsonObject) => ReturnType<typeof post> }> {
  const server = await startFakeOllama(options);
  const provider = providerOf("ollama", [server.url], settings);
  open.push(
    () => provider.close(),
    () => server.close(),
  );
  return {
    server,
    provider,
    chat: (body = {}) =>
      post(provider, "/v1/chat/completions", {
        model: "qwen3:8b",
        messages: [{ role: "user", content: "Hi" }],
        ...body,
      }),
  };
}

/** What the fake was asked at `/api/chat`. */
async function sentOf(
  options: FakeOllamaOptions,
  body: JsonObject,
  settings?: Partial<ProviderSettings>,
): Promise<JsonObject> {
  const { server, chat } = await over(options, settings);
  await jsonOf(await chat(body));
  return (await server.next("/api/chat")).body;
}

const numCtx = (sent: JsonObject | undefined): unknown => (sent?.options as JsonObject | undefined)?.num_ctx;
const model = (beside: object = {}): FakeOllamaOptions => ({ models: [{ name: "qwen3:8b", ...beside }] });

describe("the context length", () => {
  test.each<[string, FakeOllamaOptions, Partial<ProviderSettings>, number]>([
    ["32768 for a model that can more", model({ trained: 131072 }), {}, 32768],
    ["what the model was trained for, if that is less", model({ trained: 8192 }), {}, 8192],
    ["the Modelfile's own", model({ trained: 131072, parameters: 'stop "<|im_end|>"\nnum_ctx    16384' }), {}, 16384],
    ["what it is loaded with, if that is more: no load anew", model({ trained: 262144, loaded: 65536 }), {}, 65536],
    [
      "more than a small card's default, which would cut an agent's prompt",
      model({ trained: 131072, loaded: 4096 }),
      {},
      32768,
    ],
    ["the configured one", model({ trained: 131072, loaded: 65536 }), { contextLength: 12000 }, 12000],
    ["the configured one of this model", model({ trained: 131072 }), { contextLength: { "qwen3:8b": 9000 } }, 9000],
  ])("is %s", async (_, options, settings, expected) => {
    const { provider, server, chat } = await over(options, settings);
    expect((await provider.models())[0]?.contextLength).toBe(expected);
    await jsonOf(await chat());
    expect(numCtx((await server.next("/api/chat")).body)).toBe(expected);
  });

  test("never changes between requests, so that the model is loaded once", async () => {
    const { server, provider, chat } = await over(model({ trained: 40960 }));
    await jsonOf(await chat());
    await provider.models();
    await jsonOf(await chat({ max_tokens: 7 }));
    await jsonOf(await post(provider, "/v1/completions", { model: "qwen3:8b", prompt: "x" }));
    expect(server.loads).toEqual([{ model: "qwen3:8b", numCtx: 32768 }]);
  });

  test("does not follow another client who loads the model with more", async () => {
    const options = model({ trained: 262144 });
    const { server, provider, chat } = await over(options);
    await jsonOf(await chat());
    for (const one of options.models ?? []) one.loaded = 65536;
    await provider.models();
    await jsonOf(await chat());
    expect(server.to("/api/chat").map(({ body }) => numCtx(body))).toEqual([32768, 32768]);
  });

  test("is asked for with overflow as an error, not as a silent loss", async () => {
    expect(await sentOf({}, {})).toMatchObject({ truncate: false, shift: false, stream: true });
  });
});

test("a number that keeps a model in memory is sent as a number: the string is refused there", async () => {
  expect((await sentOf({}, {}, { keepAlive: "-1" })).keep_alive).toBe(-1);
  expect((await sentOf({}, {}, { keepAlive: "10m" })).keep_alive).toBe("10m");
});

test("sampling and stop strings go under Ollama's names, and what was not said is left to the Modelfile", async () => {
  const { options } = await sentOf(
    {},
    { temperature: 0.2, top_p: 0.9, max_tokens: 50, seed: 7, stop: ["END"], frequency_penalty: 0.5 },
  );
  expect(options).toEqual({
    num_ctx: 32768,
    num_predict: 50,
    temperature: 0.2,
    top_p: 0.9,
    seed: 7,
    stop: ["END"],
    frequency_penalty: 0.5,
  });
  expect((await sentOf({}, {})).options).toEqual({ num_ctx: 32768 });
});

test("a history with images, calls and results is in Ollama's form", async () => {
  const sent = await sentOf(model({ capabilities: ["completion", "tools", "vision"] }), {
    messages: [
      { role: "developer", content: "Be brief." },
      {
        role: "user",
        content: [
          { type: "text", text: "What is" },
          { type: "image_url", image_url: { url: "data:image/png;base64,iVBORw0KGgo=" } },
          { type: "text", text: "this?" },
        ],
      },
      {
        role: "assistant",
        content: "",
        reasoning_content: "Let me look.",
        tool_calls: [{ id: "call_1", type: "function", function: { name: "look", arguments: '{"at":"it"}' } }],
      },
      { role: "tool", tool_call_id: "call_1", content: [{ type: "text", text: "a cat" }] },
    ],
  });
  expect(sent.messages).toEqual([
    { role: "system", content: "Be brief." },
    { role: "user", content: "What is\nthis?", images: ["iVBORw0KGgo="] },
    {
      role: "assistant",
      content: "",
      thinking: "Let me look.",
      tool_calls: [{ id: "call_1", function: { index: 0, name: "look", arguments: { at: "it" } } }],
    },
    { role: "tool", content: "a cat", tool_call_id: "call_1", tool_name: "look" },
  ]);
});

test.each<[string, object, JsonObject, unknown]>([
  ["off", { capabilities: ["completion", "thinking"] }, { reasoning_effort: "none" }, false],
  ["on", { capabilities: ["completion", "thinking"] }, { reasoning_effort: "high" }, true],
  [
    "off, by the template's variable",
    { capabilities: ["completion", "thinking"] },
    { chat_template_kwargs: { enable_thinking: false } },
    false,
  ],
  ["the model's default", { capabilities: ["completion", "thinking"] }, {}, undefined],
  ["not mentioned to a model that cannot", { capabilities: ["completion"] }, { reasoning_effort: "high" }, undefined],
  [
    "a level for gpt-oss",
    { capabilities: ["completion", "thinking"], family: "gptoss" },
    { reasoning_effort: "xhigh" },
    "high",
  ],
  [
    "the lowest level for gpt-oss, which cannot be switched off",
    { capabilities: ["completion", "thinking"], family: "gptoss" },
    { reasoning_effort: "none" },
    "low",
  ],
])("thinking is %s", async (_, beside, body, think) => {
  expect((await sentOf(model(beside), body)).think).toBe(think);
});

test("formats are Ollama's", async () => {
  const schema = { type: "object", properties: { a: { type: "string" } } };
  expect((await sentOf({}, { response_format: { type: "json_object" } })).format).toBe("json");
  expect(
    (await sentOf({}, { response_format: { type: "json_schema", json_schema: { name: "x", schema } } })).format,
  ).toEqual(schema);
});

test("a model that cannot do what is asked is named before the call, with models that can", async () => {
  const { provider, chat, server } = await over({
    models: [{ name: "qwen3:8b", capabilities: ["completion"] }, { name: "big:70b" }],
  });
  await provider.models();
  const tools = [{ type: "function", function: { name: "f", parameters: {} } }];
  await expect(chat({ tools })).rejects.toMatchObject({
    status: 400,
    code: "unsupported_capability",
    message: expect.stringContaining("big:70b"),
    param: "tools",
  });
  const image = [
    { role: "user", content: [{ type: "image_url", image_url: { url: "data:image/png;base64,iVBORw0KGgo=" } }] },
  ];
  await expect(chat({ messages: image })).rejects.toMatchObject({
    code: "unsupported_capability",
    param: "messages[0].content",
  });
  expect(server.to("/api/chat")).toEqual([]);
});

test("a server too old to tell what its models can is asked all the same", async () => {
  const sent = await sentOf(model({ capabilities: null }), {
    tools: [{ type: "function", function: { name: "f", parameters: {} } }],
  });
  expect(sent.tools).toHaveLength(1);
});

test("an empty 403 says what to do", async () => {
  const { chat } = await over({ refuseHost: true });
  await expect(chat()).rejects.toMatchObject({
    status: 502,
    code: "upstream_auth_failed",
    message: expect.stringContaining("host name"),
  });
});

test("usage is there though Ollama leaves out a prompt that was in its cache", async () => {
  const { chat } = await over({ reply: [{ text: "Hi" }, { finish: "stop", prompt: 0, completion: 1 }] });
  const { usage } = await readChat(await chat({ stream: true }));
  expect(usage?.prompt_tokens).toBeGreaterThan(0);
  expect(usage?.completion_tokens).toBe(1);
});

test("an answer at its limit says length", async () => {
  const { chat } = await over({ reply: [{ text: "Hi" }, { finish: "length" }] });
  expect((await readChat(await chat({ stream: true }))).finish).toBe("length");
});

test("several calls get ids of their own", async () => {
  const { chat } = await over({
    reply: [
      { call: { name: "f", arguments: { a: 1 } } },
      { call: { name: "f", arguments: { a: 2 } } },
      { finish: "stop" },
    ],
  });
  const said = await readChat(
    await chat({ stream: true, tools: [{ type: "function", function: { name: "f", parameters: {} } }] }),
  );
  expect(said.calls.map((call) => call.arguments)).toEqual(['{"a":1}', '{"a":2}']);
  expect(new Set(said.calls.map((call) => call.id)).size).toBe(2);
});

describe("a forced tool call", () => {
  const tools = [
    {
      type: "function",
      function: {
        name: "write",
        parameters: {
          type: "object",
          properties: { item: { $ref: "#/$defs/item" } },
          required: ["item"],
          $defs: { item: { type: "string" } },
        },
      },
    },
  ];

  test("is asked for by a schema that stands by itself", async () => {
    const { chat, server } = await over({
      reply: [{ text: '{"name":"write","arguments":{"item":"x"}}' }, { finish: "stop" }],
    });
    const said = await readChat(await chat({ stream: true, tools, tool_choice: "required" }));
    expect(said.calls).toMatchObject([{ name: "write", arguments: '{"item":"x"}' }]);
    const sent = (await server.next("/api/chat")).body;
    expect(sent.tools).toBeUndefined();
    expect(JSON.stringify(sent.format)).not.toContain("$ref");
  });

  test("that the model does not write is asked for once more, and then is an error", async () => {
    const { chat, server } = await over({ reply: [{ text: '{"name":"erase","arguments":{}}' }, { finish: "stop" }] });
    await expect(chat({ tools, tool_choice: "required" })).rejects.toMatchObject({
      status: 502,
      code: "upstream_error",
    });
    expect(server.to("/api/chat")).toHaveLength(2);
  });

  test("that is cut off at max_tokens is no call, and says length", async () => {
    const { chat } = await over({ reply: [{ text: '{"name":"write","argu' }, { finish: "length" }] });
    const said = await readChat(await chat({ stream: true, tools, tool_choice: "required" }));
    expect([said.calls, said.finish]).toEqual([[], "length"]);
  });
});

describe("embeddings", () => {
  test("come in the order of the inputs, with the dimensions asked for", async () => {
    const { provider } = await over();
    const json = await jsonOf(
      await post(provider, "/v1/embeddings", { model: "qwen3:8b", input: ["a", "b"], dimensions: 3 }),
    );
    expect(json.data).toMatchObject([
      { index: 0, embedding: [0, 0.125, 0.25] },
      { index: 1, embedding: [1, 1.125, 1.25] },
    ]);
    expect(json.usage).toMatchObject({ prompt_tokens: 6 });
  });

  test("of a text that is too long are refused, not cut", async () => {
    const { provider } = await over(model({ trained: 10 }));
    const asked = post(provider, "/v1/embeddings", { model: "qwen3:8b", input: "word ".repeat(50) });
    await expect(asked).rejects.toMatchObject({ status: 400, code: "context_length_exceeded" });
  });

  test("of token ids are refused with what it takes instead", async () => {
    const { provider } = await over();
    await expect(post(provider, "/v1/embeddings", { model: "qwen3:8b", input: [[1, 2]] })).rejects.toMatchObject({
      status: 400,
      code: "unsupported_parameter",
      param: "input",
    });
  });
});

test("a completion takes its prompt as it is", async () => {
  const { provider, server } = await over();
  const json = await jsonOf(
    await post(provider, "/v1/completions", { model: "qwen3:8b", prompt: "Once", max_tokens: 5 }),
  );
  expect(json.choices).toMatchObject([{ text: "Hello", finish_reason: "stop" }]);
  expect((await server.next("/api/generate")).body).toMatchObject({
    prompt: "Once",
    raw: true,
    options: { num_predict: 5 },
  });
});

describe("the list of models", () => {
  test("tells what each can, and which is loaded", async () => {
    const { provider } = await over({
      models: [
        { name: "eyes:7b", capabilities: ["completion", "vision", "thinking"], loaded: 32768 },
        { name: "vectors:latest", capabilities: ["embedding"], trained: 2048 },
      ],
    });
    expect(await provider.models()).toMatchObject([
      {
        id: "eyes:7b",
        state: "loaded",
        contextLength: 32768,
        capabilities: { chat: true, tools: false, vision: true, reasoning: true },
      },
      { id: "vectors:latest", state: "unloaded", contextLength: 2048, capabilities: { chat: false, embeddings: true } },
    ]);
  });

  test("is read once for many who ask at a time", async () => {
    const { provider, server } = await over();
    await Promise.all([provider.models(), provider.models(), provider.models()]);
    expect([server.to("/api/tags").length, server.to("/api/show").length]).toEqual([1, 1]);
  });

  test("of a server that is not there is an error that names it", async () => {
    const { provider, server } = await over();
    await server.close();
    await expect(provider.models()).rejects.toMatchObject({ code: "upstream_unreachable" });
  });
});

describe("while Ollama loads a model", () => {
  test.each([
    ["a short prompt is known to be accepted", "Hi", { type: "progress", phase: "loading", accepted: true }],
    ["one that may turn out too long is not", "word ".repeat(15_000), { type: "progress", phase: "loading" }],
  ])("%s", async (_, prompt, first) => {
    const { opened, open: letOn } = gate();
    const server = await startFakeOllama({ reply: [{ wait: opened }, { text: "Hello" }, { finish: "stop" }] });
    const settings = { kind: "ollama", urls: [server.url], connectTimeout: 5000, firstByteTimeout: 0, idleTimeout: 0 };
    const engine = new Ollama(
      new Upstream("ollama", settings as ProviderSettings, silent),
      settings as ProviderSettings,
      silent,
    );
    open.push(
      () => engine.close(),
      () => server.close(),
    );
    const events = engine.chat(chatRequest("qwen3:8b", prompt), new AbortController().signal)[Symbol.asyncIterator]();
    expect((await events.next()).value).toEqual(first);
    letOn();
    expect((await events.next()).value).toEqual({ type: "text", text: "Hello" });
    await events.return?.();
  });
});
