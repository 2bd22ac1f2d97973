import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import Anthropic from "@anthropic-ai/sdk";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Runtime, startRuntime } from "../../src/app.ts";
import { loadConfig } from "../../src/config/load.ts";
import { isObject, type JsonObject } from "../../src/core/json.ts";
import { silent } from "../../src/core/log.ts";
import { writeGguf } from "../../src/engines/gguf/gguf-writer.ts";
import { scriptedModel } from "../../src/engines/gguf/scripted-model.ts";
import { expectAnthropic } from "../support/anthropic-spec.ts";
import { startFakeLmDeploy } from "../support/fake-lmdeploy.ts";
import { startFakeMnn } from "../support/fake-mnn.ts";
import { startFakeOllama } from "../support/fake-ollama.ts";
import { startFakeOpenAi } from "../support/fake-openai.ts";
import type { FakeServer, Step } from "../support/fake-server.ts";
import { startFakeVllm } from "../support/fake-vllm.ts";

/** What the user asked for is what the server does. */
function reply(body: JsonObject): Step[] {
  const said = JSON.stringify(body.messages ?? "");
  if (said.includes("fail first")) return [{ status: 503, body: { error: "no slot is free" } }];
  if (said.includes("break")) return [{ text: "Hel" }, { error: "the GPU is gone" }];
  if (said.includes("look around"))
    return [
      { reasoning: "I must look." },
      { text: "I will look." },
      { call: { name: "ls", arguments: { path: "a" }, id: "call_1" } },
      { finish: "tool_calls", prompt: 70, completion: 9 },
    ];
  if (said.includes("count until")) return [{ text: "one two" }, { raw: stoppedAtThree }, { end: true }];
  return [{ text: "Hello " }, { text: "there" }, { finish: "stop", prompt: 7, completion: 2 }];
}

/** As vLLM says it. */
const stoppedAtThree =
  'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop","stop_reason":"three"}]}\n\ndata: [DONE]\n\n';

const key = "a-key-of-the-test-0123456789";
const closing: (() => Promise<unknown>)[] = [];
let runtime: Runtime;
let vllm: FakeServer;
let client: Anthropic;

beforeAll(async () => {
  const folder = mkdtempSync(path.join(tmpdir(), "lair-anthropic-"));
  closing.push(async () => rmSync(folder, { recursive: true, force: true, maxRetries: 5 }));
  writeGguf(path.join(folder, "hello.gguf"), scriptedModel({ scripts: [{ after: "\n", say: "Hello there" }] }));
  vllm = await startFakeVllm({ reply, contextLength: 500 });
  const servers = {
    VLLM_HOST: vllm,
    OLLAMA_HOST: await startFakeOllama({ reply }),
    LMDEPLOY_HOST: await startFakeLmDeploy({ reply }),
    MNN_HOST: await startFakeMnn({ reply }),
    LAIR_PROVIDERS_OPENAI_URLS: await startFakeOpenAi({ reply }),
  };
  for (const server of Object.values(servers)) closing.push(() => server.close());
  const env = {
    RUNTIME_LISTEN_PORT: "0",
    LAIR_PROVIDERS_OPENAI_KIND: "openai",
    LLM_V1_PROXY_TOKEN: key,
    LLAMA_CPP_MODEL: folder,
    LLAMA_CPP_CACHE_BYTES: "0",
    LLAMA_CPP_N_GPU_LAYERS: "0",
    LLAMA_CPP_N_CTX: "256",
    ...Object.fromEntries(Object.entries(servers).map(([name, { url }]) => [name, url])),
  };
  const { config } = await loadConfig({ env, cwd: folder, home: folder });
  runtime = await startRuntime(config, silent, { version: "0.0.0-test", env });
  closing.push(() => runtime.close());
  client = new Anthropic({ baseURL: runtime.url, apiKey: key, maxRetries: 0 });
});

afterAll(async () => {
  for (const close of closing.reverse()) await close();
});

const say = (model: string, content: string) => ({
  model,
  max_tokens: 100,
  messages: [{ role: "user" as const, content }],
});

const embedded = "llama_cpp:hello";
const models = [
  embedded,
  "vllm:Qwen/Qwen3-8B",
  "openai:gemma-3-4b",
  "ollama:qwen3:8b",
  "lmdeploy:internlm/internlm3-8b",
  "mnn:default",
];

describe.each(models)("Anthropic's SDK, of %s,", (model) => {
  test("reads a message, whole and streamed", async () => {
    const whole = await client.messages.create(say(model, "hi"));
    expectAnthropic("Message", whole);
    expect(whole).toMatchObject({ model, content: [{ type: "text", text: "Hello there" }], stop_reason: "end_turn" });
    const streamed = await client.messages.stream(say(model, "hi")).finalMessage();
    expect(streamed.content).toEqual(whole.content);
    expect(streamed.stop_reason).toBe("end_turn");
    expect(streamed.usage.input_tokens + (streamed.usage.cache_read_input_tokens ?? 0)).toBe(
      whole.usage.input_tokens + (whole.usage.cache_read_input_tokens ?? 0),
    );
    expect(streamed.usage.output_tokens).toBe(whole.usage.output_tokens);
  });

  test("counts a prompt's tokens", async () => {
    const [short, long] = await Promise.all(
      ["hi", "hi ".repeat(100)].map((content) =>
        client.messages.countTokens({ model, messages: [{ role: "user", content }] }),
      ),
    );
    expectAnthropic("MessageTokensCount", short);
    expect(long!.input_tokens).toBeGreaterThan(short!.input_tokens + 40);
  });
});

describe("Anthropic's SDK", () => {
  const tools = [{ name: "ls", input_schema: { type: "object" as const, properties: { path: { type: "string" } } } }];

  test.each(["vllm:Qwen/Qwen3-8B", "ollama:qwen3:8b"])("follows thinking and a tool call of %s", async (model) => {
    const stream = client.messages.stream({
      ...say(model, "look around"),
      tools,
      thinking: { type: "enabled", budget_tokens: 1024 },
    });
    const inputs: string[] = [];
    stream.on("inputJson", (partial) => inputs.push(partial));
    const message = await stream.finalMessage();
    expect(message.content).toMatchObject([
      { type: "thinking", thinking: "I must look." },
      { type: "text", text: "I will look." },
      { type: "tool_use", name: "ls", input: { path: "a" } },
    ]);
    expect(message.stop_reason).toBe("tool_use");
    expect(JSON.parse(inputs.join(""))).toEqual({ path: "a" });
    // The whole turn goes back with its result, as every client sends it.
    const [call] = message.content.filter((block) => block.type === "tool_use");
    const next = await client.messages.create({
      ...say(model, "start"),
      tools,
      messages: [
        { role: "user", content: "start" },
        { role: "assistant", content: message.content },
        { role: "user", content: [{ type: "tool_result", tool_use_id: call!.id, content: "b.txt" }] },
      ],
    });
    expect(next.content).toMatchObject([{ text: "Hello there" }]);
  });

  test("asks a server for what it was asked itself", async () => {
    const before = vllm.requests.length;
    await client.messages.create({
      ...say("vllm:Qwen/Qwen3-8B", "hi"),
      system: [
        { type: "text", text: "x-anthropic-billing-header: cc_version=2.1.330.cd1;" },
        { type: "text", text: "Be short.", cache_control: { type: "ephemeral" } },
      ],
      tools: [...tools, { type: "web_search_20250305", name: "web_search" }],
      tool_choice: { type: "any", disable_parallel_tool_use: true },
      stop_sequences: ["END"],
      thinking: { type: "disabled" },
    });
    const { body } = vllm.requests.slice(before).find((request) => request.path === "/v1/chat/completions")!;
    expect(body).toMatchObject({
      messages: [
        { role: "system", content: "Be short." },
        { role: "user", content: "hi" },
      ],
      tools: [{ function: { name: "ls" } }],
      tool_choice: "required",
      parallel_tool_calls: false,
      stop: ["END"],
      reasoning_effort: "none",
    });
    for (const field of ["system", "thinking", "stop_sequences", "max_output_tokens"])
      expect(body).not.toHaveProperty(field);
  });

  test.each([
    [embedded, "hi", "there"],
    ["lmdeploy:internlm/internlm3-8b", "hi", "there"],
    ["vllm:Qwen/Qwen3-8B", "count until three", "three"],
  ])("is told which stop sequence ended an answer of %s", async (model, content, stop) => {
    const message = await client.messages
      .stream({ ...say(model, content), stop_sequences: ["nowhere", stop] })
      .finalMessage();
    expect(message).toMatchObject({ stop_reason: "stop_sequence", stop_sequence: stop });
  });

  test("knows each failure by its class, with the request's id", async () => {
    const fails = async (call: Promise<unknown>): Promise<InstanceType<typeof Anthropic.APIError>> => {
      const error: unknown = await call.then(
        () => undefined,
        (thrown: unknown) => thrown,
      );
      expect(error).toBeInstanceOf(Anthropic.APIError);
      const failure = error as InstanceType<typeof Anthropic.APIError>;
      expectAnthropic("ErrorResponse", failure.error);
      expect(failure.requestID).toMatch(/./);
      expect((failure.error as JsonObject).request_id).toBe(failure.requestID);
      return failure;
    };
    const stranger = new Anthropic({ baseURL: runtime.url, apiKey: "nobody", maxRetries: 3 });
    const refused = await fails(stranger.messages.create(say(embedded, "hi")));
    expect(refused).toBeInstanceOf(Anthropic.AuthenticationError);
    expect(refused.headers?.get("x-should-retry")).toBe("false");
    expect(await fails(client.messages.create(say("vllm:nothing", "hi")))).toBeInstanceOf(Anthropic.NotFoundError);
    expect(await fails(client.messages.create({ ...say(embedded, "hi"), max_tokens: -1 }))).toMatchObject({
      status: 400,
      type: "invalid_request_error",
      errorCode: "invalid_value",
    });
    expect(await fails(client.messages.create(say("vllm:Qwen/Qwen3-8B", "fail first")))).toMatchObject({
      status: 529,
      type: "overloaded_error",
    });
    expect(await fails(client.post("/v1/messages/nowhere", { body: {} }))).toMatchObject({ type: "not_found_error" });
    expect(await fails(client.get("/v1/messages"))).toMatchObject({ status: 405 });
    expect(await fails(client.models.retrieve("vllm:nothing"))).toBeInstanceOf(Anthropic.NotFoundError);
  });

  test.each([embedded, "vllm:Qwen/Qwen3-8B", "openai:gemma-3-4b"])(
    "is told of a prompt that is too long for %s in the words by which Claude Code compacts",
    async (model) => {
      const { message, status } = await client.messages
        .stream(say(model, "word ".repeat(20_000)))
        .finalMessage()
        .then(
          () => ({ message: "", status: 200 }),
          (error: InstanceType<typeof Anthropic.APIError>) => ({
            message: String(error.apiMessage),
            status: error.status,
          }),
        );
      expect(status).toBe(400);
      const [, prompt, limit] = /^prompt is too long: (\d+) tokens > (\d+) maximum$/.exec(message) ?? [message];
      expect(Number(prompt)).toBeGreaterThan(Number(limit));
    },
  );

  test("throws where a stream breaks off, with what broke it", async () => {
    await expect(client.messages.stream(say("vllm:Qwen/Qwen3-8B", "break")).finalMessage()).rejects.toMatchObject({
      type: "api_error",
    });
  });

  test("lists models in its own form, page by page, and finds one", async () => {
    const all: Anthropic.ModelInfo[] = [];
    for await (const model of client.models.list({ limit: 2 })) {
      expectAnthropic("ModelInfo", model);
      all.push(model);
    }
    expect(all.map(({ id }) => id)).toEqual(expect.arrayContaining(["hello", "vllm:Qwen/Qwen3-8B"]));
    expect(new Set(all.map(({ id }) => id)).size).toBe(all.length);
    const last = all.at(-1)!;
    const { data } = await client.models.list({ before_id: last.id, limit: 1 });
    expect(data.map(({ id }) => id)).toEqual([all.at(-2)!.id]);
    expect(await client.models.retrieve("vllm:Qwen/Qwen3-8B")).toMatchObject({ max_input_tokens: 500, type: "model" });
  });

  test("and others than it get OpenAI's form, and hear that somebody is there", async () => {
    const headers = { authorization: `Bearer ${key}` };
    const models = (await (await fetch(`${runtime.url}/v1/models`, { headers })).json()) as JsonObject;
    expect(models.object).toBe("list");
    expect(
      Array.isArray(models.data) && models.data.every((model) => isObject(model) && model.object === "model"),
    ).toBe(true);
    // Claude Code asks before it has a key in hand.
    expect((await fetch(`${runtime.url}/api/hello`, { method: "HEAD" })).status).toBe(200);
  });
});
