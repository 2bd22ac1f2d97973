import { copyFileSync } from "node:fs";
import path from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { startFakeOpenAi } from "../support/fake-openai.ts";
import type { FakeServer } from "../support/fake-server.ts";
import { type HeldGateway, holdGateway, openPlace, type Place } from "../support/gateway.ts";
import { type Answer, ask, get, open } from "../support/tunnel-caller.ts";
import { type Certificate, makeCertificate } from "../support/tunnel-certificate.ts";
import { waitUntil } from "../support/tunnel-log.ts";

// A gateway with a state in a file, before one server of another make.

let upstream: FakeServer;
let place: Place;
const gateways: HeldGateway[] = [];

beforeAll(async () => {
  upstream = await startFakeOpenAi({
    models: ["small", "large"],
    reply: [{ text: "one two three" }, { finish: "stop", prompt: 7, completion: 3 }],
  });
});
afterAll(() => upstream.close());
afterEach(async () => {
  await Promise.all(gateways.splice(0).map((gateway) => gateway.close()));
  await place.close();
});

async function gatewayWith(env: Record<string, string> = {}): Promise<HeldGateway> {
  const gateway = await holdGateway(place, `llama=${upstream.url}`, env);
  gateways.push(gateway);
  await waitUntil(async () => (await get(`${gateway.url}/ready`)).status === 200, "the gateway is ready");
  return gateway;
}

const body = { model: "small", messages: [{ role: "user", content: "hello" }], max_tokens: 20 };
const chat = ({ url }: { url: string }, key: string, more: object = {}): Promise<Answer> =>
  ask(`${url}/v1/chat/completions`, { headers: { authorization: `Bearer ${key}` }, body: { ...body, ...more } });
const errorOf = ({ text }: Answer): { code: string; message: string } =>
  (JSON.parse(text) as { error: { code: string; message: string } }).error;
const bearer = (key: string): Record<string, string> => ({ authorization: `Bearer ${key}` });

describe("a gateway", () => {
  it("lets in who shows a key that works, and writes down what it has used", async () => {
    place = await openPlace();
    const key = await place.createKey("laptop");
    const gateway = await gatewayWith();
    const answer = await chat(gateway, key);
    expect([answer.status, answer.headers["x-lair-target"]]).toEqual([200, "llama/small"]);
    const wrong = await chat(gateway, `${key.slice(0, -4)}AAAA`);
    expect([wrong.status, errorOf(wrong).code]).toEqual([401, "invalid_api_key"]);
    const [record] = await place.records(1);
    expect(record).toMatchObject({
      key: (await place.state.keys.find("laptop"))?.id,
      path: "/v1/chat/completions",
      model: "small",
      provider: "llama",
      promptTokens: 7,
      completionTokens: 3,
      counted: "reported",
      status: 200,
      outcome: "complete",
    });
    expect(JSON.stringify(record)).not.toContain("hello");
  });

  it("asks nobody for a key until there is one, and then everybody", async () => {
    place = await openPlace();
    const gateway = await gatewayWith();
    expect((await get(`${gateway.url}/v1/models`)).status).toBe(200);
    expect(gateway.asksForKey).toBe(false);
    const key = await place.createKey("first");
    await waitUntil(async () => (await get(`${gateway.url}/v1/models`)).status === 401, "it asks for a key");
    expect(gateway.asksForKey).toBe(true);
    expect((await get(`${gateway.url}/v1/models`, bearer(key))).status).toBe(200);
  });

  it("answers nobody who comes through a front while it asks nobody for a key", async () => {
    place = await openPlace();
    const gateway = await gatewayWith();
    const forwarded = { "x-forwarded-for": "203.0.113.9" };
    expect((await get(`${gateway.url}/v1/models`, forwarded)).status).toBe(403);
    expect((await get(`${gateway.url}/admin/usage`, forwarded)).status).toBe(403);
  });

  it("refuses to listen beyond this machine without a key, and says how to get one", async () => {
    place = await openPlace();
    const refused = holdGateway(place, `llama=${upstream.url}`, { LAIR_GATEWAY_HOST: "0.0.0.0" });
    await expect(refused).rejects.toThrow(/without a key is refused[\s\S]*lair keys create NAME/);
    await place.createKey("one");
    const gateway = await gatewayWith({ LAIR_GATEWAY_HOST: "0.0.0.0" });
    expect((await get(`${gateway.url.replace("0.0.0.0", "127.0.0.1")}/v1/models`)).status).toBe(401);
  });

  it("tells a key at its limit which one it is, and when to come again", async () => {
    place = await openPlace();
    const key = await place.createKey("slow", { limits: { requestsPerMinute: 2 } });
    const gateway = await gatewayWith();
    const first = await chat(gateway, key);
    expect([first.status, first.headers["x-ratelimit-limit-requests"]]).toEqual([200, "2"]);
    expect((await chat(gateway, key)).headers["x-ratelimit-remaining-requests"]).toBe("0");
    const third = await chat(gateway, key);
    expect([third.status, errorOf(third).code]).toEqual([429, "rate_limit_exceeded"]);
    expect(Number(third.headers["retry-after"])).toBeGreaterThan(0);
    expect(errorOf(third).message).toMatch(/limit of 2 requests per minute is reached/);
    const other = await place.createKey("other");
    await waitUntil(async () => (await chat(gateway, other)).status === 200, "the other key works");
    expect((await place.records(4)).map(({ outcome }) => outcome)).toContain("refused");
  });

  it("holds callers to the limits of the configuration, who have none of their own", async () => {
    place = await openPlace();
    const plain = await place.createKey("plain");
    const own = await place.createKey("own", { limits: { requestsPerMinute: 3 } });
    const gateway = await gatewayWith({ LAIR_LIMITS_CALLER_REQUESTS_PER_MINUTE: "1", LLM_V1_PROXY_TOKEN: "static" });
    const until429 = async (key: string): Promise<number> => {
      let passed = 0;
      while ((await chat(gateway, key)).status === 200) passed++;
      return passed;
    };
    expect([await until429(plain), await until429(own), await until429("static")]).toEqual([1, 3, 1]);
  });

  it("keeps its own affairs for operators", async () => {
    place = await openPlace();
    const keys = {
      caller: await place.createKey("caller"),
      metrics: await place.createKey("prometheus", { roles: ["metrics"] }),
      admin: await place.createKey("boss", { roles: ["admin"] }),
    };
    const gateway = await gatewayWith({ LAIR_AUTH_ADMIN: "static-admin" });
    const paths = ["/v1/models", "/metrics", "/admin/keys", "/admin/usage", "/admin/upstreams", "/health"];
    const statuses = async (key: string): Promise<number[]> =>
      Promise.all(paths.map(async (one) => (await get(gateway.url + one, bearer(key))).status));
    expect(await statuses(keys.caller)).toEqual([200, 403, 403, 403, 403, 200]);
    expect(await statuses(keys.metrics)).toEqual([403, 200, 403, 403, 403, 200]);
    expect(await statuses(keys.admin)).toEqual([403, 200, 200, 200, 200, 200]);
    expect(await statuses("static-admin")).toEqual([200, 200, 200, 200, 200, 200]);
    const { upstreams } = JSON.parse((await get(`${gateway.url}/admin/upstreams`, bearer(keys.admin))).text) as {
      upstreams: object[];
    };
    expect(upstreams).toMatchObject([{ name: "llama", healthy: true, circuit: "closed", models: ["small", "large"] }]);
    const { text } = await get(`${gateway.url}/metrics`, bearer(keys.metrics));
    expect(text).toMatch(/^lair_limits_local 0$/m);
    expect(text).toMatch(/^lair_state_up 1$/m);
  });

  it("is ready when an upstream is", async () => {
    place = await openPlace();
    const gone = await startFakeOpenAi();
    await gone.close();
    const gateway = await holdGateway(place, gone.url);
    gateways.push(gateway);
    const late = await holdGateway(place, `gone=${gone.url},there=${upstream.url}`);
    gateways.push(late);
    await waitUntil(async () => (await get(`${late.url}/ready`)).status === 200, "one of two is enough");
    const answer = await get(`${gateway.url}/ready`);
    expect([answer.status, answer.text]).toEqual([503, expect.stringContaining("no upstream answers: upstream")]);
    expect((await get(`${gateway.url}/health`)).status).toBe(200);
  });

  it("lets calls of a model wait in line, and tells them their place", async () => {
    place = await openPlace();
    const key = await place.createKey("patient");
    let go = (): void => undefined;
    const gate = new Promise<void>((resolve) => (go = resolve));
    const slow = await startFakeOpenAi({ reply: [{ text: "one" }, { wait: gate }, { finish: "stop" }] });
    const gateway = await holdGateway(place, slow.url, { LAIR_QUEUE_CONCURRENT: "1" });
    gateways.push(gateway);
    const streamed = { headers: bearer(key), body: { ...body, model: "gemma-3-4b", stream: true } };
    const first = await open(`${gateway.url}/v1/chat/completions`, streamed);
    const second = await open(`${gateway.url}/v1/chat/completions`, streamed);
    await second.until(/^: waiting in line, position 1 of 1$/m);
    go();
    for (const { answer } of [first, second]) expect((await answer).text).toMatch(/one[\s\S]*\[DONE\]/);
    await slow.close();
  });

  it("speaks TLS, and takes over another certificate when its files change", async ({ skip }) => {
    const [own, other] = [makeCertificate(), makeCertificate()];
    if (own === undefined || other === undefined) return skip("openssl is not installed");
    place = await openPlace();
    const files = { cert: path.join(place.folder, "cert.pem"), key: path.join(place.folder, "key.pem") };
    const put = ({ cert, key }: Certificate): void => {
      copyFileSync(cert, files.cert);
      copyFileSync(key, files.key);
    };
    put(own);
    const env = { LAIR_GATEWAY_TLS_CERT: files.cert, LAIR_GATEWAY_TLS_KEY: files.key };
    const gateway = await holdGateway(place, upstream.url, env);
    gateways.push(gateway);
    const statusBy = async ({ cert }: Certificate): Promise<number> =>
      (await ask(`${gateway.url}/health`, { method: "GET", ca: cert })).status;
    expect([gateway.url.slice(0, 6), await statusBy(own)]).toEqual(["https:", 200]);
    put(other);
    gateway.reload();
    expect(await statusBy(other)).toBe(200);
    own.remove();
    other.remove();
  });

  it("does without any state where told to", async () => {
    place = await openPlace();
    const gateway = await gatewayWith({ LAIR_STATE: "none", LLM_V1_PROXY_TOKEN: "only" });
    expect(gateway.place).toBeUndefined();
    expect([(await chat(gateway, "only")).status, (await chat(gateway, "another")).status]).toEqual([200, 401]);
    expect(await place.state.usage.list({ limit: 10 })).toEqual([]);
  });
});
