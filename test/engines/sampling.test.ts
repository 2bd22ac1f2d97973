import { describe, expect, test } from "vitest";
import type { ChatRequest, TokenLogprob } from "../../src/core/chat.ts";
import { StopFilter } from "../../src/engines/llama/generation/stop.ts";
import { chatRequest } from "../support/chat-request.ts";
import { randomDecoder } from "../support/gguf.ts";
import { readAnswer, startEngine, writeModel } from "../support/llama.ts";

const never = new AbortController().signal;
const engine = startEngine({
  model: writeModel("dice.gguf", randomDecoder({ architecture: "llama", layers: 1, width: 64, seed: 3 })),
  maxSessions: 1,
});
/** The model's two tokens that end an answer. */
const ends = { "1021": -100, "1023": -100 };
const responseFormat: ChatRequest["responseFormat"] = { type: "json-schema", name: "x", schema: { enum: ["yes"] } };
/** Everything that the model might say, as likely as it finds it. */
const open = { temperature: 3, topK: 0, topP: 1, minP: 0, seed: 7, maxTokens: 48, logitBias: ends, topLogprobs: 20 };

interface Said {
  readonly text: string;
  readonly tokens: TokenLogprob[];
  readonly reason: string | undefined;
  readonly count: number | undefined;
}

async function say(more: Partial<ChatRequest> = {}): Promise<Said> {
  const answer = await readAnswer(engine.chat(chatRequest("dice", "Once", { ...open, ...more }), never));
  const tokens = answer.events.flatMap((event) => (event.type === "logprobs" ? event.tokens : []));
  return { text: answer.text, tokens, reason: answer.reason, count: answer.usage?.completionTokens };
}

const greedy = await say({ temperature: 0 });
const free = await say();
const meanLogprob = ({ tokens }: Said): number => tokens.reduce((sum, { logprob }) => sum + logprob, 0) / tokens.length;

/** How often a token equals one of the `window` before it. */
function repeats({ tokens }: Said, window: number): number {
  const names = tokens.map(({ bytes }) => String(bytes));
  return names.filter((name, index) => names.slice(Math.max(0, index - window), index).includes(name)).length;
}

describe("the choice of a token", () => {
  test("is the likeliest one at temperature 0, whatever the filters say", async () => {
    const told = await say({
      temperature: 0,
      xtcProbability: 1,
      xtcThreshold: 0,
      mirostat: 2,
      typicalP: 0.1,
      topNSigma: 1,
    });
    expect(told.text).toBe(greedy.text);
    const candidates = told.tokens.map(({ top }) => top.find(({ token }) => !/<\|/.test(token)));
    expect(told.tokens.map(({ token }) => token)).toEqual(candidates.map((best) => best?.token));
  });

  test("is another for each request without a seed", async () => {
    const { seed: _, ...unseeded } = open;
    const ask = () => readAnswer(engine.chat(chatRequest("dice", "Once", unseeded), never));
    expect((await ask()).text).not.toBe((await ask()).text);
  });

  test("keeps within some standard deviations of the best (top_n_sigma)", async () => {
    expect((await say({ topNSigma: 0.001 })).text).toBe(greedy.text);
    expect((await say({ topNSigma: 100 })).text).toBe(free.text);
  });

  test("keeps to the likely ones (min_p, top_k, top_p)", async () => {
    for (const more of [{ minP: 1 }, { topK: 1 }, { topP: 0.000001 }])
      expect((await say(more)).text, JSON.stringify(more)).toBe(greedy.text);
    expect((await say({ topP: 0.000001, minKeep: 1024 })).text).not.toBe(greedy.text);
  });

  test("leaves out the likeliest where XTC strikes", async () => {
    const threshold = 0.000001;
    const { tokens } = await say({ xtcProbability: 1, xtcThreshold: threshold, logitBias: {} });
    // It strikes where two are above the threshold: at times this model is all but sure, at which token depends on the processor.
    const struck = tokens.filter(({ top }) => (top[1]?.logprob ?? -Infinity) > Math.log(threshold));
    expect(struck.length).toBeGreaterThan(0);
    for (const { bytes, top } of struck) expect(bytes).not.toEqual(top[0]?.bytes);
    // Never more than one token is above one half.
    expect((await say({ xtcProbability: 1, xtcThreshold: 0.6 })).text).toBe(free.text);
  });

  test("is a typical one rather than the likeliest (typical_p)", async () => {
    const first = async (seed: number, typicalP: number) =>
      String((await say({ typicalP, seed, maxTokens: 1 })).tokens[0]?.bytes);
    const seeds = [1, 2, 3, 4, 5, 6, 7, 8];
    const typical = new Set(await Promise.all(seeds.map((seed) => first(seed, 0.0001))));
    expect(typical.size).toBe(1);
    expect(typical).not.toContain(String(greedy.tokens[0]?.bytes));
    expect(new Set(await Promise.all(seeds.map((seed) => first(seed, 1)))).size).toBeGreaterThan(1);
  });

  test("follows a temperature that moves with the entropy (dynatemp)", async () => {
    expect((await say({ dynatempRange: 0.9, dynatempExponent: 1 })).text).not.toBe(free.text);
    expect((await say({ dynatempRange: 0, dynatempExponent: 3 })).text).toBe(free.text);
  });

  test.for([1, 2])("is held to a surprise by mirostat %i", async (mirostat) => {
    const [calm, wild] = [
      await say({ mirostat, mirostatTau: 1, mirostatEta: 0.5 }),
      await say({ mirostat, mirostatTau: 9, mirostatEta: 0.5 }),
    ];
    expect(meanLogprob(calm)).toBeGreaterThan(meanLogprob(wild) + 0.5);
  });

  test("goes through the filters named, in their order", async () => {
    expect((await say({ samplers: ["top_k"], topK: 1 })).text).toBe(greedy.text);
    expect((await say({ samplers: ["temperature"], topK: 1 })).text).toBe(free.text);
    const [warmFirst, warmLast] = [
      await say({ samplers: ["temperature", "top_p"], temperature: 3, topP: 0.3 }),
      await say({ samplers: ["top_p", "temperature"], temperature: 3, topP: 0.3 }),
    ];
    expect(meanLogprob(warmLast)).toBeGreaterThan(meanLogprob(warmFirst));
  });
});

describe("repetition", () => {
  const long = { temperature: 0, maxTokens: 160 };

  test("is broken by DRY, which breakers and a short look back switch off", async () => {
    const loop = /(.{12,})\1/s;
    expect((await say(long)).text).toMatch(loop);
    const dry = { ...long, dryMultiplier: 50, dryBase: 2, dryAllowedLength: 2, dryPenaltyLastN: -1 };
    const told = await say({ ...dry, drySequenceBreakers: ["§"] });
    expect(told.text).not.toMatch(loop);
    expect((await say({ ...dry, dryPenaltyLastN: 0 })).text).toMatch(loop);
  });

  test("is penalised within the last tokens that are looked at (repeat_last_n)", async () => {
    const strict = { ...long, repeatPenalty: 1000 };
    expect(repeats(await say({ ...strict, repeatLastN: 8 }), 8)).toBe(0);
    expect(repeats(await say({ ...strict, repeatLastN: 2 }), 8)).toBeGreaterThan(0);
    expect((await say({ ...strict, repeatLastN: 0 })).text).toBe((await say(long)).text);
    expect(repeats(await say({ ...strict, maxTokens: 100, repeatLastN: -1 }), 100)).toBe(0);
  });
});

describe("the end of an answer", () => {
  test("comes at once, or never, by the bias of its tokens", async () => {
    expect(await say({ logitBias: { "1023": 100 } })).toMatchObject({ reason: "stop", count: 1 });
    expect(await say({ logitBias: ends })).toMatchObject({ reason: "length", count: 48 });
  });

  test("waits for min_tokens", async () => {
    const eager = { logitBias: { "1023": 100 }, minTokens: 5 };
    expect(await say(eager)).toMatchObject({ reason: "stop", count: 6 });
  });

  test("does not come where ignore_eos says so, but for the end of a grammar", async () => {
    const eager = { logitBias: { "1023": 100 }, ignoreEos: true };
    expect(await say(eager)).toMatchObject({ reason: "length", count: 48 });
    expect(await say({ ...eager, responseFormat, topLogprobs: 0 })).toMatchObject({
      text: expect.stringMatching(/^\s*"yes"\s*$/),
      reason: "stop",
    });
  });

  test("a grammar whose every way is biased away is an answer's failure, not the process's", async () => {
    const quotes = Object.fromEntries(Array.from({ length: 1024 }, (_, token) => [String(token), -100]));
    await expect(say({ logitBias: quotes, responseFormat })).rejects.toMatchObject({ code: "invalid_request" });
    expect((await say()).text).toBe(free.text);
  });
});

describe("stop strings", () => {
  const texts: [stops: string[], text: string, said: string, stop: string][] = [
    [["bc", "abcd"], "xabcd", "xa", "bc"],
    [["abcd", "bc"], "xabcd", "xa", "bc"],
    [["cd", "bcd"], "abcd", "a", "bcd"],
    [["aab"], "aaab", "a", "aab"],
    [["🦊!"], "a🦊🦊!", "a🦊", "🦊!"],
    [["two", "one"], "say one two", "say ", "one"],
  ];
  test.for(texts)("%j in %j: the same however the text is cut", ([stops, text, said, stop]) => {
    const characters = [...text];
    for (let size = 1; size <= characters.length; size++) {
      const filter = new StopFilter(stops);
      let out = "";
      let found: string | null = null;
      for (let at = 0; at < characters.length && found === null; at += size) {
        const pushed = filter.push(characters.slice(at, at + size).join(""));
        out += pushed.text;
        found = pushed.stop;
      }
      expect([out, found], `pieces of ${size}`).toEqual([said, stop]);
    }
  });
});
