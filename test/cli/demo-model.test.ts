import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { type Runtime, startRuntime } from "../../src/app.ts";
import { askOffers, nextStep, offerLines } from "../../src/cli/offers.ts";
import { loadConfig } from "../../src/config/load.ts";
import type { Config } from "../../src/config/schema.ts";
import type { JsonObject } from "../../src/core/json.ts";
import { silent } from "../../src/core/log.ts";
import { writeGguf } from "../../src/engines/gguf/gguf-writer.ts";
import { scriptedModel } from "../../src/engines/gguf/scripted-model.ts";
import { startFakeOllama } from "../support/fake-ollama.ts";

// When the built-in model is offered, and what its user is told: a toy must not answer whoever has a real model.

const closing: (() => unknown)[] = [];
let folder: string;
beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), "lair-demo-"));
  closing.push(() => rmSync(folder, { recursive: true, force: true, maxRetries: 5 }));
});
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

/** Puts a model of the user's own there. */
function addModel(...place: string[]): string {
  const file = path.join(folder, ...place);
  mkdirSync(path.dirname(file), { recursive: true });
  writeGguf(file, scriptedModel({ scripts: [{ after: "\n", say: "I am real." }] }));
  return file;
}

interface Server {
  readonly runtime: Runtime;
  readonly config: Config;
  /** Names of `GET /v1/models`. */
  listed(): Promise<string[]>;
  /** What a person is told at the start. */
  told(more?: Record<string, string>): Promise<string>;
  /** The status of a chat with that model, and its answer's text or error. */
  ask(model: string): Promise<[status: number, text: string]>;
  get(route: string, body?: JsonObject): Promise<JsonObject>;
}

/**
 * The runtime with these variables and flags. `found`: where the Ollama is that nobody named; its usual port may be
 * somebody's real one, so nothing is there unless a test says so.
 */
async function serve(
  given: Record<string, string> = {},
  { found = "http://127.0.0.1:1", flags = {} }: { found?: string; flags?: Record<string, boolean> } = {},
): Promise<Server> {
  const env = {
    RUNTIME_LISTEN_PORT: "0",
    LAIR_TIMEOUTS_SHUTDOWN: "100ms",
    LLAMA_CPP_CACHE_BYTES: "0",
    LLAMA_CPP_N_THREADS: "1",
    LAIR_MODELS: path.join(folder, "pulled"),
    ...given,
  };
  const loaded = await loadConfig({ env, flags, cwd: folder, home: folder });
  const ollama = loaded.config.providers["ollama"];
  const providers =
    ollama?.assumed === true
      ? { ...loaded.config.providers, ollama: { ...ollama, urls: [found] } }
      : loaded.config.providers;
  const config = { ...loaded.config, providers };
  const runtime = await startRuntime(config, silent, { version: "0.0.0-test", env });
  closing.push(() => runtime.close());
  const get = async (route: string, body?: JsonObject): Promise<JsonObject> => {
    const init = { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) };
    return (await (await fetch(runtime.url + route, body === undefined ? {} : init)).json()) as JsonObject;
  };
  return {
    runtime,
    config,
    get,
    listed: async () => ((await get("/v1/models"))["data"] as { id: string }[]).map(({ id }) => id),
    told: async (more = {}) => {
      const offers = await askOffers(runtime.providers, () => "there", 5000);
      return offerLines(offers, config, { file: undefined, asksForKey: false, env: more }).join("\n");
    },
    ask: async (model) => {
      const reply = await get("/v1/chat/completions", {
        model,
        max_tokens: 12,
        messages: [{ role: "user", content: "hello" }],
      });
      const { error, choices } = reply as { error?: { message: string }; choices?: { message: { content: string } }[] };
      return error === undefined ? [200, choices?.[0]?.message.content ?? ""] : [404, error.message];
    },
  };
}

const ways = /lair pull hf:.*\n.*LLAMA_CPP_MODEL=.*\n.*OLLAMA_HOST=/;

describe("the demo model is offered", () => {
  it("where there is no other, with what it is and the ways to another one", async () => {
    const server = await serve();
    expect(await server.listed()).toEqual(["demo"]);
    expect((await server.ask("demo"))[0]).toBe(200);
    expect((await server.ask("default"))[0]).toBe(200);
    const told = (await server.told()).replace(/\s*\n {2}(?=\w)/g, " ");
    expect(told).toMatch(/default model +demo /);
    expect(told).toMatch(/demo is the tiny demo model .*parameters.*MB.*calls tools.*knows nothing else/);
    expect(await server.told()).toMatch(ways);
  });

  it("by its full name where another provider is the default one", async () => {
    const server = await serve({ RUNTIME_PROVIDER: "ollama" });
    expect(await server.listed()).toEqual(["llama_cpp:demo"]);
    expect((await server.ask("llama_cpp:demo"))[0]).toBe(200);
    expect(await server.told()).toMatch(/llama_cpp:demo is the tiny demo model/);
  });

  it("beside an Ollama that runs here without a model", async () => {
    const { url, close } = await startFakeOllama({ models: [] });
    closing.push(close);
    expect(await (await serve({}, { found: url })).listed()).toEqual(["demo"]);
  });

  it("beside any other model when it is asked for, and told of in the start-up lines", async () => {
    const own = addModel("own.gguf");
    const ollama = await startFakeOllama();
    closing.push(() => ollama.close());
    const given = { LLAMA_CPP_MODEL: own, OLLAMA_HOST: ollama.url };
    const server = await serve(given, { flags: { demo: true } });
    expect((await server.listed()).toSorted()).toEqual(["demo", "ollama:qwen3:8b", "own"]);
    expect(await server.ask("default")).toEqual([200, "I am real."]);
    const told = await server.told();
    expect(told).toMatch(/demo is the tiny demo model/);
    expect(told).not.toMatch(ways);
  });
});

describe("the demo model is not offered", () => {
  it("beside an Ollama that runs here with models, and answers to its own name all the same", async () => {
    const { url, close } = await startFakeOllama();
    closing.push(close);
    const server = await serve({}, { found: url });
    expect(await server.listed()).toEqual(["ollama:qwen3:8b"]);
    expect((await server.ask("demo"))[0]).toBe(200);
    expect(await server.get("/v1/models/demo")).toMatchObject({ id: "demo", context_length: expect.any(Number) });
    const told = await server.told();
    expect(told).toMatch(/default model +none: .*ollama:qwen3:8b, or set RUNTIME_PROVIDER=ollama/);
    expect(told).not.toMatch(/tiny demo model/);
  });

  it("where a server was named, not even while that one is down", async () => {
    const server = await serve({ OLLAMA_HOST: "http://127.0.0.1:1" });
    expect(await server.listed()).toEqual([]);
    expect((await server.ask("demo"))[0]).toBe(200);
    expect((await server.ask("default"))[0]).toBe(404);
    const told = await server.told();
    expect(told).toMatch(/No provider offers a model now/);
    expect(told).toMatch(ways);
  });

  it("beside a model that was pulled, from the moment it is there", async () => {
    const server = await serve();
    expect(await server.listed()).toEqual(["demo"]);
    addModel("pulled", "user", "repo", "real.gguf");
    // A name that is not known yet is looked for on the disk.
    expect(await server.ask("real")).toEqual([200, "I am real."]);
    expect(await server.listed()).toEqual(["real"]);
    expect(await server.ask("default")).toEqual([200, "I am real."]);
    expect((await server.ask("demo"))[0]).toBe(200);
    expect(await server.told()).not.toMatch(/tiny demo model/);
  });

  it("where LLAMA_CPP_MODEL or a folder models says what there is: the name is an error then", async () => {
    const file = addModel("models", "real.gguf");
    // The folder is looked for where the program was started.
    const before = process.cwd();
    process.chdir(folder);
    closing.push(() => process.chdir(before));
    for (const given of [undefined, { LLAMA_CPP_MODEL: file }]) {
      const server = await serve(given);
      expect(await server.listed()).toEqual(["real"]);
      expect(await server.ask("demo")).toEqual([404, expect.stringMatching(/'demo' does not exist/)]);
    }
  });

  it("where a model of the user's own has its name", async () => {
    addModel("pulled", "user", "repo", "demo.gguf");
    const server = await serve();
    expect(await server.listed()).toEqual(["demo"]);
    expect(await server.ask("demo")).toEqual([200, "I am real."]);
    expect(await server.told()).not.toMatch(/tiny demo model/);
  });
});

it("lair pull is named as it can be typed: in a clone there is no lair", async () => {
  const server = await serve();
  const offers = await askOffers(server.runtime.providers, () => "there", 5000);
  const first = (env: Record<string, string>): string | undefined => nextStep(offers, server.config, env)?.ways[0];
  expect(first({})).toBe("lair pull hf:Qwen/Qwen3-8B-GGUF");
  expect(first({ npm_package_name: "local-ai-runtime" })).toBe("npm run lair -- pull hf:Qwen/Qwen3-8B-GGUF");
});

it("says of itself in every API what its file says", async () => {
  const server = await serve();
  const described = { description: expect.stringMatching(/demonstration/), owned_by: "local-ai-runtime" };
  const weights = {
    license: "mit",
    size_label: expect.stringMatching(/^\d+M$/),
    languages: ["en", "zh"],
    parameters: expect.any(Number),
  };
  expect(await server.get("/v1/models/demo")).toMatchObject({ ...described, context_length: 4096, weights });
  expect(await server.get("/api/tags")).toMatchObject({
    models: [
      {
        name: "demo",
        size: expect.any(Number),
        details: { parameter_size: expect.stringMatching(/M$/), context_length: 4096 },
      },
    ],
  });
  expect(await server.get("/api/show", { model: "demo" })).toMatchObject({
    license: "mit",
    parameters: expect.stringMatching(/num_ctx 4096/),
    model_info: {
      "general.description": expect.stringMatching(/demonstration/),
      "general.license": "mit",
      "general.size_label": expect.stringMatching(/^\d+M$/),
      "general.languages": ["en", "zh"],
      "llama.context_length": 4096,
    },
  });
});
