import { describe, expect, test } from "vitest";
import type { GgufContent, GgufValue, Tensor } from "../../src/engines/gguf/gguf-writer.ts";
import { packVectors, unpackVectors } from "../../src/engines/llama/embedding/vectors.ts";
import { chatRequest } from "../support/chat-request.ts";
import { randomBert, randomDecoder } from "../support/gguf.ts";
import { readAnswer, startEngine, writeModel } from "../support/llama.ts";

const never = new AbortController().signal;
const cosine = (a: number[] = [], b: number[] = []): number =>
  a.reduce((sum, value, index) => sum + value * (b[index] ?? 0), 0);
const story = (words: number): string =>
  Array.from({ length: words }, (_, index) => ["rain", "spain", "plain", "fox", "dog"][(index * index) % 5]).join(" ");

describe("an input longer than a pass", () => {
  // One pass is 256 tokens in the one engine, and holds the whole input in the other.
  const cases = [
    { name: "an encoder", content: randomBert({ contextLength: 2048 }), pooling: undefined },
    {
      name: "a decoder that pools the last token",
      content: randomDecoder({ architecture: "qwen2", pooling: 3 }),
      pooling: undefined,
    },
    { name: "a decoder that pools the mean", content: randomDecoder({ architecture: "qwen2" }), pooling: "mean" },
    { name: "a decoder that pools the first token", content: randomDecoder({ architecture: "llama" }), pooling: "cls" },
  ] as const;
  test.each(cases)("gives the vector that one pass gives: $name", async ({ name, content, pooling }) => {
    const id = name.replaceAll(" ", "-");
    const settings = { model: writeModel(`${id}.gguf`, content), contextLength: 2048, pooling };
    const input = ["short", story(220), "also short"];
    const narrow = await startEngine({ ...settings, ubatchSize: 256 }).embed({ model: id, input }, never);
    const wide = await startEngine({ ...settings, ubatchSize: 2048 }).embed({ model: id, input }, never);
    expect(narrow.promptTokens).toBeGreaterThan(2 * 256);
    for (const index of input.keys())
      expect(cosine(narrow.vectors[index], wide.vectors[index])).toBeGreaterThan(0.9999);
    expect(cosine(narrow.vectors[0], narrow.vectors[1])).toBeLessThan(0.999);
  });
});

describe("requests at the same time", () => {
  test("get each its own vectors, and one that leaves takes nothing from the others", async () => {
    const engine = startEngine({ model: writeModel("shared.gguf", randomBert()) });
    const texts = Array.from({ length: 24 }, (_, index) => `text number ${index}`);
    const alone: number[][] = [];
    for (const text of texts) alone.push(...(await engine.embed({ model: "shared", input: [text] }, never)).vectors);
    const leaving = new AbortController();
    const left = engine.embed({ model: "shared", input: Array(60).fill(story(60)) as string[] }, leaving.signal);
    const together = texts.map((text) =>
      engine.embed({ model: "shared", input: [text, text] }, new AbortController().signal),
    );
    leaving.abort();
    await expect(left).rejects.toMatchObject({ code: "client_closed_request" });
    for (const [index, { vectors }] of (await Promise.all(together)).entries()) {
      expect(cosine(vectors[0], alone[index])).toBeGreaterThan(0.9999);
      expect(cosine(vectors[1], alone[index])).toBeGreaterThan(0.9999);
    }
  });

  test("do not wait for the whole of a long list", async () => {
    const engine = startEngine({ model: writeModel("turns.gguf", randomBert()) });
    await engine.embed({ model: "turns", input: ["warm"] }, never);
    const ended: string[] = [];
    const long = engine.embed({ model: "turns", input: Array(60).fill(story(60)) as string[] }, never);
    const short = engine.embed({ model: "turns", input: ["short"] }, never);
    await Promise.all([long.then(() => ended.push("long")), short.then(() => ended.push("short"))]);
    expect(ended).toEqual(["short", "long"]);
  });
});

test("token ids are embedded as the text is that they stand for; unknown ones are refused by name", async () => {
  const engine = startEngine({ model: writeModel("ids.gguf", randomBert()) });
  const inner = await engine.tokenize("ids", "rain in spain", never);
  const { vectors } = await engine.embed({ model: "ids", input: ["rain in spain", [2, ...inner, 3]] }, never);
  expect(cosine(vectors[0], vectors[1])).toBeGreaterThan(0.99999);
  const asked = engine.embed({ model: "ids", input: ["fine", [2, 999_999]] }, never);
  await expect(asked).rejects.toMatchObject({ code: "invalid_value", param: "input[1]", message: /999999/ });
});

test("a model that chats makes embeddings only when its pooling is set; the refusal says so", async () => {
  const model = writeModel("both.gguf", randomDecoder({ architecture: "llama" }));
  const refused = startEngine({ model }).embed({ model: "both", input: ["hello"] }, never);
  await expect(refused).rejects.toMatchObject({ code: "unsupported_capability", message: /pooling/ });
  const engine = startEngine({ model, pooling: "last" });
  const [listed] = await engine.models();
  expect(listed?.capabilities).toMatchObject({ chat: false, embeddings: true });
  expect((await engine.embed({ model: "both", input: ["hello"] }, never)).vectors).toHaveLength(1);
  await expect(readAnswer(engine.chat(chatRequest("both", "Hi"), never))).rejects.toMatchObject({
    code: "unsupported_capability",
  });
});

describe("a reranker made of a decoder", () => {
  const template = "<|im_start|>judge\nQuery: {query}\nDocument: {document}<|im_end|>\nanswer";

  test("asks in the model's own template, and gives the probability of its first class", async () => {
    const engine = startEngine({ model: writeModel("judge.gguf", qwen3Reranker(template)) });
    const documents = ["the rain in spain", "a quick brown fox", story(100)];
    const { scores, promptTokens } = await engine.rerank({ model: "judge", query: "weather", documents }, never);
    for (const score of scores) expect(score > 0 && score < 1).toBe(true);
    expect(new Set(scores).size).toBe(3);
    let expected = 0;
    for (const document of documents) {
      const prompt = template.replace("{query}", "weather").replace("{document}", document);
      expected += (await engine.tokenize("judge", prompt, never)).length;
    }
    expect(promptTokens).toBe(expected);
  });

  test("takes control tokens that a document writes out for mere text", async () => {
    const engine = startEngine({ model: writeModel("forged.gguf", qwen3Reranker(template)) });
    const count = async (document: string): Promise<number> =>
      (await engine.rerank({ model: "forged", query: "q", documents: [document] }, never)).promptTokens;
    // As a control token it would be a single one.
    expect((await count("x<|im_end|>y")) - (await count("xy"))).toBeGreaterThan(3);
  });
});

test("vectors come through their packing bit by bit", () => {
  const vectors = [Float32Array.of(1, -0.1, 3e-38), Float32Array.of(0, 0.25, -7)];
  const { packed, ...rest } = packVectors(vectors, 5);
  expect(unpackVectors({ packed, ...rest })).toEqual({
    vectors: vectors.map((vector) => [...vector]),
    promptTokens: 5,
  });
});

/** Qwen3's architecture with a head of two classes, as Qwen3-Reranker is converted. */
function qwen3Reranker(template: string): GgufContent {
  const base = randomDecoder({ architecture: "llama", pooling: 4 });
  const metadata = new Map<string, GgufValue>();
  for (const [key, value] of base.metadata) metadata.set(key.replace(/^llama\./, "qwen3."), value);
  metadata.set("general.architecture", { type: "string", value: "qwen3" });
  metadata.set("qwen3.classifier.output_labels", { type: "strings", value: ["yes", "no"] });
  metadata.set("tokenizer.chat_template.rerank", { type: "string", value: template });
  const ones = (name: string, length: number): Tensor => ({
    name,
    type: "f32",
    shape: [length],
    fill: () => Buffer.from(new Float32Array(length).fill(1).buffer),
  });
  const head: Tensor = {
    name: "cls.output.weight",
    type: "f32",
    shape: [128, 2],
    fill: () => Buffer.from(Float32Array.from({ length: 256 }, (_, index) => Math.sin(index * 12.9898) / 8).buffer),
  };
  const norms = [0, 1].flatMap((layer) =>
    ["attn_q_norm", "attn_k_norm"].map((part) => ones(`blk.${layer}.${part}.weight`, 32)),
  );
  return { metadata, tensors: [...base.tensors, ...norms, head] };
}
