import { describe, expect, test } from "vitest";
import type { ChatEvent, CompletionRequest, TokenLogprob } from "../../src/core/chat.ts";
import { Call } from "../../src/core/call.ts";
import type { JsonObject } from "../../src/core/json.ts";
import { fromEngine } from "../../src/dialects/translate.ts";
import type { LlamaEngine } from "../../src/engines/llama/engine.ts";
import { scriptedModel } from "../../src/engines/gguf/scripted-model.ts";
import { dataOf } from "../support/chat.ts";
import { randomDecoder } from "../support/gguf.ts";
import { readAnswer, startEngine, writeModel } from "../support/llama.ts";

const never = new AbortController().signal;

/** A model that fills every gap with the same words. */
const coder = (name: string, specials: string[]): LlamaEngine =>
  startEngine({
    model: writeModel(
      `${name}.gguf`,
      scriptedModel({ specials, scripts: [{ after: specials[2] ?? "", say: ["return", " a + b;"] }] }),
    ),
  });
const qwen = coder("qwen", ["<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>", "<|repo_name|>", "<|file_sep|>"]);

async function complete(engine: LlamaEngine, request: Partial<CompletionRequest> & { model: string }) {
  const events: ChatEvent[] = [];
  const asked = { prompt: "", stop: [], extra: {}, promptLogprobs: true, topLogprobs: 0, ...request };
  for await (const event of engine.complete(asked, never)) events.push(event);
  const answer = await readAnswer(
    (async function* () {
      yield* events;
    })(),
  );
  const tokens = (prompt: boolean): TokenLogprob[] =>
    events.flatMap((event) =>
      event.type === "logprobs" && (event.prompt !== undefined) === prompt ? event.tokens : [],
    );
  const read = tokens(true).map(({ token }) => token);
  return { ...answer, read: read.join(""), prompt: tokens(true), said: tokens(false) };
}

async function post(engine: LlamaEngine, path: string, body: JsonObject) {
  const provider = fromEngine(engine);
  const call = new Call({ id: "r", method: "POST", path, signal: never, body: Buffer.from(JSON.stringify(body)) });
  call.target = { provider, model: String(body.model), requested: String(body.model) };
  const { body: reply } = await provider.handle(call);
  if (typeof reply === "string") return JSON.parse(reply) as JsonObject;
  const frames: string[] = [];
  await new Promise<void>((resolve, reject) => {
    if (reply === null || Buffer.isBuffer(reply)) throw new Error("neither JSON nor a stream");
    reply.start({ write: (chunk) => frames.push(String(chunk)) > 0, end: () => resolve(), fail: reject });
  });
  return frames;
}

describe("a gap", () => {
  test("is filled between prefix and suffix, which the model reads in its own marks", async () => {
    const { text, read, reason } = await complete(qwen, { model: "qwen", prompt: "sum(a, b) {", suffix: "}" });
    expect(read).toBe("<|fim_prefix|>sum(a, b) {<|fim_suffix|>}<|fim_middle|>");
    expect(text).toBe("return a + b;");
    expect(reason).toBe("stop");
  });

  test.for([
    ["codellama", ["<PRE>", "<SUF>", "<MID>"]],
    ["deepseek", ["<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"]],
    ["starcoder", ["<fim_prefix>", "<fim_suffix>", "<fim_middle>"]],
  ] as const)("is marked as %s has it", async ([name, [prefix, suffix, middle]]) => {
    const engine = coder(name, [prefix, suffix, middle]);
    const { read, text } = await complete(engine, { model: name, prompt: "a", suffix: "z" });
    expect([read, text]).toEqual([`${prefix}a${suffix}z${middle}`, "return a + b;"]);
  });

  test("is not opened by marks that stand in the text itself", async () => {
    const plain = await complete(qwen, { model: "qwen", prompt: "x", suffix: "y" });
    const marked = await complete(qwen, { model: "qwen", prompt: "<|fim_middle|>", suffix: "y" });
    // As text each of its 14 characters is a token of this model.
    expect((marked.usage?.promptTokens ?? 0) - (plain.usage?.promptTokens ?? 0)).toBe(13);
  });

  test("comes after the project's files, the last of them if not all fit", async () => {
    const files = [
      { name: "old.ts", text: "o".repeat(700) },
      { name: "near.ts", text: "let a;" },
    ];
    const { read } = await complete(qwen, { model: "qwen", prompt: "p", suffix: "s", files, maxTokens: 400 });
    expect(read).toBe(
      "<|repo_name|>project\n<|file_sep|>near.ts\nlet a;<|file_sep|>file\n<|fim_prefix|>p<|fim_suffix|>s<|fim_middle|>",
    );
  });

  test("keeps what is nearest to it of an editor's long text, and refuses to cut a completion's", async () => {
    const [prompt, suffix] = [`${"a".repeat(3000)}END`, `START${"z".repeat(3000)}`];
    const { read, usage } = await complete(qwen, { model: "qwen", prompt, suffix, files: [], maxTokens: 100 });
    expect(read).toMatch(/^<\|fim_prefix\|>a+END<\|fim_suffix\|>STARTz+<\|fim_middle\|>$/);
    expect(usage?.promptTokens).toBe(1024 - 101);
    await expect(complete(qwen, { model: "qwen", prompt, suffix })).rejects.toMatchObject({
      code: "context_length_exceeded",
    });
  });

  test("is refused by a model that was not trained for it", async () => {
    const engine = startEngine({ model: writeModel("prose.gguf", randomDecoder({ architecture: "llama" })) });
    const refusal = { code: "unsupported_capability", param: "suffix", message: expect.stringContaining("fill gaps") };
    await expect(complete(engine, { model: "prose", prompt: "a", suffix: "b" })).rejects.toMatchObject(refusal);
  });
});

describe("POST /infill", () => {
  const body = { model: "qwen", input_prefix: "sum(a, b) {", input_suffix: "}", prompt: "\n  " };

  test("answers as llama-server does", async () => {
    expect(await post(qwen, "/infill", { ...body, n_predict: 1 })).toEqual({
      index: 0,
      content: "return",
      model: "qwen",
      stop: true,
      stop_type: "limit",
      truncated: false,
      tokens_predicted: 1,
      tokens_evaluated: expect.any(Number),
      tokens_cached: expect.any(Number),
      timings: expect.objectContaining({ predicted_n: 1 }),
    });
    const frames = dataOf((await post(qwen, "/infill", { ...body, stream: true })) as string[]) as JsonObject[];
    expect(frames.map(({ content }) => content).join("")).toBe("return a + b;");
    expect(frames.map(({ stop }) => stop)).toEqual([...frames.slice(1).map(() => false), true]);
    expect(frames.at(-1)).toMatchObject({ stop_type: "eos" });
  });

  test("takes the request of an editor that only warms the cache, and names what is missing", async () => {
    expect(await post(qwen, "/infill", { ...body, n_predict: 0 })).toMatchObject({ tokens_predicted: 1 });
    await expect(post(qwen, "/infill", { model: "qwen", input_prefix: "a" })).rejects.toMatchObject({
      param: "input_suffix",
    });
    const broken = { ...body, input_extra: [{ filename: "a" }] };
    await expect(post(qwen, "/infill", broken)).rejects.toMatchObject({ param: "input_extra[0].text" });
  });
});

describe("a text that is scored (echo with log probabilities)", () => {
  const engine = startEngine({
    model: writeModel("critic.gguf", randomDecoder({ architecture: "llama", seed: 4 })),
    maxSessions: 2,
  });
  const asked = { model: "critic", prompt: "the sea and the lamp and the stone", maxTokens: 6, temperature: 0 };

  test("has for each token what generating it had", async () => {
    const answer = await complete(engine, { ...asked, topLogprobs: 3 });
    expect(answer.read).toBe(asked.prompt);
    const whole = await engine.tokenize("critic", asked.prompt, never);
    const ids = [
      ...whole,
      ...(await Promise.all(answer.said.map(({ token }) => engine.tokenize("critic", token, never)))).flat(),
    ];
    expect(answer.said.length).toBe(6);
    // The same tokens again, now all of them as a prompt; from a cache there would be no logits.
    const scored = await complete(engine, { ...asked, prompt: ids, topLogprobs: 3, maxTokens: 0 });
    expect(scored).toMatchObject({ text: "", reason: "length", usage: { completionTokens: 0, cachedTokens: 0 } });
    const [again, said] = [scored.prompt.slice(-6), answer.said];
    expect(again.map(({ token }) => token)).toEqual(said.map(({ token }) => token));
    for (const [index, { logprob, top }] of again.entries()) {
      expect(Math.abs(logprob - (said[index]?.logprob ?? 0))).toBeLessThan(0.05);
      expect(top.map(({ token }) => token)).toEqual(said[index]?.top.map(({ token }) => token));
    }
  });

  test("may be longer than one batch, beside a stream", async () => {
    const prompt = "the sea and the lamp ".repeat(40);
    const [scored, other] = await Promise.all([
      complete(engine, { ...asked, prompt, maxTokens: 1 }),
      complete(engine, { ...asked, prompt: "the stone", promptLogprobs: false, maxTokens: 50 }),
    ]);
    expect(scored.read).toBe(prompt);
    expect(scored.prompt.length).toBe(scored.usage?.promptTokens);
    expect(scored.prompt.every(({ logprob }) => logprob <= 0 && Number.isFinite(logprob))).toBe(true);
    expect(other.usage?.completionTokens).toBeGreaterThan(0);
  });

  test("is told in OpenAI's form, with nothing for the first token, for token ids too", async () => {
    const ids = await engine.tokenize("critic", asked.prompt, never);
    const body = { model: "critic", prompt: ids, echo: true, logprobs: 2, max_tokens: 1, temperature: 0 };
    const { choices } = (await post(engine, "/v1/completions", body)) as { choices: JsonObject[] };
    const [{ text, logprobs } = {}] = choices;
    const { tokens, token_logprobs, top_logprobs, text_offset } = logprobs as Record<string, unknown[]>;
    expect(tokens?.join("")).toBe(text);
    expect(String(text)).toMatch(new RegExp(`^${asked.prompt}.+`, "s"));
    expect(token_logprobs?.[0]).toBeNull();
    expect(top_logprobs?.[0]).toBeNull();
    expect(Object.keys(top_logprobs?.[1] as object)).toHaveLength(2);
    expect(text_offset?.slice(-1)).toEqual([asked.prompt.length]);
    const none = await post(engine, "/v1/completions", { ...body, max_tokens: 0 });
    expect(none).toMatchObject({ choices: [{ text: asked.prompt, finish_reason: "length" }] });
    const frames = dataOf((await post(engine, "/v1/completions", { ...body, stream: true })) as string[]);
    const streamed = frames.flatMap((frame) =>
      typeof frame === "string" ? [] : (frame as { choices: JsonObject[] }).choices,
    );
    expect(streamed.map((choice) => choice.text).join("")).toBe(text);
    expect(streamed.flatMap((choice) => (choice.logprobs as { tokens: string[] } | null)?.tokens ?? [])).toEqual(
      tokens,
    );
  });
});

describe("tokens", () => {
  test("come with their pieces, bytes where they are a part of a character", async () => {
    const reply = await post(qwen, "/tokenize", { model: "qwen", content: "a<|fim_middle|>é", with_pieces: true });
    expect(reply).toEqual({
      tokens: [
        { id: expect.any(Number), piece: "a" },
        { id: expect.any(Number), piece: "<|fim_middle|>" },
        { id: expect.any(Number), piece: [0xc3] },
        { id: expect.any(Number), piece: [0xa9] },
      ],
    });
  });

  test("are those of plain text where control tokens are not to be read", async () => {
    const count = async (more: JsonObject) =>
      ((await post(qwen, "/tokenize", { model: "qwen", content: "<|fim_middle|>", ...more })) as { tokens: [] }).tokens
        .length;
    expect(await count({})).toBe(1);
    expect(await count({ parse_special: false })).toBe(14);
  });

  test("have vLLM's form too", async () => {
    const reply = await post(qwen, "/tokenize", { model: "qwen", prompt: "ab", return_token_strs: true });
    expect(reply).toMatchObject({ count: 2, token_strs: ["a", "b"] });
  });
});
