import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { type ChatResponse, Ollama } from "ollama";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Runtime, startRuntime } from "../../src/app.ts";
import { loadConfig } from "../../src/config/load.ts";
import { isObject, type JsonObject } from "../../src/core/json.ts";
import { silent } from "../../src/core/log.ts";
import { writeGguf } from "../../src/engines/gguf/gguf-writer.ts";
import { scriptedModel } from "../../src/engines/gguf/scripted-model.ts";
import { startFakeLmDeploy } from "../support/fake-lmdeploy.ts";
import { startFakeMnn } from "../support/fake-mnn.ts";
import { type FakeOllama, startFakeOllama } from "../support/fake-ollama.ts";
import { startFakeOpenAi } from "../support/fake-openai.ts";
import { type FakeServer, gate, type Step } from "../support/fake-server.ts";
import { startFakeVllm } from "../support/fake-vllm.ts";
import { holdGateway, openPlace, type Place } from "../support/gateway.ts";
import { randomBert } from "../support/gguf.ts";
import { callerKey, startChain } from "../support/tunnel-chain.ts";
import { waitUntil } from "../support/tunnel-log.ts";

// The official client judges what Ollama's API is here: of every kind of provider, and through relay and gateway.

const held = gate();

/** What the user asked for is what the server does. */
function reply(body: JsonObject): Step[] {
  const said = JSON.stringify(body.messages ?? body.prompt ?? "");
  if (said.includes("fail first")) return [{ status: 503, body: { error: "no slot is free" } }];
  if (said.includes("break")) return [{ text: "Hel" }, { error: "the GPU is gone" }];
  if (said.includes("wait")) return [{ text: "Hel" }, { wait: held.opened }, { text: "lo" }, { finish: "stop" }];
  if (said.includes("look around"))
    return [
      { reasoning: "I must look." },
      { text: "I will look." },
      { call: { name: "ls", arguments: { path: "a" }, id: "call_1" } },
      { finish: "tool_calls", prompt: 70, completion: 9 },
    ];
  return [{ text: "Hello " }, { text: "there" }, { finish: "stop", prompt: 7, completion: 2 }];
}

const key = "a-key-of-the-test-0123456789";
const adminKey = "an-admin-key-of-the-test-0123";
const closing: (() => Promise<unknown>)[] = [];
let runtime: Runtime;
let client: Ollama;
let ollama: FakeOllama;
let llama: FakeServer;
let folder: string;

const connect = (host: string, bearer: string): Ollama =>
  new Ollama({ host, headers: { authorization: `Bearer ${bearer}` } });

beforeAll(async () => {
  folder = mkdtempSync(path.join(tmpdir(), "lair-ollama-"));
  closing.push(async () => rmSync(folder, { recursive: true, force: true, maxRetries: 5 }));
  writeGguf(path.join(folder, "hello.gguf"), scriptedModel({ scripts: [{ after: "\n", say: "Hello there" }] }));
  writeGguf(path.join(folder, "bert.gguf"), randomBert());
  const models = [{ name: "qwen3:8b", capabilities: ["completion", "tools", "thinking", "vision", "insert"] }];
  ollama = await startFakeOllama({ reply, models });
  llama = await startFakeOpenAi({ reply, embeddings: true });
  const servers = {
    VLLM_HOST: await startFakeVllm({ reply }),
    OLLAMA_HOST: ollama,
    LMDEPLOY_HOST: await startFakeLmDeploy({ reply }),
    MNN_HOST: await startFakeMnn({ reply }),
    LAIR_PROVIDERS_OPENAI_URLS: llama,
  };
  for (const server of Object.values(servers)) closing.push(() => server.close());
  const env = {
    RUNTIME_LISTEN_PORT: "0",
    LAIR_PROVIDERS_OPENAI_KIND: "openai",
    LLM_V1_PROXY_TOKEN: key,
    LAIR_AUTH_ADMIN: adminKey,
    LLAMA_CPP_MODEL: folder,
    LLAMA_CPP_CACHE_BYTES: "0",
    LLAMA_CPP_N_GPU_LAYERS: "0",
    LLAMA_CPP_N_CTX: "256",
    ...Object.fromEntries(Object.entries(servers).map(([name, { url }]) => [name, url])),
  };
  const { config } = await loadConfig({ env, cwd: folder, home: folder });
  runtime = await startRuntime(config, silent, { version: "0.0.0-test", env });
  closing.push(() => runtime.close());
  client = connect(runtime.url, key);
});

afterAll(async () => {
  held.open();
  for (const close of closing.reverse()) await close();
});

const say = (model: string, content: string) => ({ model, messages: [{ role: "user", content }] });

async function collect(stream: AsyncIterable<ChatResponse>): Promise<ChatResponse[]> {
  const parts: ChatResponse[] = [];
  for await (const part of stream) parts.push(part);
  return parts;
}

const embedded = "llama_cpp:hello";
const models = [
  embedded,
  "vllm:Qwen/Qwen3-8B",
  "openai:gemma-3-4b",
  "ollama:qwen3:8b",
  "lmdeploy:internlm/internlm3-8b",
  "mnn:default",
];

describe.each(models)("Ollama's client, of %s,", (model) => {
  test("reads a chat, whole and streamed", async () => {
    const whole = await client.chat(say(model, "hi"));
    expect(whole).toMatchObject({
      model,
      message: { role: "assistant", content: "Hello there" },
      done: true,
      done_reason: "stop",
    });
    const parts = await collect(await client.chat({ ...say(model, "hi"), stream: true }));
    expect(parts.map(({ message }) => message.content).join("")).toBe("Hello there");
    const last = parts.at(-1)!;
    expect(last).toMatchObject({ done: true, done_reason: "stop", eval_count: whole.eval_count });
    expect(last.prompt_eval_count).toBeGreaterThan(0);
    expect(last.total_duration).toBeGreaterThanOrEqual(last.eval_duration);
  });

  test("reads what a prompt generates", async () => {
    const whole = await client.generate({ model, prompt: "hi\n", system: "Be kind." });
    expect(whole).toMatchObject({ model, response: "Hello there", done: true });
    let streamed = "";
    for await (const part of await client.generate({ model, prompt: "hi\n", stream: true })) streamed += part.response;
    expect(streamed).toBe("Hello there");
  });

  test("loads it by asking for nothing", async () => {
    expect(await client.generate({ model, prompt: "" })).toMatchObject({ response: "", done_reason: "load" });
    expect(await client.chat({ model, messages: [] })).toMatchObject({ done: true, done_reason: "load" });
  });
});

const callers = models.filter((model) => model !== embedded && !model.startsWith("mnn"));

test.each(callers)("a tool call of %s arrives whole, with its arguments as an object", async (model) => {
  const tools = [
    {
      type: "function",
      function: { name: "ls", parameters: { type: "object", properties: { path: { type: "string" } } } },
    },
  ];
  const parts = await collect(await client.chat({ ...say(model, "look around"), tools, stream: true }));
  const calls = parts.flatMap(({ message }) => message.tool_calls ?? []);
  expect(calls).toMatchObject([{ function: { name: "ls", arguments: { path: "a" } } }]);
  expect(parts.map(({ message }) => message.thinking ?? "").join("")).toContain("I must look.");
  expect(parts.at(-1)).toMatchObject({ done_reason: "stop", prompt_eval_count: 70, eval_count: 9 });
  const whole = await client.chat({ ...say(model, "look around"), tools });
  expect(whole.message.tool_calls).toMatchObject([{ function: { name: "ls", arguments: { path: "a" } } }]);
});

describe("a failure", () => {
  test("before the answer has a status, and one sentence", async () => {
    const failing = client.chat({ ...say("vllm:Qwen/Qwen3-8B", "fail first"), stream: true });
    await expect(failing).rejects.toMatchObject({ name: "ResponseError", status_code: 503 });
    const unknown = client.chat(say("vllm:nobody", "hi"));
    await expect(unknown).rejects.toMatchObject({ status_code: 404, error: expect.stringContaining("nobody") });
  });

  test("in the middle of an answer is thrown by the client", async () => {
    const stream = await client.chat({ ...say("vllm:Qwen/Qwen3-8B", "break"), stream: true });
    await expect(collect(stream)).rejects.toThrow("the GPU is gone");
  });
});

test("a client that leaves stops the work at the provider", async () => {
  const stream = await client.chat({ ...say("ollama:qwen3:8b", "wait"), stream: true });
  for await (const part of stream) {
    expect(part.message.content).toBe("Hel");
    break;
  }
  client.abort();
  await ollama.to("/api/chat").at(-1)!.left;
});

describe("what a request says reaches an Ollama behind:", () => {
  test("images, thinking, format, options, keep_alive, and the context that the model has", async () => {
    const png = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";
    const format = { type: "object", properties: { a: { type: "number" } } };
    await client.chat({
      model: "ollama:qwen3:8b",
      messages: [{ role: "user", content: "what is it?", images: [png] }],
      think: false,
      format,
      keep_alive: "10m",
      options: {
        num_ctx: 1024,
        num_predict: 9,
        temperature: 3,
        top_k: 7,
        min_p: 0.1,
        seed: 5,
        stop: ["x"],
        num_gpu: 1,
      },
    });
    const { body } = ollama.to("/api/chat").at(-1)!;
    expect(body).toMatchObject({ think: false, format, keep_alive: 600, messages: [{ images: [png] }] });
    expect(body.options).toMatchObject({ num_predict: 9, temperature: 3, top_k: 7, min_p: 0.1, seed: 5, stop: ["x"] });
    // Another context than the one before would load the model anew.
    expect(body.options).toMatchObject({ num_ctx: 32768 });
  });

  test("a raw prompt as such, a gap with what follows it", async () => {
    await client.generate({ model: "ollama:qwen3:8b", prompt: "<s>hi", raw: true });
    expect(ollama.to("/api/generate").at(-1)!.body).toMatchObject({ prompt: "<s>hi", raw: true });
    await client.generate({ model: "ollama:qwen3:8b", prompt: "a = ", suffix: "\nprint(a)" });
    expect(ollama.to("/api/generate").at(-1)!.body).toMatchObject({ prompt: "a = ", suffix: "\nprint(a)" });
  });

  test("embeddings, with their lifetime and whether a long text may be cut", async () => {
    const { embeddings } = await client.embed({
      model: "ollama:qwen3:8b",
      input: ["a", "b"],
      keep_alive: 60,
      dimensions: 2,
    });
    expect(embeddings).toHaveLength(2);
    expect(ollama.to("/api/embed").at(-1)!.body).toMatchObject({ truncate: true, keep_alive: 60, dimensions: 2 });
    await client.embed({ model: "ollama:qwen3:8b", input: "a", truncate: false });
    expect(ollama.to("/api/embed").at(-1)!.body).toMatchObject({ input: ["a"], truncate: false });
  });

  test("that a model may leave the memory", async () => {
    const told = await client.generate({ model: "ollama:qwen3:8b", prompt: "", keep_alive: 0 });
    expect(told.done_reason).toBe("unload");
    expect(ollama.to("/api/generate").at(-1)!.body).toMatchObject({ model: "qwen3:8b", keep_alive: 0 });
  });
});

test("a raw prompt of a server that speaks OpenAI's formats is a text completion there", async () => {
  const { response } = await client.generate({
    model: "openai:gemma-3-4b",
    prompt: "hi",
    raw: true,
    options: { num_predict: 4 },
  });
  expect(response).toBe("Hello there");
  expect(llama.to("/v1/completions").at(-1)!.body).toMatchObject({ prompt: "hi", max_tokens: 4 });
});

describe("embeddings", () => {
  test("come from the embedded engine, cut where a text is longer than the model's context", async () => {
    const { embeddings, prompt_eval_count: count } = await client.embed({
      model: "llama_cpp:bert",
      input: ["a b", "b"],
    });
    expect(embeddings).toHaveLength(2);
    expect(count).toBeGreaterThan(2);
    const long = "a ".repeat(5000);
    expect((await client.embed({ model: "llama_cpp:bert", input: long })).embeddings).toHaveLength(1);
    await expect(client.embed({ model: "llama_cpp:bert", input: long, truncate: false })).rejects.toMatchObject({
      status_code: 400,
    });
    const { embedding } = await client.embeddings({ model: "llama_cpp:bert", prompt: "a b" });
    expect(embedding).toEqual(embeddings[0]);
  });

  test("come from a server that speaks OpenAI's formats", async () => {
    const { embeddings } = await client.embed({ model: "openai:gemma-3-4b", input: ["a", "b"] });
    expect(embeddings).toEqual([
      [0.5, -0.25, 0],
      [0.5, -0.25, 1],
    ]);
  });
});

describe("the lists", () => {
  test("name models as they are called, with what is known of each", async () => {
    const { models: listed } = await client.list();
    expect(listed.map(({ name }) => name)).toEqual(expect.arrayContaining([...models.slice(1), "hello", "bert"]));
    const hello = listed.find(({ name }) => name === "hello")!;
    expect(hello).toMatchObject({
      model: "hello",
      digest: expect.stringMatching(/^[0-9a-f]{64}$/),
      details: { format: "gguf", family: "llama", quantization_level: "F16" },
    });
    expect(hello.size).toBeGreaterThan(1000);
    expect((await client.list()).models.find(({ name }) => name === "hello")!.digest).toBe(hello.digest);
  });

  test("show the context that is in force under the name where clients look for it", async () => {
    const shown = await client.show({ model: "hello" });
    expect(shown.model_info).toMatchObject({ "general.architecture": "llama", "llama.context_length": 256 });
    expect(shown.capabilities).toContain("completion");
    const far = await client.show({ model: "ollama:qwen3:8b" });
    expect(far.capabilities).toEqual(["completion", "tools", "vision", "thinking", "insert"]);
    expect(far.parameters).toBe("num_ctx 32768");
    await expect(client.show({ model: "nobody" })).rejects.toMatchObject({ status_code: 404 });
  });

  test("tell which models are in memory", async () => {
    await client.chat(say("hello", "hi"));
    const { models: running } = await client.ps();
    const [hello] = running.filter(({ name }) => name === "hello");
    expect(hello).toMatchObject({ model: "hello", context_length: 256 });
    expect(new Date(hello!.expires_at).getTime()).toBeGreaterThan(Date.now());
    await client.generate({ model: "hello", prompt: "", keep_alive: 0 });
    expect((await client.ps()).models.map(({ name }) => name)).not.toContain("hello");
  });

  test("say a version that is new enough for those who ask for one, and our own", async () => {
    const told = (await client.version()) as unknown as JsonObject;
    expect(told).toEqual({ version: expect.stringMatching(/^\d+\.\d+\.\d+$/), lair: "0.0.0-test" });
  });
});

test("name:latest is taken for name where there is no such model", async () => {
  expect((await client.chat(say("hello:latest", "hi"))).message.content).toBe("Hello there");
  expect((await client.show({ model: "hello:latest" })).capabilities).toContain("completion");
  await expect(client.chat(say("nobody:latest", "hi"))).rejects.toMatchObject({ status_code: 404 });
});

describe("plain requests", () => {
  const headers = { authorization: `Bearer ${key}` };

  test("whoever asks for the front page learns that somebody is there", async () => {
    const page = await fetch(runtime.url, { headers });
    expect([page.status, await page.text()]).toEqual([200, "Ollama is running"]);
    expect((await fetch(runtime.url, { method: "HEAD", headers })).status).toBe(200);
    expect((await fetch(`${runtime.url}/api/tags`, { method: "HEAD", headers })).status).toBe(200);
    const browser = await fetch(runtime.url, { headers: { ...headers, accept: "text/html,*/*" } });
    expect(await browser.text()).not.toContain("Ollama");
  });

  test("OpenAI's paths are answered under /api too, in OpenAI's words", async () => {
    const listed = await fetch(`${runtime.url}/api/v1/models`, { headers });
    expect(await listed.json()).toMatchObject({ object: "list" });
    const body = JSON.stringify(say("vllm:nobody", "hi"));
    const told = await fetch(`${runtime.url}/api/v1/chat/completions`, {
      method: "POST",
      headers: { ...headers, "content-type": "application/json" },
      body,
    });
    expect([told.status, await told.json()]).toMatchObject([404, { error: { code: "model_not_found" } }]);
  });

  test("what makes models out of others is refused in one sentence", async () => {
    await expect(connect(runtime.url, adminKey).copy({ source: "a", destination: "b" })).rejects.toMatchObject({
      status_code: 404,
      error: expect.stringContaining("/api/pull"),
    });
  });
});

describe("models come and go", () => {
  test("only by the word of an operator", async () => {
    await expect(client.pull({ model: "ollama:new:1b" })).rejects.toMatchObject({ status_code: 403 });
    await expect(client.delete({ model: "ollama:new:1b" })).rejects.toMatchObject({ status_code: 403 });
    expect(ollama.to("/api/pull")).toHaveLength(0);
  });

  test("at an Ollama behind, which tells how far it is", async () => {
    const admin = connect(runtime.url, adminKey);
    const told: object[] = [];
    for await (const progress of await admin.pull({ model: "ollama:new:1b", stream: true })) told.push(progress);
    expect(told).toEqual([
      { status: "pulling manifest" },
      { status: "pulling aabb", digest: "sha256:aabb", total: 200 },
      { status: "pulling aabb", digest: "sha256:aabb", total: 200, completed: 200 },
      { status: "verifying sha256 digest" },
      { status: "success" },
    ]);
    expect(await admin.pull({ model: "ollama:other:1b" })).toEqual({ status: "success" });
    await expect(admin.pull({ model: "ollama:nowhere" })).rejects.toThrow("file does not exist");
    await admin.delete({ model: "ollama:new:1b" });
    expect(ollama.to("/api/delete").at(-1)!.body).toEqual({ model: "new:1b" });
  });

  test("not from any address that a caller names", async () => {
    const admin = connect(runtime.url, adminKey);
    for (const model of ["http://127.0.0.1:1/x.gguf", "https://example.org/x.gguf", "hf:../..", "llama3.2"])
      await expect(admin.pull({ model }), model).rejects.toMatchObject({ status_code: 400 });
    await expect(admin.pull({ model: "vllm:x" })).rejects.toMatchObject({
      status_code: 400,
      error: expect.stringContaining("llama_cpp, ollama"),
    });
  });
});

describe.each(["relay", "gateway"])("through a %s, with its key,", (role) => {
  let far: Ollama;
  let place: Place | undefined;

  beforeAll(async () => {
    const chain = await startChain({ runtime: runtime.url, agentEnv: { LAIR_AGENT_OPENAI_KEY: key } });
    closing.push(() => chain.close());
    if (role === "relay") {
      far = connect(chain.url, callerKey);
      return;
    }
    const opened = await openPlace();
    place = opened;
    closing.push(() => opened.close());
    const gatewayKey = await opened.createKey("client", { models: ["hello", "ollama:*"] });
    const gateway = await holdGateway(opened, `home=${chain.url}`, { LAIR_GATEWAY_UPSTREAMS_HOME_KEY: callerKey });
    closing.push(() => gateway.close());
    far = connect(gateway.url, gatewayKey);
  });

  test("a chat with tools, a prompt and embeddings are answered", async () => {
    const stream = await far.chat({ ...say("ollama:qwen3:8b", "look around"), stream: true });
    const parts = await collect(stream);
    expect(parts.at(-1)).toMatchObject({ model: "ollama:qwen3:8b", done: true, prompt_eval_count: 70 });
    expect((await far.generate({ model: "hello", prompt: "hi\n" })).response).toBe("Hello there");
    expect((await far.generate({ model: "hello:latest", prompt: "hi\n" })).response).toBe("Hello there");
    expect((await far.embed({ model: "ollama:qwen3:8b", input: "a" })).embeddings).toHaveLength(1);
  });

  test("the lists tell what this key may use", async () => {
    const { models: listed } = await far.list();
    expect(listed.map(({ name }) => name)).toContain("ollama:qwen3:8b");
    expect(listed.some(({ name }) => name.startsWith("vllm:"))).toBe(role === "relay");
    expect((await far.show({ model: "hello" })).model_info).toMatchObject({ "llama.context_length": 256 });
    expect((await far.version()).version).toMatch(/^\d+\.\d+\.\d+$/);
    expect((await far.ps()).models.every((one) => isObject(one.details))).toBe(true);
  });

  test("a key is charged for what Ollama's lines tell", async () => {
    if (place === undefined) return;
    for await (const part of await far.chat({ ...say("ollama:qwen3:8b", "look around"), stream: true })) {
      if (part.done) break;
    }
    const find = async () => (await place!.records(1)).find(({ path: asked }) => asked === "/api/chat");
    await waitUntil(async () => (await find()) !== undefined, "the call is written down");
    expect(await find()).toMatchObject({
      model: "ollama:qwen3:8b",
      promptTokens: 70,
      completionTokens: 9,
      counted: "reported",
      outcome: "complete",
    });
  });

  test("models are not fetched from here", async () => {
    await expect(far.pull({ model: "ollama:new:1b" })).rejects.toMatchObject({ status_code: 403 });
  });
});
