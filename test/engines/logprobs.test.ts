import { describe, expect, test } from "vitest";
import type { ChatEvent, ChatRequest, TokenLogprob } from "../../src/core/chat.ts";
import { LogprobReader } from "../../src/engines/llama/generation/logprobs.ts";
import { scriptedModel } from "../../src/engines/gguf/scripted-model.ts";
import { chatRequest } from "../support/chat-request.ts";
import { randomDecoder } from "../support/gguf.ts";
import { readAnswer, startEngine, writeModel } from "../support/llama.ts";

const never = new AbortController().signal;
const tokensOf = (events: readonly ChatEvent[]): TokenLogprob[] =>
  events.flatMap((event) => (event.type === "logprobs" ? event.tokens : []));
const total = (tokens: readonly { logprob: number }[]): number =>
  tokens.reduce((sum, { logprob }) => sum + Math.exp(logprob), 0);

describe("log probabilities", () => {
  test.for([
    ["of a spread like a model's", (index: number) => Math.sin(index * 12.9898) * 14],
    ["that are nearly equal", (index: number) => 1e-3 * (index % 7)],
    ["far apart", (index: number) => (index === 4321 ? 900 : -900)],
    ["some of which are banned", (index: number) => (index % 3 === 0 ? -Infinity : Math.cos(index) * 5)],
  ] as const)("equal a plain softmax of logits %s", ([, logitOf]) => {
    const logits = Float32Array.from({ length: 20_000 }, (_, index) => logitOf(index));
    const highest = logits.reduce((a, b) => Math.max(a, b));
    const sum = logits.reduce((sum, logit) => sum + Math.exp(logit - highest), 0);
    const expected = (token: number): number => (logits[token] ?? 0) - highest - Math.log(sum);
    const reader = new LogprobReader((token) => Buffer.from(String(token)));
    const read = reader.read(logits, 77, 20);
    expect(read.logprob).toBeCloseTo(expected(77), 5);
    const order = [...logits.keys()].toSorted((a, b) => (logits[b] ?? 0) - (logits[a] ?? 0) || a - b);
    expect(read.top.map(({ token }) => Number(token))).toEqual(order.slice(0, 20));
    for (const { token, logprob } of read.top) expect(logprob).toBeCloseTo(expected(Number(token)), 5);
    // Memory is used again: the next answer must not show this one's.
    expect(reader.read(logits, order[0] ?? 0, 0)).toMatchObject({ token: String(order[0]), top: [] });
    expect(reader.likeliest(logits).token).toBe(order[0]);
    expect(reader.likeliest(logits).probability).toBeCloseTo(Math.exp(expected(order[0] ?? 0)), 6);
  });

  const engine = startEngine({ model: writeModel("odds.gguf", randomDecoder({ architecture: "llama", seed: 5 })) });
  const ask = async (more: Partial<ChatRequest>): Promise<TokenLogprob[]> =>
    tokensOf(
      (await readAnswer(engine.chat(chatRequest("odds", "Once", { topLogprobs: 20, maxTokens: 1, ...more }), never)))
        .events,
    );
  const schema: ChatRequest["responseFormat"] = { type: "json-schema", name: "x", schema: { enum: ["yes"] } };

  test.for<[string, Partial<ChatRequest>]>([
    ["temperature", { temperature: 2, seed: 4, topK: 0 }],
    ["filters", { temperature: 1, topK: 1, topP: 0.1, minP: 1 }],
    ["bias", { logitBias: { "30": 100 } }],
    ["a grammar", { responseFormat: schema, maxTokens: 3 }],
    ["min_tokens", { minTokens: 1 }],
  ])("are the model's own, before %s", async ([, more]) => {
    const [plain] = await ask({});
    const [changed] = await ask(more);
    expect(changed?.top).toEqual(plain?.top);
    expect(total(plain?.top ?? [])).toBeLessThanOrEqual(1.000001);
  });

  test("of a token outside of the likeliest are told too", async () => {
    const [token] = await ask({ logitBias: { "30": 100 } });
    expect(token?.bytes).toEqual([30]);
    expect(token?.logprob).toBeLessThan(token?.top.at(-1)?.logprob ?? 0);
  });

  test("come for the tokens that are said: none of a stop string, all of what was held back in vain", async () => {
    const script = (stop: string[]) => chatRequest("teller", "Go", { stop, topLogprobs: 0 });
    const model = scriptedModel({ scripts: [{ after: "\n", say: ["Well", " one", " two", " th", "ree", " four"] }] });
    const teller = startEngine({ model: writeModel("teller.gguf", model) });
    const told = async (stop: string[]) => {
      const { events, text } = await readAnswer(teller.chat(script(stop), never));
      return { text, tokens: tokensOf(events).map(({ token }) => token) };
    };
    expect(await told([" three"])).toEqual({ text: "Well one two", tokens: ["Well", " one", " two"] });
    expect(await told(["wo th"])).toEqual({ text: "Well one t", tokens: ["Well", " one", " two"] });
    expect(await told(["ree fifth"])).toEqual({
      text: "Well one two three four",
      tokens: ["Well", " one", " two", " th", "ree", " four"],
    });
  });

  test("give the bytes of characters that tokens cut in half", async () => {
    const fox = Buffer.from("🦊");
    const model = scriptedModel({ scripts: [{ after: "\n", say: ["A ", fox.subarray(0, 2), fox.subarray(2), "!!"] }] });
    const halves = startEngine({ model: writeModel("halves.gguf", model) });
    const { events, text } = await readAnswer(halves.chat(chatRequest("halves", "Go", { topLogprobs: 1 }), never));
    const tokens = tokensOf(events);
    expect(text).toBe("A 🦊!!");
    expect(Buffer.from(tokens.flatMap(({ bytes }) => bytes ?? [])).toString()).toBe(text);
    expect(tokens[1]).toMatchObject({ token: "\ufffd", bytes: [0xf0, 0x9f] });
    // A one-hot model is sure of itself.
    for (const { logprob, top } of tokens) expect([Math.round(logprob), top.length]).toEqual([0, 1]);
  });
});
