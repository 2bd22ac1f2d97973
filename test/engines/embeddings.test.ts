import { describe, expect, test } from "vitest";
import { randomBert, randomDecoder } from "../support/gguf.ts";
import { chatRequest } from "../support/chat-request.ts";
import { readAnswer, startEngine, writeModel } from "../support/llama.ts";

const never = new AbortController().signal;
const norm = (vector: number[] | undefined): number => Math.hypot(...(vector ?? []));
const cosine = (a: number[] = [], b: number[] = []): number =>
  a.reduce((sum, value, index) => sum + value * (b[index] ?? 0), 0);

describe("embeddings", () => {
  test("have length 1, are the same alone and in company, and differ for other texts", async () => {
    const engine = startEngine({ model: writeModel("bert.gguf", randomBert()) });
    const texts = ["the rain in spain", "a quick brown fox", "stays mainly in the plain"];
    const together = await engine.embed({ model: "bert", input: texts }, never);
    expect(together.vectors).toHaveLength(3);
    for (const [index, text] of texts.entries()) {
      const alone = await engine.embed({ model: "bert", input: [text] }, never);
      expect(norm(alone.vectors[0])).toBeCloseTo(1, 5);
      expect(cosine(alone.vectors[0], together.vectors[index])).toBeGreaterThan(0.9999);
    }
    expect(cosine(together.vectors[0], together.vectors[1])).toBeLessThan(0.999);
    expect(together.promptTokens).toBeGreaterThan(10);
  });

  test("of many inputs come in their order, more than fit into one batch", async () => {
    const engine = startEngine({ model: writeModel("many.gguf", randomBert()), contextLength: 64 });
    const input = Array.from({ length: 70 }, (_, index) => `text number ${index}`);
    const { vectors } = await engine.embed({ model: "many", input }, never);
    const last = await engine.embed({ model: "many", input: [input[69] ?? ""] }, never);
    expect(vectors).toHaveLength(70);
    expect(cosine(vectors[69], last.vectors[0])).toBeGreaterThan(0.9999);
  });

  test("can be cut to fewer dimensions and are still of length 1; too many are refused", async () => {
    const engine = startEngine({ model: writeModel("cut.gguf", randomBert()) });
    const { vectors } = await engine.embed({ model: "cut", input: ["hello"], dimensions: 16 }, never);
    expect(vectors[0]).toHaveLength(16);
    expect(norm(vectors[0])).toBeCloseTo(1, 5);
    const tooMany = engine.embed({ model: "cut", input: ["hello"], dimensions: 4096 }, never);
    await expect(tooMany).rejects.toMatchObject({ code: "invalid_value", param: "dimensions" });
  });

  test("of an input that does not fit are refused, with both numbers", async () => {
    const engine = startEngine({ model: writeModel("narrow.gguf", randomBert()), contextLength: 32 });
    const asked = engine.embed({ model: "narrow", input: ["fine", "not fine ".repeat(50)] }, never);
    await expect(asked).rejects.toMatchObject({ code: "context_length_exceeded", param: "input[1]" });
  });

  test("come from decoders that pool the last token, too; such a model does not chat", async () => {
    const engine = startEngine({
      model: writeModel("last.gguf", randomDecoder({ architecture: "qwen2", pooling: 3 })),
    });
    const { vectors } = await engine.embed({ model: "last", input: ["one", "two"] }, never);
    expect(vectors.map((vector) => Math.round(norm(vector) * 1e5) / 1e5)).toEqual([1, 1]);
    const chat = readAnswer(engine.chat(chatRequest("last", "Hi"), never));
    await expect(chat).rejects.toMatchObject({ code: "unsupported_capability" });
  });
});

describe("rerank", () => {
  test("gives a relevance between 0 and 1 for each document", async () => {
    const engine = startEngine({ model: writeModel("rank.gguf", randomBert({ rank: true })) });
    const documents = ["the rain in spain", "a quick brown fox", "cats"];
    const { scores } = await engine.rerank({ model: "rank", query: "weather", documents }, never);
    expect(scores).toHaveLength(3);
    for (const score of scores) expect(score > 0 && score < 1).toBe(true);
    expect(new Set(scores).size).toBe(3);
    const again = await engine.rerank({ model: "rank", query: "weather", documents: documents.toReversed() }, never);
    expect(again.scores[2]).toBeCloseTo(scores[0] ?? 0, 5);
  });
});
