import { expect, it } from "vitest";
import { type Call, type Handler, jsonReply } from "../../src/core/call.ts";
import { readDemand } from "../../src/dialects/demand.ts";
import { tokenizer } from "../../src/usage/tokenizer.ts";
import { toCall } from "../support/tunnel-calls.ts";

async function chat(): Promise<Call> {
  const { call } = toCall({ json: { model: "home:qwen" } });
  await readDemand(call);
  return call;
}

it("asks the call's model for the tokens of a text, in the words of both servers that can tell", async () => {
  const bodies: unknown[] = [];
  const handler: Handler = async (call) => {
    expect([call.method, call.path]).toEqual(["POST", "/tokenize"]);
    bodies.push(await call.json());
    return jsonReply(200, bodies.length === 1 ? { tokens: [1, 2, 3] } : { count: 5, tokens: [] });
  };
  const count = tokenizer(handler);
  expect(await count(await chat(), "hello")).toBe(3);
  expect(await count(await chat(), "hello")).toBe(5);
  expect(bodies[0]).toMatchObject({ model: "home:qwen", content: "hello", prompt: "hello" });
});

it("knows nothing where the model is not known, or the answer is none", async () => {
  const count = tokenizer(() => Promise.resolve(jsonReply(404, { tokens: [1] })));
  expect(await count(await chat(), "hello")).toBeUndefined();
  expect(await count(toCall().call, "hello")).toBeUndefined();
  const odd = tokenizer(() => Promise.resolve(jsonReply(200, { tokens: "many" })));
  expect(await odd(await chat(), "hello")).toBeUndefined();
});

it("asks two at a time, and leaves the rest to estimates when very many are waiting", async () => {
  const open: (() => void)[] = [];
  const count = tokenizer(async () => {
    await new Promise<void>((resolve) => open.push(resolve));
    return jsonReply(200, { count: 1 });
  });
  const call = await chat();
  const counts = Array.from({ length: 100 }, () => count(call, "x"));
  expect(open).toHaveLength(2);
  let answered = 0;
  const all = Promise.all(counts.map((one) => one.then(() => answered++)));
  while (answered < 100) {
    open.shift()?.();
    await new Promise((resolve) => setImmediate(resolve));
    expect(open.length).toBeLessThanOrEqual(2);
  }
  await all;
  expect((await Promise.all(counts)).filter((one) => one === 1)).toHaveLength(34);
});
