import { describe, expect, it } from "vitest";
import type { Demand } from "../../src/core/demand.ts";
import type { JsonObject } from "../../src/core/json.ts";
import { readDemand } from "../../src/dialects/demand.ts";
import { toCall } from "../support/tunnel-calls.ts";

async function demandOf(body: JsonObject | string, path = "/v1/chat/completions"): Promise<Demand | undefined> {
  const text = typeof body === "string" ? body : JSON.stringify(body);
  return readDemand(toCall({ path, body: Buffer.from(text) }).call);
}

const user = (content: JsonObject["content"]): JsonObject => ({ messages: [{ role: "user", content }] });

describe("what a call asks for", () => {
  it("is its model, the length of its prompt, the bound of its answer, and whether it streams", async () => {
    const text = "word ".repeat(800);
    const demand = await demandOf({ model: "home:qwen", stream: true, max_tokens: 300, ...user(text) });
    expect(demand).toMatchObject({
      endpoint: "/v1/chat/completions",
      model: "home:qwen",
      streamed: true,
      outputTokens: 300,
      tools: false,
      images: false,
    });
    expect(demand?.promptTokens).toBeGreaterThanOrEqual(1000);
    expect(demand?.promptTokens).toBeLessThan(1060);
  });

  it("is read once, and kept with the call", async () => {
    const { call } = toCall({ json: { model: "a", ...user("x") } });
    const demand = await readDemand(call);
    expect(call.demand).toBe(demand);
    expect(await readDemand(call)).toBe(demand);
    expect(await readDemand(call.with({ json: { model: "b" } }))).toBe(demand);
  });

  it("is nothing for a call that asks no model, or whose body says nothing", async () => {
    expect(await readDemand(toCall({ method: "GET", path: "/v1/models" }).call)).toBeUndefined();
    expect(await demandOf({ model: "a" }, "/v1/files")).toBeUndefined();
    for (const body of ["", "{", "[1]", "null", '"text"', "\xff"]) expect(await demandOf(body)).toBeUndefined();
  });

  it("is read on every path that makes a model work, so that none is a way around limits", async () => {
    const paths = {
      "/v1/chat/completions/": "/v1/chat/completions",
      "/rerank": "/v1/rerank",
      "/v1/messages": "/v1/chat/completions",
      "/v1/responses/compact": "/v1/responses",
      "/api/chat": "/v1/chat/completions",
      "/api/generate": "/v1/completions",
      "/api/embed": "/v1/embeddings",
    };
    for (const [path, endpoint] of Object.entries(paths))
      expect(await demandOf({ model: "a" }, path)).toMatchObject({ endpoint, model: "a" });
    expect(await demandOf({ name: "a" }, "/api/chat")).toMatchObject({ model: "a", streamed: true });
    expect(await demandOf({ name: "a" })).toMatchObject({ model: "", streamed: false });
  });
});

describe("the bound of an answer", () => {
  it("is what the dialect calls it, for each of the answers that are asked for", async () => {
    const bound = async (body: JsonObject, path?: string): Promise<number | undefined> =>
      (await demandOf({ model: "a", ...body }, path))?.outputTokens;
    expect(await bound({ max_completion_tokens: 7, max_tokens: 900 })).toBe(7);
    expect(await bound({ max_output_tokens: 8 }, "/v1/responses")).toBe(8);
    expect(await bound({ n_predict: 9 }, "/infill")).toBe(9);
    expect(await bound({ options: { num_predict: 11 } }, "/api/chat")).toBe(11);
    expect(await bound({ max_tokens: 10, n: 4 })).toBe(40);
    expect(await bound({ max_tokens: 10, n: 2, prompt: ["a", "b", "c"] }, "/v1/completions")).toBe(60);
    expect(await bound({ max_tokens: 10, best_of: 5, prompt: [1, 2, 3] }, "/v1/completions")).toBe(50);
    expect(await bound({})).toBeUndefined();
    for (const path of ["/v1/embeddings", "/v1/rerank", "/tokenize"])
      expect(await bound({ max_tokens: 10 }, path)).toBe(0);
  });

  it("makes nothing of values that make no sense, and bounds those that are huge", async () => {
    const bound = async (value: string): Promise<number | undefined> =>
      (await demandOf(`{"model":"a","max_tokens":${value}}`))?.outputTokens;
    for (const value of ["-1", "-1e400", '"100"', "null", "[5]", "{}", "true", "1e400"])
      expect(await bound(value), value).toBeUndefined();
    expect(await bound("1e300")).toBe(100_000_000);
    expect(await bound("1.2")).toBe(2);
    const many = await demandOf('{"model":"a","max_tokens":1e12,"n":1e12}');
    expect(many?.outputTokens).toBe(100_000_000);
    expect((await demandOf({ model: "a", max_tokens: 10, n: -4 }))?.outputTokens).toBe(10);
    expect((await demandOf({ model: "a", max_tokens: 10, n: 1e9 }))?.outputTokens).toBe(1280);
  });
});

describe("the prompt", () => {
  it("is estimated without the bytes of its pictures, which count as pictures", async () => {
    const picture = { type: "image_url", image_url: { url: `data:image/png;base64,${"A".repeat(400_000)}` } };
    const demand = await demandOf({ model: "a", ...user([{ type: "text", text: "what is it?" }, picture, picture]) });
    expect(demand).toMatchObject({ images: true });
    expect(demand?.promptTokens).toBeGreaterThan(1500);
    expect(demand?.promptTokens).toBeLessThan(1700);
  });

  it("is estimated so in Anthropic's form, where pictures also stand in the results of tools", async () => {
    const source = { type: "base64", media_type: "image/png", data: "A".repeat(400_000) };
    const result = { type: "tool_result", tool_use_id: "a", content: [{ type: "image", source }] };
    const demand = await demandOf({ model: "a", ...user([result]) }, "/v1/messages");
    expect(demand).toMatchObject({ images: true });
    expect(demand?.promptTokens).toBeLessThan(1000);
  });

  it("has pictures in each dialect's form, and none where only the word stands", async () => {
    const url = "https://example.com/a.png";
    const withImage: [JsonObject, string][] = [
      [user([{ type: "image_url", image_url: { url } }]), "/v1/chat/completions"],
      [{ input: [{ role: "user", content: [{ type: "input_image", image_url: url }] }] }, "/v1/responses"],
      [user([{ type: "image", source: { type: "url", url } }]), "/v1/messages"],
      [{ messages: [{ role: "user", content: "x", images: ["AAAA"] }] }, "/api/chat"],
    ];
    for (const [body, path] of withImage)
      expect(await demandOf({ model: "a", ...body }, path), path).toMatchObject({ images: true });
    const tools = [{ type: "function", function: { name: "f", parameters: { properties: { image_url: {} } } } }];
    const without: JsonObject[] = [
      user('say "image_url"'),
      { ...user("x"), tools },
      { messages: "image_url", input: { type: "input_image" } },
      { messages: [null, "image", [{ type: "image" }], { content: [null, "image_url"] }] },
    ];
    for (const body of without) expect(await demandOf({ model: "a", ...body })).toMatchObject({ images: false });
  });

  it("offers tools when a list of them is not empty", async () => {
    expect(await demandOf({ model: "a", tools: [{ type: "function" }] })).toMatchObject({ tools: true });
    for (const tools of [[], null, "x", {}])
      expect(await demandOf({ model: "a", tools })).toMatchObject({ tools: false });
  });

  it("costs a model nothing where only its tokenizer is asked", async () => {
    for (const path of ["/tokenize", "/detokenize", "/apply-template", "/v1/messages/count_tokens"])
      expect(await demandOf({ model: "a", content: "x".repeat(4000) }, path)).toMatchObject({ promptTokens: 0 });
  });
});

it("a body of wrong shapes throws nothing", async () => {
  const odd = [null, true, 1, "x", [], {}, [[]], [{}], { type: "image_url" }] as JsonObject[string][];
  const keys = "model stream messages input prompt max_tokens n best_of tools functions options images".split(" ");
  for (const key of keys)
    for (const value of odd) {
      const demand = await demandOf({ model: "a", [key]: value });
      expect(typeof demand?.model).toBe("string");
      expect(Number.isFinite(demand?.promptTokens)).toBe(true);
    }
});

it("a body in which others could read another model, or a name as long as a book, is refused", async () => {
  for (const body of [{ model: "a", Model: "b" }, { MODEL: "b" }, { model: "a".repeat(1001) }] as JsonObject[])
    await expect(demandOf(body)).rejects.toMatchObject({ code: "invalid_value", param: "model" });
  expect(await demandOf({ model: "a".repeat(1000), metadata: { Model: "b" } })).toBeDefined();
});
