import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import OpenAI from "openai";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { type Runtime, startRuntime } from "../../src/app.ts";
import { loadConfig } from "../../src/config/load.ts";
import { silent } from "../../src/core/log.ts";
import { startFakeOpenAi } from "../support/fake-openai.ts";
import { type FakeServer, type Step } from "../support/fake-server.ts";
import { type HeldGateway, holdGateway, openPlace, type Place } from "../support/gateway.ts";
import { ask } from "../support/tunnel-caller.ts";
import { callerKey, type Chain, startChain } from "../support/tunnel-chain.ts";
import { waitUntil } from "../support/tunnel-log.ts";

// The Responses API's memory is at the first server that a client meets, whichever that is; those behind it keep nothing.

let folder: string;
let upstream: FakeServer;
let runtime: Runtime;
let chain: Chain;
let place: Place;
let gateway: HeldGateway;
let says: () => Step[];
/** Where a client may ask, from the nearest to the farthest. */
const places: Record<string, { readonly url: string; readonly key: string }> = {};

beforeAll(async () => {
  folder = mkdtempSync(path.join(tmpdir(), "lair-responses-"));
  upstream = await startFakeOpenAi({ models: ["small"], reply: () => says() });
  const env = {
    RUNTIME_LISTEN_PORT: "0",
    LAIR_PROVIDERS_OLLAMA_ENABLED: "false",
    LAIR_PROVIDERS_BOX_KIND: "openai",
    LAIR_PROVIDERS_BOX_URLS: upstream.url,
    XDG_DATA_HOME: folder,
    LOCALAPPDATA: folder,
  };
  const { config } = await loadConfig({ env, cwd: folder, home: folder });
  runtime = await startRuntime(config, silent, { version: "0.0.0-test", env });
  chain = await startChain({ runtime: runtime.url });
  place = await openPlace();
  const key = await place.createKey("client");
  gateway = await holdGateway(place, `home=${chain.url}`, { LAIR_GATEWAY_UPSTREAMS_HOME_KEY: callerKey });
  places["a runtime"] = { url: runtime.url, key: "none" };
  places["a relay"] = { url: chain.url, key: callerKey };
  places["a gateway"] = { url: gateway.url, key };
});
afterAll(async () => {
  await gateway?.close();
  await place?.close();
  await chain?.close();
  await runtime?.close();
  await upstream?.close();
  rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
});
beforeEach(() => {
  says = () => [{ text: "Räuber " }, { text: "模型" }, { finish: "stop", prompt: 9, completion: 3 }];
});

describe.each(["a runtime", "a relay", "a gateway"])("%s", (where) => {
  const client = (): OpenAI => {
    const { url, key } = places[where]!;
    return new OpenAI({ apiKey: key, baseURL: `${url}/v1`, maxRetries: 0 });
  };
  const model = "box:small";

  it("keeps a conversation, and whoever is behind it gets it whole", async () => {
    const stream = client().responses.stream({ model, input: "ein Wort" });
    const first = await stream.finalResponse();
    const second = await client().responses.create({ model, input: "noch eins", previous_response_id: first.id });
    expect([second.output_text, second.previous_response_id]).toEqual(["Räuber 模型", first.id]);
    const asked = upstream.to("/v1/chat/completions").at(-1)!.body.messages as { role: string; content: unknown }[];
    expect(asked.map(({ role }) => role)).toEqual(["user", "assistant", "user"]);
    expect(JSON.stringify(asked)).toContain("Räuber 模型");
    expect((await client().responses.retrieve(second.id)).output_text).toBe("Räuber 模型");
    expect((await client().responses.inputItems.list(second.id)).data).toHaveLength(3);
    for (const [name, { url, key }] of Object.entries(places)) {
      if (name === where) continue;
      const headers = { authorization: `Bearer ${key}` };
      expect((await ask(`${url}/v1/responses/${second.id}`, { method: "GET", headers })).status).toBe(404);
    }
    await client().responses.delete(second.id);
    await expect(client().responses.retrieve(second.id)).rejects.toThrow("not found");
  });

  it("works in the background, and ends the work at the far end when it is cancelled", async () => {
    const queued = await client().responses.create({ model, input: "count", background: true });
    await waitUntil(async () => (await client().responses.retrieve(queued.id)).status === "completed");
    says = () => [{ text: "a" }, { wait: new Promise(() => undefined) }];
    const endless = await client().responses.create({ model, input: "count", background: true });
    await waitUntil(async () => (await client().responses.retrieve(endless.id)).status === "in_progress");
    expect((await client().responses.cancel(endless.id)).status).toBe("cancelled");
    await upstream.to("/v1/chat/completions").at(-1)!.left;
  });

  it("refuses at once what whoever answers would refuse", async () => {
    const wrong = { model, input: "count", background: true, temperature: "hot" as unknown as number };
    await expect(client().responses.create(wrong)).rejects.toMatchObject({ status: 400, param: "temperature" });
  });

  it("passes what is not to be kept through as it is", async () => {
    const { url, key } = places[where]!;
    const headers = { authorization: `Bearer ${key}` };
    const body = { model, input: "ein Wort", store: false, stream: true };
    const { status, text } = await ask(`${url}/v1/responses`, { headers, body });
    expect([status, text.match(/^event: response.completed$/gm)]).toEqual([200, ["event: response.completed"]]);
    const [id = ""] = /resp_\w+/.exec(text) ?? [];
    expect((await ask(`${url}/v1/responses/${id}`, { method: "GET", headers })).status).toBe(404);
  });
});

it("a runtime that is told a small memory gives up its oldest responses", { timeout: 30_000 }, async () => {
  const env = {
    RUNTIME_LISTEN_PORT: "0",
    LAIR_PROVIDERS_OLLAMA_ENABLED: "false",
    LAIR_PROVIDERS_BOX_KIND: "openai",
    LAIR_PROVIDERS_BOX_URLS: upstream.url,
    LAIR_RESPONSES_MEMORY: "1MB",
  };
  const { config } = await loadConfig({ env, cwd: folder, home: folder });
  const small = await startRuntime(config, silent, { version: "0.0.0-test", env });
  try {
    const openai = new OpenAI({ apiKey: "none", baseURL: `${small.url}/v1`, maxRetries: 0 });
    const ids: string[] = [];
    for (let batch = 0; batch < 10; batch++) {
      const made = await Promise.all(
        Array.from({ length: 20 }, () => openai.responses.create({ model: "box:small", input: "x".repeat(6000) })),
      );
      ids.push(...made.map(({ id }) => id));
    }
    await expect(openai.responses.retrieve(ids[0]!)).rejects.toThrow("not found");
    expect((await openai.responses.retrieve(ids.at(-1)!)).output_text).toBe("Räuber 模型");
  } finally {
    await small.close();
  }
});
