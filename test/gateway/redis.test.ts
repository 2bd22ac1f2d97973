import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { startFakeOpenAi } from "../support/fake-openai.ts";
import { type HeldGateway, holdGateway, openPlace, type Place } from "../support/gateway.ts";
import { redisMissing, type RedisServer, startRedis } from "../support/redis.ts";
import { ask, get } from "../support/tunnel-caller.ts";
import { waitUntil } from "../support/tunnel-log.ts";

// Gateways that share a Redis, as behind a load balancer; and what they do while it is away.

const missing = redisMissing();
if (missing !== undefined) console.warn(`The tests of gateways over Redis are skipped: ${missing}.`);

let redis: RedisServer;
let place: Place;
const closing: (() => Promise<unknown>)[] = [];
beforeEach(async () => {
  if (missing !== undefined) return;
  redis = await startRedis({ persistence: "append" });
  closing.push(() => redis.close());
  place = await openPlace(redis.url);
  closing.push(() => place.close());
});
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

async function gateway(env: Record<string, string> = {}): Promise<HeldGateway> {
  const upstream = await startFakeOpenAi({ model: "small", reply: [{ text: "hi" }, { finish: "stop" }] });
  closing.push(() => upstream.close());
  const started = await holdGateway(place, `llama=${upstream.url}`, { LAIR_AUTH_ADMIN: "operator", ...env });
  closing.push(() => started.close());
  return started;
}

const body = { model: "small", messages: [{ role: "user", content: "hello" }], max_tokens: 5 };
const chat = async ({ url }: HeldGateway, key: string): Promise<number> =>
  (await ask(`${url}/v1/chat/completions`, { headers: { authorization: `Bearer ${key}` }, body })).status;
const metric = async ({ url }: HeldGateway, name: string): Promise<string | undefined> => {
  const { text } = await get(`${url}/metrics`, { authorization: "Bearer operator" });
  return new RegExp(`^${name} (\\S+)$`, "m").exec(text)?.[1];
};

describe.skipIf(missing !== undefined)("two gateways over one Redis", () => {
  it("hold a key to its limit together, and write down what both have answered", async () => {
    const [one, two] = [await gateway(), await gateway()];
    const key = await place.createKey("shared", { limits: { requestsPerMinute: 20 } });
    for (const { url } of [one, two])
      await waitUntil(async () => (await get(`${url}/v1/models`, { "api-key": key })).status === 200, "it is known");
    const statuses = await Promise.all(Array.from({ length: 60 }, (_, at) => chat(at % 2 === 0 ? one : two, key)));
    const passed = statuses.filter((status) => status === 200).length;
    // A share that lies unused at the other one when the last are refused comes back later, and never twice.
    expect(passed).toBeLessThanOrEqual(20);
    expect(passed).toBeGreaterThanOrEqual(18);
    expect(statuses.filter((status) => status === 429)).toHaveLength(60 - passed);
    const records = await place.records(60);
    expect(new Set(records.map(({ id }) => id)).size).toBe(60);
  });
});

describe.skipIf(missing !== undefined)("a gateway whose Redis goes away", () => {
  it("goes on under the keys it knew and limits of its own, says so, and brings its usage there later", async () => {
    const each = await gateway();
    const key = await place.createKey("loyal", { limits: { requestsPerMinute: 1000 } });
    await waitUntil(async () => (await chat(each, key)) === 200, "the key is known");
    expect([await metric(each, "lair_state_up"), await metric(each, "lair_limits_local")]).toEqual(["1", "0"]);
    const before = (await place.records(1)).length;
    await redis.stop();
    const statuses: number[] = [];
    await waitUntil(async () => {
      statuses.push(await chat(each, key));
      return (await metric(each, "lair_limits_local")) === "1";
    }, "limits are local");
    for (let more = 0; more < 10; more++) statuses.push(await chat(each, key));
    expect(statuses.filter((status) => status !== 200)).toEqual([]);
    expect(await metric(each, "lair_state_up")).toBe("0");
    expect(await chat(each, "nobody's")).toBe(401);
    await redis.start();
    await waitUntil(async () => (await metric(each, "lair_limits_local")) === "0", "limits are shared again");
    await waitUntil(async () => {
      const found = await place.state.usage.list({ limit: 1000 }).catch(() => []);
      return found.length >= before + statuses.length;
    }, "what was used meanwhile is written down");
    expect(await metric(each, "lair_usage_lost_total")).toBe("0");
  });

  it("refuses callers with limits when it stays away too long, and nobody else", async () => {
    const each = await gateway({ LAIR_STATE_GRACE: "1s", LLM_V1_PROXY_TOKEN: "static" });
    const key = await place.createKey("limited", { limits: { requestsPerMinute: 1000 } });
    await waitUntil(async () => (await chat(each, key)) === 200, "the key is known");
    await redis.stop();
    await waitUntil(async () => (await chat(each, key)) === 503, "limits are no longer known");
    expect(await chat(each, "static")).toBe(200);
  });
});
