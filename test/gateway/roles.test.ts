import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { type Runtime, startRuntime } from "../../src/app.ts";
import type { Relay } from "../../src/cloud.ts";
import type { Config } from "../../src/config/schema.ts";
import { silent } from "../../src/core/log.ts";
import { startFakeOpenAi } from "../support/fake-openai.ts";
import { openPlace, type Place } from "../support/gateway.ts";
import { ask, get } from "../support/tunnel-caller.ts";
import { asCaller, startChain } from "../support/tunnel-chain.ts";
import { waitUntil } from "../support/tunnel-log.ts";

// What the gateway does with keys, limits and usage, runtime and relay do too, once they have a state.

let place: Place;
const closing: (() => Promise<unknown>)[] = [];
beforeEach(async () => {
  place = await openPlace();
});
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
  await place.close();
});

interface Server {
  readonly url: string;
  readonly model: string;
  /** What its usage names as the agent. */
  readonly agent: string;
  readonly asksForKey: () => boolean;
}

async function upstream(): Promise<string> {
  const reply = [{ text: "one two three" }, { finish: "stop", prompt: 7, completion: 3 }];
  const server = await startFakeOpenAi({ model: "small", reply });
  closing.push(() => server.close());
  return server.url;
}

async function runtime(env: Record<string, string> = {}): Promise<Server> {
  const config: Config = await place.configure({
    RUNTIME_LISTEN_PORT: "0",
    LAIR_PROVIDERS_LLAMA_KIND: "openai",
    LAIR_PROVIDERS_LLAMA_URLS: await upstream(),
    ...env,
  });
  const started: Runtime = await startRuntime(config, silent, { version: "0.0.0-test", env: {} });
  closing.push(() => started.close());
  return { url: started.url, model: "llama:small", agent: "", asksForKey: () => started.asksForKey };
}

async function relay(env: Record<string, string> = {}): Promise<Server> {
  const relayEnv = { LLM_V1_PROXY_TOKEN: "", LAIR_STATE: place.file, ...env };
  const chain = await startChain({ runtime: await upstream(), relayEnv });
  closing.push(() => chain.close());
  const { url, relay: started }: { url: string; relay: Relay } = chain;
  return { url, model: "small", agent: "home", asksForKey: () => started.asksForKey };
}

const bearer = (key: string): Record<string, string> => ({ authorization: `Bearer ${key}` });

describe.each([
  ["lair serve", runtime],
  ["lair cloud", relay],
])("%s with a state", (_name, startServer) => {
  it("asks for managed keys, holds them to their limits, and writes down what they use", async () => {
    const key = await place.createKey("ci", { limits: { requestsPerMinute: 1 }, models: ["*small"] });
    const { url, model, agent } = await startServer();
    const chat = (as: string): ReturnType<typeof ask> =>
      ask(`${url}/v1/chat/completions`, {
        headers: bearer(as),
        body: { model, messages: [{ role: "user", content: "hello" }] },
      });
    const [good, bad, again] = [await chat(key), await chat("nobody's"), await chat(key)];
    expect([good.status, bad.status, again.status]).toEqual([200, 401, 429]);
    expect(good.headers["x-ratelimit-remaining-requests"]).toBe("0");
    const records = await place.records(2);
    expect(records.map(({ outcome }) => outcome).toSorted()).toEqual(["complete", "refused"]);
    expect(records.find(({ outcome }) => outcome === "complete")).toMatchObject({
      key: (await place.state.keys.find("ci"))?.id,
      model,
      agent,
      promptTokens: 7,
      completionTokens: 3,
      status: 200,
    });
  });

  it("makes keys over HTTP, and tells of usage, for operators only", async () => {
    const { url } = await startServer({ LAIR_AUTH_ADMIN: "operator" });
    const made = await ask(`${url}/admin/keys`, { headers: bearer("operator"), body: { name: "new" } });
    expect(made.status).toBe(201);
    const { key } = JSON.parse(made.text) as { key: string };
    await waitUntil(async () => (await get(`${url}/v1/models`, bearer(key))).status === 200, "the new key works");
    expect((await get(`${url}/admin/usage`, bearer(key))).status).toBe(403);
    expect((await get(`${url}/admin/usage`, bearer("operator"))).status).toBe(200);
    expect((await get(`${url}/metrics`, bearer("operator"))).text).toMatch(/^lair_state_up 1$/m);
    expect((await ask(`${url}/admin/usage`, { headers: bearer("operator"), body: {} })).status).toBe(405);
  });

  it("is open on this machine until the first key is made", async () => {
    const { url, asksForKey } = await startServer();
    expect([(await get(`${url}/version`)).status, asksForKey()]).toEqual([200, false]);
    await place.createKey("first");
    await waitUntil(async () => (await get(`${url}/version`)).status === 401, "it asks for a key");
    expect(asksForKey()).toBe(true);
  });
});

describe("lair serve that publishes its models", () => {
  it("asks callers of its relay for no key of its own, for they were asked there", async () => {
    await place.createKey("here");
    const chain = await startChain({ runtime: "http://127.0.0.1:1", agents: [] });
    closing.push(() => chain.close());
    const { key } = await chain.keys.add("home");
    const { url, model } = await runtime({ LAIR_PUBLISH: chain.url, LAIR_AGENT_KEY: key });
    await chain.untilReady("home");
    const body = { model, messages: [{ role: "user", content: "hello" }] };
    expect((await ask(`${url}/v1/chat/completions`, { body })).status).toBe(401);
    expect((await ask(`${chain.url}/v1/chat/completions`, { headers: asCaller, body })).status).toBe(200);
    expect(await place.state.usage.list({ limit: 1 })).toEqual([]);
  });
});

describe("lair serve without any key", () => {
  it("tells nobody who comes through a front of itself, though its models are shown", async () => {
    const { url } = await runtime();
    const statuses = async (headers: Record<string, string>): Promise<number[]> =>
      Promise.all(
        ["/v1/models", "/metrics", "/admin/keys", "/admin/usage"].map(
          async (own) => (await get(url + own, headers)).status,
        ),
      );
    expect(await statuses({})).toEqual([200, 200, 200, 200]);
    expect(await statuses({ "x-forwarded-for": "203.0.113.9" })).toEqual([200, 403, 403, 403]);
  });
});

describe("without a state", () => {
  it("there are no managed keys and no usage, and everything else is as ever", async () => {
    const { url, model } = await runtime({ LAIR_STATE: "", LLM_V1_PROXY_TOKEN: "static", LAIR_AUTH_ADMIN: "operator" });
    const body = { model, messages: [{ role: "user", content: "hello" }] };
    expect((await ask(`${url}/v1/chat/completions`, { headers: bearer("static"), body })).status).toBe(200);
    for (const own of ["/admin/keys", "/admin/usage"])
      expect((await get(`${url}${own}`, bearer("operator"))).status).toBe(404);
    expect((await get(`${url}/metrics`, bearer("operator"))).text).toMatch(/^lair_requests_total/m);
    expect(await place.state.usage.list({ limit: 1 })).toEqual([]);
  });
});
