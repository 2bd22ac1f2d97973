import { describe, expect, it } from "vitest";
import type { JsonObject } from "../../src/core/json.ts";
import {
  type AskingModel,
  card,
  failing,
  type FakeUpstream,
  startGateway,
  startUpstream,
  type TestGateway,
} from "../support/routing.ts";

async function turns(gateway: TestGateway, count: number, headers: Record<string, string> = {}): Promise<string> {
  let said = "";
  for (let turn = 0; turn < count; turn++) said += String((await gateway.chat("demo", { headers })).json.by);
  return said;
}

function saying(text: string, more: JsonObject = {}): AskingModel {
  return { json: { messages: [{ role: "user", content: text }], ...more } };
}

const picture = { role: "user", content: [{ type: "image_url", image_url: { url: "data:image/png;base64,AAAA" } }] };
const tools = [{ type: "function", function: { name: "f", parameters: {} } }];

describe("calls for a model that several upstreams list", () => {
  it("are shared out by weight, evenly", async () => {
    const [a, b] = [await startUpstream("a"), await startUpstream("b")];
    const gateway = await startGateway({ a: { urls: [a.url], weight: 3 }, b: { urls: [b.url], weight: 1 } });
    expect(await turns(gateway, 8)).toBe("aabaaaba");
  });

  it("skip who fails, and do not pay for the turns that it missed when it is back", async () => {
    const [a, b] = [await startUpstream("a"), await startUpstream("b")];
    const gateway = await startGateway({ a, b });
    a.answering = failing(429, "rate_limit_exceeded", {}, { "retry-after": "10" });
    expect(await turns(gateway, 6)).toBe("bbbbbb");
    expect(a.calls.length).toBe(1);
  });

  it("of one session stay where its prompt cache is, those of many are spread by weight", async () => {
    const [a, b] = [await startUpstream("a"), await startUpstream("b")];
    const gateway = await startGateway({ a: { urls: [a.url], weight: 3 }, b: { urls: [b.url], weight: 1 } });
    const first = new Map<string, string>();
    for (let session = 0; session < 40; session++) {
      const header = ["x-session-id", "x-session-affinity", "session_id"][session % 3] as string;
      const said = await turns(gateway, 3, { [header]: `session ${session}` });
      expect(said).toMatch(/^(?:aaa|bbb)$/);
      first.set(`session ${session}`, said);
    }
    const atA = [...first.values()].filter((said) => said === "aaa").length;
    expect(atA).toBeGreaterThan(20);
    expect(atA).toBeLessThan(40);
  });

  it("of a session go elsewhere while its upstream is away, and come back", async () => {
    const upstreams = { a: await startUpstream("a"), b: await startUpstream("b") };
    const gateway = await startGateway(upstreams);
    const headers = { "x-session-id": "s" };
    const home = (await turns(gateway, 1, headers)) as keyof typeof upstreams;
    const other = home === "a" ? "b" : "a";
    const answering = upstreams[home].answering;
    upstreams[home].answering = failing(503, "service_unavailable", {}, { "retry-after": "5" });
    expect(await turns(gateway, 3, headers)).toBe(other.repeat(3));
    upstreams[home].answering = answering;
    gateway.clock.advance(5000);
    expect(await turns(gateway, 3, headers)).toBe(home.repeat(3));
  });
});

describe("a target that cannot do what a call asks for", () => {
  const models = { m: ["a/demo", "b/demo"] };
  async function unequal(
    first: JsonObject,
    second: JsonObject,
  ): Promise<{ a: FakeUpstream; b: FakeUpstream; gateway: TestGateway }> {
    const a = await startUpstream("a", [card("demo", first)]);
    const b = await startUpstream("b", [card("demo", second)]);
    return { a, b, gateway: await startGateway({ a, b }, { models }) };
  }

  it("is passed over for one with a longer context", async () => {
    const { a, gateway } = await unequal({ context_length: 1000 }, { context_length: 100_000 });
    expect((await gateway.chat("m", saying("word ".repeat(100)))).json.by).toBe("a");
    expect((await gateway.chat("m", saying("word ".repeat(10_000)))).json.by).toBe("b");
    expect(a.calls.length).toBe(1);
  });

  it("is passed over for an answer that needs a good part of its context, not for a bound that nobody reaches", async () => {
    const { gateway } = await unequal({ context_length: 4000 }, { context_length: 100_000 });
    expect((await gateway.chat("m", saying("word ".repeat(1000), { max_tokens: 32_000 }))).json.by).toBe("a");
    expect((await gateway.chat("m", saying("word ".repeat(3000), { max_tokens: 32_000 }))).json.by).toBe("b");
  });

  it("is passed over for one that sees images", async () => {
    const seeing = { capabilities: { chat: true, tools: true, vision: true } };
    const { gateway } = await unequal({}, seeing);
    expect((await gateway.chat("m")).json.by).toBe("a");
    expect((await gateway.chat("m", { json: { messages: [picture] } })).json.by).toBe("b");
  });

  it("is passed over for one that calls tools", async () => {
    const { gateway } = await unequal({ capabilities: { chat: true, tools: false } }, {});
    expect((await gateway.chat("m")).json.by).toBe("a");
    expect((await gateway.chat("m", saying("Hi", { tools }))).json.by).toBe("b");
  });

  it("gets the call all the same where nobody can, for it says why in its own words", async () => {
    const { a, b, gateway } = await unequal({ context_length: 1000 }, { context_length: 1000 });
    a.answering = failing(400, "context_length_exceeded");
    expect((await gateway.chat("m", saying("word ".repeat(10_000)))).status).toBe(400);
    expect([a.calls.length, b.calls.length]).toEqual([1, 0]);
  });

  it("does not stand in for an able one that is away: a prompt that is too long would be told to be shortened", async () => {
    const { a, b, gateway } = await unequal({ context_length: 1000 }, { context_length: 100_000 });
    b.answering = failing(503, "service_unavailable");
    expect((await gateway.chat("m", saying("word ".repeat(10_000)))).status).toBe(503);
    expect(a.calls.length).toBe(0);
  });
});
