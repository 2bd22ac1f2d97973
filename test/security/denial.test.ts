import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { startFakeOpenAi } from "../support/fake-openai.ts";
import { type HeldGateway, holdGateway, openPlace, type Place } from "../support/gateway.ts";
import { type Answer, ask, get } from "../support/tunnel-caller.ts";
import { waitUntil } from "../support/tunnel-log.ts";

// What callers may make up without end must not cost without end.

let place: Place;
let gateway: HeldGateway;
const closing: (() => Promise<unknown>)[] = [];
const key = "a-fixed-token-of-callers";
const chatPath = "/v1/chat/completions";

beforeEach(async () => {
  place = await openPlace();
  const reply = [{ text: "hi" }, { finish: "stop", prompt: 1, completion: 1 }];
  const upstream = await startFakeOpenAi({ model: "small", reply });
  gateway = await holdGateway(place, `llama=${upstream.url}`, {
    LLM_V1_PROXY_TOKEN: key,
    LAIR_AUTH_ADMIN: "a-fixed-token-of-operators",
    LAIR_QUEUE_CONCURRENT: "100",
  });
  closing.push(
    () => upstream.close(),
    () => gateway.close(),
    () => place.close(),
  );
  await waitUntil(async () => (await get(`${gateway.url}/ready`)).status === 200);
});
afterEach(async () => {
  for (const close of closing.splice(0)) await close();
});

const bearer = (secret: string): Record<string, string> => ({ authorization: `Bearer ${secret}` });
const chat = (model: string, headers = bearer(key)): Promise<Answer> =>
  ask(gateway.url + chatPath, { headers, body: { model, messages: [{ role: "user", content: "x" }] } });
const codeOf = ({ text }: Answer): string => (JSON.parse(text) as { error: { code: string } }).error.code;

async function inTurns(count: number, run: (index: number) => Promise<unknown>): Promise<void> {
  let next = 0;
  const work = async (): Promise<void> => {
    while (next < count) await run(next++);
  };
  await Promise.all(Array.from({ length: 20 }, work));
}

describe("what callers make up", () => {
  it("gives the metrics no label each: models, paths, keys, methods", async () => {
    await inTurns(300, async (index) => {
      expect((await chat(`made-up-${index}`)).status).toBe(200);
      await get(`${gateway.url}/made-up-${index}`, bearer(key));
      await get(`${gateway.url}/v1/models/made-up-${index}`, bearer(key));
      await get(`${gateway.url}/v1/models`, bearer(`made-up-wrong-key-${index}`));
    });
    const { text } = await get(`${gateway.url}/metrics`, bearer("a-fixed-token-of-operators"));
    expect(new Set(text.match(/made-up-\d+/g)).size).toBeLessThanOrEqual(100);
    expect(text).toMatch(/model="other"/);
    expect(text).not.toMatch(/wrong-key|path="\/made/);
    expect(text.split("\n").filter((line) => line.startsWith("lair_requests_total")).length).toBeLessThan(20);
  });

  it("is no name of a model when it is as long as a book", async () => {
    const answer = await chat("x".repeat(1_000_000));
    expect([answer.status, codeOf(answer)]).toEqual([400, "invalid_value"]);
    expect(answer.text.length).toBeLessThan(1000);
    expect(gateway.log.lines.every((line) => line.length < 5000)).toBe(true);
  });

  it("does not fill the log as a path", async () => {
    await get(`${gateway.url}/${"a=".repeat(10_000)}`, bearer(key));
    await get(`${gateway.url}/${"a".repeat(20_000)}`, bearer(key));
    expect(gateway.log.lines.every((line) => line.length < 5000)).toBe(true);
  });
});

describe("a body that is built to be costly", () => {
  const lists = "[],".repeat(3_000_000);

  it("is not read as JSON for a stranger: a wrong key in it is all that matters", async () => {
    for (const body of [
      `{"a":[${lists}[]],"api_key":"a-wrong-key-in-a-body"}`,
      `{"a":[${lists}],"api_key":"a-wrong-key-in-a-body" and no JSON`,
    ]) {
      const answer = await ask(gateway.url + chatPath, { body });
      expect([answer.status, codeOf(answer)]).toEqual([401, "invalid_api_key"]);
    }
  });

  it("is refused for its millions of parts before they are made, whoever sends it", async () => {
    const headers = bearer(key);
    for (const body of [
      `{"model":"small","a":[${lists}[]]}`,
      `{"model":"small","a":[${'"",'.repeat(3_000_000)}""]}`,
      `{"model":"small",${'"a":1,'.repeat(3_000_000)}"b":1}`,
    ]) {
      const answer = await ask(gateway.url + chatPath, { headers, body });
      expect([answer.status, codeOf(answer)]).toEqual([400, "invalid_json"]);
    }
    const fields = `{"model":"small",${'"a":1,'.repeat(3_000_000)}"api_key":"${key}"}`;
    expect((await ask(gateway.url + chatPath, { body: fields })).status).toBe(400);
  });

  it("of numbers and long texts, as prompts are, goes on", async () => {
    const body = {
      model: "small",
      messages: [{ role: "user", content: "x".repeat(5_000_000) }],
      numbers: Array.from({ length: 1_000_000 }, () => 1),
    };
    expect((await ask(gateway.url + chatPath, { headers: bearer(key), body })).status).toBe(200);
  });
});
