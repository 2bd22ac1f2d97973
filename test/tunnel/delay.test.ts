import { createHash, randomBytes } from "node:crypto";
import { afterAll, beforeAll, expect, test } from "vitest";
import { ask, open } from "../support/tunnel-caller.ts";
import { asCaller, type Chain, startChain } from "../support/tunnel-chain.ts";
import { type Line, startSlowLine } from "../support/tunnel-lines.ts";
import { answerJson, beginStream, chatEvent, SteeredRuntime, wholeChat } from "../support/tunnel-runtime.ts";

// A tunnel over a long line: 50 ms from the agent to the relay and back.

let runtime: SteeredRuntime;
let line: Line;
let chain: Chain;
const where = (): string => `${chain.url}/v1/chat/completions`;
const chat = { body: { model: "demo", messages: [] }, headers: asCaller };
const megabyte = 1024 * 1024;
const sum = (data: Buffer): string => createHash("sha256").update(data).digest("hex");

beforeAll(async () => {
  runtime = await SteeredRuntime.start();
  const front = async (url: string): Promise<string> => (line = await startSlowLine(url)).url;
  chain = await startChain({ runtime: runtime.url, front });
});
afterAll(async () => {
  await chain?.close();
  await line?.close();
  await runtime?.close();
});

test("32 MB go up and come down as they were, in fewer turns than small windows would take", async () => {
  const image = randomBytes(24 * megabyte).toString("base64");
  const text = JSON.stringify({ model: "demo", messages: [], image });
  runtime.answering = async (asked) => {
    const body = await asked.body();
    asked.reply.writeHead(200, { "content-type": "application/octet-stream" }).end(body);
  };
  const before = performance.now();
  const headers = { ...asCaller, "content-type": "application/json" };
  const answer = await ask(where(), { body: text, headers });
  expect(answer.clean).toBe(true);
  expect(sum(answer.body)).toBe(sum(Buffer.from(text)));
  // By the windows of HTTP/2's defaults, 64 kB, each way takes 500 turns of 50 ms: 50 s in all.
  expect(performance.now() - before).toBeLessThan(25_000);
});

test("200 streams at a time arrive in order, and those who leave are noticed", async () => {
  runtime.answering = (asked) => beginStream(asked);
  const before = runtime.asked.length;
  const exchanges = await Promise.all(Array.from({ length: 200 }, () => open(where(), chat)));
  const streams = runtime.asked.slice(before);
  for (let word = 0; word < 20; word++) for (const { reply } of streams) reply.write(chatEvent(`word${word} `));
  await Promise.all(exchanges.map((exchange) => exchange.until(/word19 /)));
  for (const exchange of exchanges.slice(0, 100)) exchange.leave();
  await Promise.race(streams.map(({ left }) => left));
  for (const { reply } of streams) if (!reply.destroyed) reply.end("data: [DONE]\n\n");
  const answers = await Promise.all(exchanges.slice(100).map(({ answer }) => answer));
  const words = Array.from({ length: 20 }, (_, word) => chatEvent(`word${word} `)).join("");
  expect(answers.filter(({ clean, text }) => clean && text === `${words}data: [DONE]\n\n`)).toHaveLength(100);
  await runtime.idle();
});

test("small calls one after the other are answered", async () => {
  runtime.answering = async (asked) => {
    await asked.body();
    answerJson(asked, 200, wholeChat("done"));
  };
  for (let call = 0; call < 10; call++) expect((await ask(where(), chat)).status).toBe(200);
});
