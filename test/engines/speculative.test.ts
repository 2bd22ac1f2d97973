import { dirname } from "node:path";
import { afterEach, describe, expect, test } from "vitest";
import { silent } from "../../src/core/log.ts";
import { PromptLookup } from "../../src/engines/llama/speculation/prompt-lookup.ts";
import { toSampling } from "../../src/engines/llama/settings.ts";
import { Speculation, type Drafter } from "../../src/engines/llama/speculation/speculation.ts";
import { randomDecoder } from "../support/gguf.ts";
import { readAnswer, startEngine, writeModel } from "../support/llama.ts";
import { type Bench, distance, job, modelFile, openBench, trace, words } from "../support/llama-scheduler.ts";

const target = modelFile(randomDecoder({ architecture: "llama", seed: 2 }));
/** A file of its own, as a draft model has. */
const twin = modelFile(randomDecoder({ architecture: "llama", seed: 2 }));
/** The same words, other weights: its guesses are wrong mostly. */
const stranger = modelFile(randomDecoder({ architecture: "llama", seed: 9, layers: 1 }));
const kinds = [
  ["lookup", { draft: "lookup" }],
  ["a draft model that is the model itself", { draft: twin }],
  ["a draft model that guesses wrong", { draft: stranger }],
] as const;

let benches: Bench[] = [];
afterEach(() => {
  for (const bench of benches) bench.close();
  benches = [];
});
async function bench(options: Parameters<typeof openBench>[1] = {}): Promise<Bench> {
  const opened = await openBench(target, { sessions: 2, ...options });
  benches.push(opened);
  return opened;
}

const long = { maxTokens: 90 };
/** Words that come again, so that there is something to look up. */
const prompt = `${words(40)} ${words(40)}`;

describe("speculative decoding", () => {
  test.for(kinds)(
    "by %s gives the same tokens in no more steps, and tells what came of it",
    async ([, speculation]) => {
      const plain = await bench();
      plain.scheduler.submit(job(1, prompt, long));
      await plain.run();
      const drafted = await bench({ speculation });
      drafted.scheduler.submit(job(1, prompt, long));
      await drafted.run();
      expect(distance(trace(drafted, 1), trace(plain, 1))).toBeLessThan(0.05);
      const usage = drafted.done(1).usage;
      const accepted = usage?.acceptedDraftTokens ?? 0;
      // Each right guess saves a step.
      expect(drafted.steps.length).toBe(plain.steps.length - accepted);
      expect(plain.done(1).usage).not.toHaveProperty("acceptedDraftTokens");
      expect(usage).toMatchObject({ completionTokens: 90, rejectedDraftTokens: expect.any(Number) });
    },
  );

  test("by a model that knows the answer takes a fraction of the steps", async () => {
    const drafted = await bench({ speculation: { draft: twin } });
    drafted.scheduler.submit(job(1, prompt, long));
    await drafted.run();
    expect(drafted.steps.length).toBeLessThan(45);
  });

  const samplings = [
    ["sampling with a seed", { temperature: 1.5, topK: 0, seed: 5 }],
    ["penalties", { temperature: 0, repeatPenalty: 1.3, frequencyPenalty: 0.5 }],
    ["mirostat", { temperature: 1, mirostat: 2, seed: 5 }],
    ["DRY", { temperature: 0, dryMultiplier: 2 }],
  ] as const;
  test.for(samplings)("leaves %s as it is", async ([, sampling]) => {
    const more = { ...long, sampling: toSampling(sampling, {}) };
    const [plain, drafted] = [await bench(), await bench({ speculation: { draft: twin } })];
    for (const each of [plain, drafted]) {
      each.scheduler.submit(job(1, prompt, more));
      await each.run();
    }
    expect(drafted.done(1).usage?.acceptedDraftTokens).toBeGreaterThan(0);
    expect(distance(trace(drafted, 1), trace(plain, 1))).toBeLessThan(0.05);
  });

  test("leaves a grammar and a stop string as they are, though they come in the middle of a guess", async () => {
    const grammar = { text: 'root ::= [a-f ]{40} "." ', reasoning: null };
    const [plain, drafted] = [await bench(), await bench({ speculation: { draft: twin } })];
    for (const each of [plain, drafted]) {
      each.scheduler.submit(job(1, prompt, { ...long, grammar }));
      each.scheduler.submit(job(2, prompt, long));
      await each.run();
    }
    expect(drafted.done(1).text).toBe(plain.done(1).text);
    expect(drafted.done(1).text).toMatch(/^[a-f ]{40}\.$/);
    const said = plain.done(2).text;
    const stop = [said.slice(12, 16)];
    for (const each of [plain, drafted]) {
      each.scheduler.submit(job(3, prompt, { ...long, stop }));
      await each.run();
    }
    expect(drafted.done(3).text).toBe(said.slice(0, said.indexOf(stop[0] ?? "")));
    expect(drafted.done(3).usage?.completionTokens).toBe(plain.done(3).usage?.completionTokens);
  });

  test("leaves a cache from which the next turn goes on as from a cold one", async () => {
    const [warm, cold] = [await bench({ sessions: 1, speculation: { draft: stranger } }), await bench({ sessions: 1 })];
    warm.scheduler.submit(job(1, warm.tokens(prompt), long));
    await warm.run();
    expect(warm.done(1).usage?.rejectedDraftTokens).toBeGreaterThan(0);
    const said = warm.outputs.flatMap((output) => (output.type === "text" ? (output.logprobs ?? []) : []));
    // In this vocabulary a byte is its own token, and a pair of letters one.
    const ids = said.map(({ bytes, token }) => (bytes?.length === 1 ? bytes[0] : warm.tokens(token)[0]) ?? -1);
    const turn = [...warm.tokens(prompt), ...ids, ...warm.tokens(" and then the rain")];
    warm.scheduler.submit(job(2, turn));
    cold.scheduler.submit(job(2, turn));
    await warm.run();
    await cold.run();
    expect(warm.done(2).usage?.cachedTokens).toBe(warm.tokens(prompt).length + ids.length - 1);
    expect(distance(trace(warm, 2), trace(cold, 2))).toBeLessThan(0.05);
  });

  test("shares its guesses among the streams, and ends at the context's end", async () => {
    const drafted = await bench({ sessions: 4, contextLength: 256, speculation: { draft: twin, draftMax: 8 } });
    for (let id = 1; id <= 4; id++)
      drafted.scheduler.submit(job(id, words(60, id), { maxTokens: null, topLogprobs: null }));
    await drafted.run();
    for (let id = 1; id <= 4; id++) {
      const { usage, failure } = drafted.done(id);
      expect(failure).toBeUndefined();
      expect((usage?.promptTokens ?? 0) + (usage?.completionTokens ?? 0)).toBeLessThanOrEqual(256);
    }
    // Four streams and eight guesses.
    expect(
      Math.max(
        ...drafted.steps.map((step) =>
          step.some(({ rows }) => rows > 12) ? 0 : step.reduce((sum, { rows }) => sum + rows, 0),
        ),
      ),
    ).toBeLessThanOrEqual(12);
  });

  test("is off where a request says so", async () => {
    const drafted = await bench({ speculation: { draft: twin } });
    const sampling = toSampling({ temperature: 0, draftMax: 0 }, {});
    drafted.scheduler.submit(job(1, prompt, { ...long, sampling }));
    await drafted.run();
    expect(drafted.done(1).usage).not.toHaveProperty("acceptedDraftTokens");
  });

  test("is on by the id of a listed model, and off with a warning where that does not fit", async () => {
    const folder = dirname(writeModel("big.gguf", randomDecoder({ architecture: "llama" })));
    writeModel("small.gguf", randomDecoder({ architecture: "llama" }));
    writeModel("other.gguf", randomDecoder({ architecture: "llama", vocabulary: 600 }));
    const answer = async (draft: string) => {
      const warnings: string[] = [];
      const warn = (_: object, message: string): void => void warnings.push(message);
      const engine = startEngine({ model: folder, draft }, { ...silent, warn });
      const request = { model: "big", prompt: "Once", stop: [], extra: {}, maxTokens: 30 };
      const { usage } = await readAnswer(engine.complete(request, new AbortController().signal));
      return { usage, warned: warnings.join("\n") };
    };
    const fitting = await answer("small");
    expect(fitting.usage?.acceptedDraftTokens).toBeGreaterThan(0);
    expect(fitting.warned).not.toContain("guessed");
    for (const [draft, reason] of [
      ["other", "600 tokens"],
      ["missing.gguf", "missing.gguf"],
    ] as const) {
      const { usage, warned } = await answer(draft);
      expect(usage).toMatchObject({ completionTokens: fitting.usage?.completionTokens });
      expect(usage).not.toHaveProperty("acceptedDraftTokens");
      expect(warned).toContain("nothing is guessed ahead");
      expect(warned).toContain(reason);
    }
  });
});

describe("what is looked up", () => {
  const draft = (tokens: number[], most = 4): number[] | undefined =>
    new PromptLookup().draft([{ tokens, sequence: 0, most }])[0];

  test("is what followed the same three tokens the last time", () => {
    expect(draft([1, 2, 3, 4, 5, 6, 9, 1, 2, 3])).toEqual([4, 5, 6, 9]);
    expect(draft([1, 2, 3, 7, 1, 2, 3, 8, 1, 2, 3], 1)).toEqual([8]);
    expect(draft([5, 5, 5, 5])).toEqual([5, 5, 5, 5]);
    expect(draft([1, 2, 3, 1, 2, 3], 5)).toEqual([1, 2, 3, 1, 2]);
  });

  test("is nothing without a repetition", () => {
    for (const tokens of [[], [1], [1, 2, 3], [1, 2, 3, 4, 9, 2, 3], [1, 2, 3, 4, 5, 6]])
      expect(draft(tokens)).toEqual([]);
  });

  test("is found in a list that grows", () => {
    const lookup = new PromptLookup();
    const tokens = [1, 2, 3];
    const ask = () => lookup.draft([{ tokens, sequence: 0, most: 2 }])[0];
    expect(ask()).toEqual([]);
    tokens.push(4, 1, 2, 3);
    expect(ask()).toEqual([4, 1]);
    tokens.push(5, 1, 2, 3);
    expect(ask()).toEqual([5, 1]);
  });
});

describe("the pace of guesses", () => {
  const always: Drafter = {
    draft: (streams) => streams.map(({ most }) => Array<number>(most).fill(1)),
    free: () => undefined,
  };
  const stream = (tokens: number[]) => ({ tokens, sequence: 0, room: 100 });
  const lengths = (right: boolean, steps: number): number[] => {
    const speculation = new Speculation(always, { most: 16, least: 1 });
    const tokens: number[] = [];
    return Array.from({ length: steps }, () => {
      const [guess = []] = speculation.draft([stream(tokens)]);
      speculation.learn(tokens, guess.length, right ? guess.length : 0);
      return guess.length;
    });
  };

  test("grows while they are right", () => {
    expect(lengths(true, 4)).toEqual([8, 16, 16, 16]);
  });

  test("pauses longer and longer while they are wrong", () => {
    const guessed = lengths(false, 200);
    expect(guessed.slice(0, 12)).toEqual([8, 0, 4, 0, 0, 0, 4, 0, 0, 0, 0, 0]);
    expect(guessed.filter((length) => length > 0).length).toBeLessThan(14);
  });

  test("is shared by the streams of a step", () => {
    const speculation = new Speculation(always, { most: 5, least: 1 });
    const guesses = speculation.draft([stream([]), stream([]), { ...stream([]), room: 1 }]);
    expect(guesses.map((guess) => guess.length)).toEqual([1, 1, 1]);
    expect(new Speculation(always, { most: 8, least: 3 }).draft([stream([]), { ...stream([]), room: 2 }])).toEqual([
      [1, 1, 1, 1],
      [],
    ]);
  });
});
