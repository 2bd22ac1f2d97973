import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import OpenAI from "openai";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Runtime, startRuntime } from "../../src/app.ts";
import { loadConfig } from "../../src/config/load.ts";
import type { JsonObject } from "../../src/core/json.ts";
import { silent } from "../../src/core/log.ts";
import { writeGguf } from "../../src/engines/gguf/gguf-writer.ts";
import { randomBert } from "../support/gguf.ts";
import { toolCall, writePlay } from "../support/opencode-model.ts";
import { type Answer, ask, type Asking, get } from "../support/tunnel-caller.ts";
import { asCaller, callerKey, type Chain, startChain } from "../support/tunnel-chain.ts";
import { waitUntil } from "../support/tunnel-log.ts";

// The whole chain in one process: a real runtime with real models, an agent, a relay.

let folder = "";
let runtime: Runtime;
let chain: Chain;

beforeAll(async () => {
  folder = mkdtempSync(path.join(tmpdir(), "lair-chain-models-"));
  mkdirSync(path.join(folder, "models"));
  writeGguf(path.join(folder, "models/vectors.gguf"), randomBert());
  writePlay(path.join(folder, "models/play.gguf"), {
    title: "Räuber Hotzenplotz 🥔",
    turns: [`I look.\n${toolCall("read", { path: "a.txt" })}`, "It says: 42."],
  });
  runtime = await startHere({});
  chain = await startChain({ runtime: runtime.url });
});
afterAll(async () => {
  await chain?.close();
  await runtime?.close();
  rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
});

async function startHere(env: Record<string, string>): Promise<Runtime> {
  const { config } = await loadConfig({
    env: {
      RUNTIME_LISTEN_PORT: "0",
      LLAMA_CPP_MODEL: path.join(folder, "models"),
      LLAMA_CPP_CACHE_BYTES: "0",
      LLAMA_CPP_N_THREADS: "1",
      LLAMA_CPP_N_CTX: "4096",
      LAIR_PROVIDERS_OLLAMA_ENABLED: "false",
      ...env,
    },
    cwd: folder,
    home: folder,
  });
  return startRuntime(config, silent, { version: "0.0.0-test", env });
}

const tool: JsonObject = {
  type: "function",
  function: { name: "read", parameters: { type: "object", properties: { path: { type: "string" } } } },
};
const hello: JsonObject[] = [{ role: "user", content: "hello" }];

/** What is asked of both; each is a request that some client makes. */
const questions: readonly (readonly [string, string, Asking])[] = [
  ["a chat as JSON", "/v1/chat/completions", { body: { model: "play", messages: hello, temperature: 0 } }],
  ["a chat as a stream", "/v1/chat/completions", chat({ stream: true, stream_options: { include_usage: true } })],
  ["a tool call as JSON", "/v1/chat/completions", chat({ tools: [tool] })],
  ["a tool call as a stream", "/v1/chat/completions", chat({ tools: [tool], stream: true })],
  [
    "a completion as a stream",
    "/v1/completions",
    { body: { model: "play", prompt: "x", max_tokens: 5, stream: true } },
  ],
  ["embeddings", "/v1/embeddings", { body: { model: "vectors", input: ["a quick brown fox", "the rain"] } }],
  ["tokens of a text", "/tokenize", { body: { model: "play", content: "Räuber" } }],
  ["a model that is not there", "/v1/chat/completions", { body: { model: "nothing", messages: hello } }],
  ["a field of the wrong kind", "/v1/chat/completions", { body: { model: "play", messages: "hello" } }],
  ["a body that is no JSON", "/v1/chat/completions", { body: '{"model": "play", ' }],
  ["a chat with a model of vectors", "/v1/chat/completions", { body: { model: "vectors", messages: hello } }],
];

function chat(more: JsonObject): Asking {
  return { body: { model: "play", messages: hello, temperature: 0, ...more } };
}

/** Without what a second call gives anew: times, signs of life, and the random part of ids. */
function lasting({ status, headers, text, clean }: Answer): object {
  const body = text
    .replace(/^: [^\n]*\n\n/gm, "")
    .replace(/"(created|created_at|completed_at)":\d+/g, '"$1":0')
    .replace(/"timings":\{(?:[^{}]|\{[^{}]*\})*\}/g, '"timings":{}')
    .replace(/"((?:chatcmpl|cmpl|call|resp|msg|fc|rs|embd)[-_])[A-Za-z0-9_-]+"/g, '"$1…"');
  const kept = ["content-type", "retry-after", "allow", "cache-control", "x-request-id"];
  return { status, clean, body, headers: kept.map((name) => [name, headers[name]]) };
}

describe("a relay answers as the runtime behind it", () => {
  test.each(questions)("%s", async (_name, where, asking) => {
    const headers = { "x-request-id": "the-same-id" };
    // Once before: then the prompt's beginning is in the cache for both.
    await ask(`${runtime.url}${where}`, asking);
    const direct = await ask(`${runtime.url}${where}`, { ...asking, headers });
    const relayed = await ask(`${chain.url}${where}`, { ...asking, headers: { ...headers, ...asCaller } });
    expect(lasting(relayed)).toEqual(lasting(direct));
    expect(direct.text).not.toBe("");
  });

  test("the list of models, but for who has them", async () => {
    const direct = JSON.parse((await get(`${runtime.url}/v1/models`)).text) as { data: JsonObject[] };
    const relayed = JSON.parse((await get(`${chain.url}/v1/models`, asCaller)).text) as { data: JsonObject[] };
    expect(relayed.data.map(({ agents }) => agents)).toEqual(relayed.data.map(() => ["home"]));
    // Which models are in memory, the agent tells now and then.
    const cards = ({ data }: { data: JsonObject[] }): JsonObject[] =>
      data.map(
        ({ agents: _agents, state: _state, loaded_context_length: _loaded, expires_at: _until, ...card }) => card,
      );
    expect({ ...relayed, data: cards(relayed) }).toEqual({ ...direct, data: cards(direct) });
    expect(direct.data.map(({ id }) => id)).toEqual(expect.arrayContaining(["play", "vectors"]));
  });

  test("a model named with its agent, whose name the answer repeats as it was asked for", async () => {
    const named = { body: { model: "home/play", messages: hello, temperature: 0 } };
    const answer = await ask(`${chain.url}/v1/chat/completions`, { ...named, headers: asCaller });
    expect(answer.status).toBe(200);
    expect(JSON.parse(answer.text)).toMatchObject({ choices: [{ message: { content: "Räuber Hotzenplotz 🥔" } }] });
  });

  test("OpenAI's own client: a list, a chat, a stream, vectors and an error", async () => {
    const client = new OpenAI({ baseURL: `${chain.url}/v1`, apiKey: callerKey, maxRetries: 0 });
    const messages = [{ role: "user" as const, content: "hello" }];
    const ids = (await client.models.list()).data.map(({ id }) => id);
    expect(ids).toContain("play");
    const whole = await client.chat.completions.create({ model: "play", messages });
    expect(whole.choices[0]?.message.content).toBe("Räuber Hotzenplotz 🥔");
    const stream = await client.chat.completions.create({ model: "play", messages, stream: true });
    let said = "";
    for await (const chunk of stream) said += chunk.choices[0]?.delta.content ?? "";
    expect(said).toBe("Räuber Hotzenplotz 🥔");
    const vectors = await client.embeddings.create({ model: "vectors", input: "a fox" });
    expect(vectors.data[0]?.embedding.length).toBeGreaterThan(16);
    await expect(client.chat.completions.create({ model: "nothing", messages })).rejects.toMatchObject({
      status: 404,
      code: "model_not_found",
    });
  });
});

describe("a relay answers itself", () => {
  test("who shows no key, or a wrong one: nothing reaches the runtime", async () => {
    for (const headers of [{}, { authorization: "Bearer wrong" }]) {
      const answer = await ask(`${chain.url}/v1/chat/completions`, { ...chat({}), headers });
      expect([answer.status, JSON.parse(answer.text)]).toMatchObject([401, { error: { code: "invalid_api_key" } }]);
    }
  });

  test("whether it lives and whether an agent's runtime answers", async () => {
    expect((await get(`${chain.url}/health`)).status).toBe(200);
    expect((await get(`${chain.url}/ready`)).status).toBe(200);
    expect(JSON.parse((await get(`${chain.url}/version`, asCaller)).text)).toMatchObject({ version: "0.0.0-test" });
  });
});

test("a runtime with `publish` is its own agent, and leaves the relay when it closes", async () => {
  const { key } = await chain.keys.add("published");
  const published = await startHere({ LAIR_PUBLISH: chain.url, LAIR_AGENT_KEY: key });
  try {
    await waitUntil(() => chain.relay.fleet.agents().some(({ name, ready }) => name === "published" && ready));
    const body = { model: "published/play", messages: hello, temperature: 0 };
    const answer = await ask(`${chain.url}/v1/chat/completions`, { body, headers: asCaller });
    expect(JSON.parse(answer.text)).toMatchObject({ choices: [{ message: { content: "Räuber Hotzenplotz 🥔" } }] });
  } finally {
    await published.close();
  }
  const after = JSON.parse((await get(`${chain.url}/v1/models`, asCaller)).text) as { data: JsonObject[] };
  expect(after.data.map(({ agents }) => agents)).toEqual(after.data.map(() => ["home"]));
});
