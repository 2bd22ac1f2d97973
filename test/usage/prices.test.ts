import { expect, it } from "vitest";
import type { Demand } from "../../src/core/demand.ts";
import { toPrices } from "../../src/usage/prices.ts";

const used = { promptTokens: 1000, cachedTokens: 400, completionTokens: 100 };

it("a model costs what the first pattern that fits its name says, in millionths", () => {
  const prices = toPrices({
    "home:qwen*": { prompt: 1, cached: 0.1, completion: 5 },
    "home:*": { prompt: 2, completion: 8 },
  });
  expect(prices.spend("home:qwen3", used)).toBe(600 + 40 + 500);
  expect(prices.spend("home:llama", used)).toBe(2000 + 800);
  expect(prices.spend("office:qwen3", used)).toBe(0);
  expect(prices.of("office:qwen3")).toBeUndefined();
  expect(toPrices({}).spend("home:qwen3", used)).toBe(0);
});

it("more cached tokens than the prompt has never make it cheaper than free", () => {
  const prices = toPrices({ "*": { prompt: 1, cached: 0, completion: 0 } });
  expect(prices.spend("a", { promptTokens: 10, cachedTokens: 1000, completionTokens: 0 })).toBe(0);
});

it("the most that a call may cost is what it asks for; a call without a bound is taken for a long one", () => {
  const prices = toPrices({ "*": { prompt: 1, completion: 10 } });
  const demand: Demand = {
    endpoint: "/v1/chat/completions",
    model: "a",
    streamed: false,
    promptTokens: 100,
    outputTokens: 50,
    tools: false,
    images: false,
  };
  expect(prices.most(demand)).toBe(600);
  expect(prices.most({ ...demand, outputTokens: 0 })).toBe(100);
  expect(prices.most({ ...demand, outputTokens: undefined })).toBeGreaterThan(10_000);
});

it("names that callers make up are not remembered without end", () => {
  const prices = toPrices({ "*": { prompt: 1, completion: 1 } });
  for (let count = 0; count < 5000; count++) prices.of(`made-up-${count}`);
  expect(prices.spend("made-up-4999", used)).toBe(1100);
});
