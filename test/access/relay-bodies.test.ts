import { once } from "node:events";
import { request as httpRequest } from "node:http";
import { afterEach, expect, test } from "vitest";
import { asCaller, callerKey, type Chain, startChain } from "../support/tunnel-chain.ts";
import { answerJson, SteeredRuntime, wholeChat } from "../support/tunnel-runtime.ts";

// A relay passes large bodies on as they come: a credential in one must not go with them.

const toClose: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of toClose.splice(0).toReversed()) await close();
});

const planted = "planted-in-a-large-body-0123456789";

async function chain(answering?: SteeredRuntime["answering"]): Promise<{ relay: Chain; runtime: SteeredRuntime }> {
  const runtime = await SteeredRuntime.start(answering);
  toClose.push(() => runtime.close());
  const relay = await startChain({ runtime: runtime.url });
  toClose.push(() => relay.close());
  return { relay, runtime };
}

test("a key at the end of a large body never reaches the runtime, and its sender learns why", async () => {
  const got: Buffer[] = [];
  const { relay, runtime } = await chain(({ request, reply }) => {
    reply.on("error", () => undefined);
    request.on("error", () => undefined).on("data", (piece: Buffer) => got.push(piece));
  });
  const body = `{"model":"demo","text":"${"x".repeat(3 * 1024 * 1024)}","api_key":"${planted}"}`;
  const reply = await fetch(`${relay.url}/v1/chat/completions`, {
    method: "POST",
    headers: { ...asCaller, "content-type": "application/json" },
    body,
  });
  const text = await reply.text();
  expect([reply.status, text]).toEqual([400, expect.stringContaining("too large for it to be taken out")]);
  expect(text).not.toContain(planted);
  await Promise.all(runtime.asked.map(({ left }) => left));
  expect(Buffer.concat(got).includes(planted)).toBe(false);
  expect(JSON.stringify(relay.relayLog.lines) + JSON.stringify(relay.agentLog.lines)).not.toContain(planted);
});

test("a large body with its key in the header still flows: its beginning arrives before its end is sent", async () => {
  let arrived!: () => void;
  const beginning = new Promise<void>((resolve) => (arrived = resolve));
  const { relay } = await chain(async (asked) => {
    asked.request.once("data", arrived);
    await asked.body();
    answerJson(asked, 200, wholeChat("well"));
  });
  const request = httpRequest(`${relay.url}/v1/chat/completions`, {
    method: "POST",
    headers: { ...asCaller, "content-type": "application/json" },
  });
  request.write(`{"model":"demo","text":"${"x".repeat(2 * 1024 * 1024)}`);
  await beginning;
  request.end('"}');
  const [reply] = (await once(request, "response")) as [{ statusCode: number; resume(): void }];
  reply.resume();
  expect(reply.statusCode).toBe(200);
});

test("a large body may be the only place of the key", async () => {
  const bodies: Buffer[] = [];
  const { relay } = await chain(async (asked) => {
    bodies.push(await asked.body());
    answerJson(asked, 200, wholeChat("well"));
  });
  const text = "x".repeat(2 * 1024 * 1024);
  const reply = await fetch(`${relay.url}/v1/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: `{"api-key":"${callerKey}","model":"demo","text":"${text}"}`,
  });
  expect(reply.status).toBe(200);
  expect(bodies[0]?.includes(text)).toBe(true);
  expect(bodies[0]?.includes(callerKey)).toBe(false);
});
