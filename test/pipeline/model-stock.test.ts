import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { Ollama } from "ollama";
import { afterEach, beforeEach, expect, test } from "vitest";
import { type Runtime, startRuntime } from "../../src/app.ts";
import { loadConfig } from "../../src/config/load.ts";
import { silent } from "../../src/core/log.ts";
import { writeGguf } from "../../src/engines/gguf/gguf-writer.ts";
import { scriptedModel } from "../../src/engines/gguf/scripted-model.ts";
import { FakeHub } from "../support/fake-hub.ts";
import { waitUntil } from "../support/tunnel-log.ts";

// Models of the embedded engine, fetched and deleted over the API, from a hub of the test's own.

const closing: (() => unknown)[] = [];
let folder: string;
let hub: FakeHub;
let runtime: Runtime;
let client: Ollama;

beforeEach(async () => {
  folder = mkdtempSync(path.join(tmpdir(), "lair-stock-"));
  closing.push(() => rmSync(folder, { recursive: true, force: true, maxRetries: 5 }));
  const own = path.join(folder, "own.gguf");
  writeGguf(own, scriptedModel({ scripts: [{ after: "\n", say: "Hello there" }] }));
  hub = await FakeHub.start({ "Tiny-Q4_K_M.gguf": readFileSync(own), "Tiny-Q8_0.gguf": readFileSync(own) });
  closing.push(() => hub.close());
  const env = {
    RUNTIME_LISTEN_PORT: "0",
    // A client that has left keeps a connection open, on which it asks nothing.
    LAIR_TIMEOUTS_SHUTDOWN: "100ms",
    LAIR_PROVIDERS_OLLAMA_ENABLED: "false",
    LLAMA_CPP_MODEL: own,
    LLAMA_CPP_CACHE_BYTES: "0",
    LLAMA_CPP_N_GPU_LAYERS: "0",
    LLAMA_CPP_N_CTX: "256",
    LAIR_MODELS: path.join(folder, "models"),
    HF_ENDPOINT: hub.url,
  };
  const { config } = await loadConfig({ env, cwd: folder, home: folder });
  runtime = await startRuntime(config, silent, { version: "0.0.0-test", env });
  closing.push(() => runtime.close());
  client = new Ollama({ host: runtime.url });
});

afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

const names = async (): Promise<string[]> => (await client.list()).models.map(({ name }) => name);
const file = (): string => path.join(folder, "models", "user", "repo", "Tiny-Q4_K_M.gguf");

test("a model that is fetched answers at once, and is gone when it is deleted", async () => {
  const told: string[] = [];
  for await (const { status, total, completed } of await client.pull({ model: "hf.co/user/repo", stream: true })) {
    told.push(status);
    expect((completed ?? 0) <= (total ?? 0)).toBe(true);
  }
  expect([told[0], told.at(-1)]).toEqual(["pulling manifest", "success"]);
  expect(told).toContain("verifying Tiny-Q4_K_M.gguf");
  await waitUntil(async () => (await names()).includes("Tiny-Q4_K_M"), "the model is listed");
  expect((await client.generate({ model: "Tiny-Q4_K_M", prompt: "hi\n" })).response).toBe("Hello there");
  await client.delete({ model: "Tiny-Q4_K_M" });
  expect(existsSync(file())).toBe(false);
  await waitUntil(async () => !(await names()).includes("Tiny-Q4_K_M"), "the model is not listed any more");
});

test("two who want the same model at the same time both get it, and it comes once", async () => {
  const both = [client.pull({ model: "hf:user/repo" }), client.pull({ model: "hf:user/repo:Q4_K_M" })];
  expect(await Promise.all(both)).toEqual([{ status: "success" }, { status: "success" }]);
  expect(hub.ranges).toHaveLength(1);
});

test("who leaves stops the download", async () => {
  hub.moods.stall = 10;
  const pulling = await client.pull({ model: "hf:user/repo", stream: true });
  for await (const { status } of pulling) if (status.startsWith("pulling Tiny")) break;
  client.abort();
  hub.moods.stall = Number.MAX_SAFE_INTEGER;
  // It waits for its turn behind the one that was left.
  expect(await client.pull({ model: "hf:user/repo" })).toEqual({ status: "success" });
  expect(existsSync(file())).toBe(true);
});

test("what a hub does not have is told in its words", async () => {
  await expect(client.pull({ model: "hf:user/repo:Q2_K" })).rejects.toThrow("Q2_K");
  await expect(client.pull({ model: "hf:nobody/nothing" })).rejects.toMatchObject({ name: "ResponseError" });
});

test("a file that somebody else has put there is not deleted", async () => {
  await expect(client.delete({ model: "own" })).rejects.toMatchObject({ status_code: 400 });
  expect(existsSync(path.join(folder, "own.gguf"))).toBe(true);
  await expect(client.delete({ model: "../own" })).rejects.toMatchObject({ status_code: 404 });
});

test("who comes through a front, and so may be anybody, neither fetches nor deletes", async () => {
  const passed = { "x-forwarded-for": "203.0.113.7" };
  const far = new Ollama({ host: runtime.url, headers: passed });
  expect((await far.list()).models.length).toBeGreaterThan(0);
  await expect(far.pull({ model: "hf:user/repo" })).rejects.toMatchObject({ status_code: 403 });
  await expect(far.delete({ model: "own" })).rejects.toMatchObject({ status_code: 403 });
  expect(hub.ranges).toHaveLength(0);
});
