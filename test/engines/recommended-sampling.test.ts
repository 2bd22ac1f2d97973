import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import type { ChatRequest } from "../../src/core/chat.ts";
import type { Log } from "../../src/core/log.ts";
import { readGguf } from "../../src/engines/gguf/gguf.ts";
import { type GgufValue, writeGguf } from "../../src/engines/gguf/gguf-writer.ts";
import { chatRequest } from "../support/chat-request.ts";
import { randomDecoder } from "../support/gguf.ts";
import { readAnswer, startEngine } from "../support/llama.ts";

const never = new AbortController().signal;
const folder = mkdtempSync(join(tmpdir(), "lair-recommended-"));
const models = join(folder, "models");
mkdirSync(models);
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const f32 = (value: number): GgufValue => ({ type: "f32", value });
const i32 = (value: number): GgufValue => ({ type: "i32", value });
const text = (value: string): GgufValue => ({ type: "string", value });

/** A model of random weights whose file says this of sampling, by the keys' last parts. */
function write(name: string, sampling: Readonly<Record<string, GgufValue>>): string {
  const path = join(models, `${name}.gguf`);
  const content = randomDecoder({ architecture: "llama", layers: 1, width: 64, seed: 3 });
  const said = Object.entries(sampling).map(([key, value]): [string, GgufValue] => [`general.sampling.${key}`, value]);
  writeGguf(path, { ...content, metadata: new Map([...content.metadata, ...said]) });
  return path;
}

write("silent", {});
write("calm", { temp: f32(0) });
write("wild", { temp: f32(3), top_k: i32(0), top_p: f32(1), min_p: f32(0) });
write("narrow", { temp: f32(3), top_k: i32(1) });
write("ordered", { temp: f32(3), top_k: i32(1), top_p: f32(1), min_p: f32(0), sequence: text("min_p;temp") });
const broken = write("broken", {
  temp: f32(0),
  top_k: text("40"),
  top_p: f32(1.5),
  min_p: f32(NaN),
  mirostat: i32(3),
  penalty_repeat: f32(0),
  penalty_last_n: f32(1.5),
  xtc_threshold: { type: "bool", value: true },
  sequence: text("infill;"),
});

const warnings: string[] = [];
const log: Log = { debug() {}, info() {}, error() {}, warn: (_, message) => void warnings.push(message) };
const engine = startEngine({ model: models, maxSessions: 1, temperature: undefined, topP: undefined }, log);

async function say(model: string, more: Partial<ChatRequest> = {}, by = engine): Promise<string> {
  // The model's two tokens that end an answer are left out.
  const about = { maxTokens: 16, logitBias: { "1021": -100, "1023": -100 }, ...more };
  return (await readAnswer(by.chat(chatRequest(model, "Once", about), never))).text;
}

/** The answers to one question with different seeds. */
async function variety(model: string, more: Partial<ChatRequest> = {}, by = engine): Promise<Set<string>> {
  const said = new Set<string>();
  for (const seed of [1, 2, 3, 4]) said.add(await say(model, { ...more, seed }, by));
  return said;
}

const likeliest = await say("silent", { temperature: 0 });

describe("what a model's file says of sampling", () => {
  test("holds where nobody else says anything", async () => {
    expect([...(await variety("calm"))]).toEqual([likeliest]);
    expect((await variety("silent")).size).toBeGreaterThan(1);
    // Only its own three filters, set wide open, let this much through.
    const open = { temperature: 3, topK: 0, topP: 1, minP: 0, seed: 7 };
    expect(await say("wild", { seed: 7 })).toBe(await say("silent", open));
    expect(await say("silent", { ...open, topK: 40 })).not.toBe(await say("silent", open));
  });

  test("names the filters, in their order", async () => {
    expect(await say("narrow")).toBe(likeliest);
    expect(await say("ordered", { seed: 7 })).toBe(
      await say("silent", { temperature: 3, topK: 0, topP: 1, minP: 0, seed: 7 }),
    );
  });

  test("gives way to the request", async () => {
    const asked = { temperature: 3, topK: 0, topP: 1, minP: 0 };
    expect((await variety("calm", asked)).size).toBeGreaterThan(1);
    expect(await say("wild", { temperature: 0 })).toBe(likeliest);
  });

  test("gives way to the user's settings, those of the one model too", async () => {
    const own = { calm: { temperature: 3, topK: 0, topP: 1, minP: 0 } };
    const settings = { model: models, maxSessions: 1, temperature: 0, models: own };
    const set = startEngine(settings);
    expect(await say("wild", {}, set)).toBe(likeliest);
    expect((await variety("calm", {}, set)).size).toBeGreaterThan(1);
    expect(await say("calm", { temperature: 0 }, set)).toBe(likeliest);
  });

  test("also holds for a completion of plain text", async () => {
    const ask = async (model: string, seed: number): Promise<string> => {
      const request = { model, prompt: "Once", stop: [], extra: {}, maxTokens: 16, seed };
      return (await readAnswer(engine.complete(request, never))).text;
    };
    expect(await ask("calm", 1)).toBe(await ask("calm", 2));
    expect(await ask("wild", 1)).not.toBe(await ask("wild", 2));
  });

  test("is left out, key by key and with a word in the log, where it cannot be", async () => {
    expect(await say("broken")).toBe(likeliest);
    await say("broken");
    const told = warnings.filter((warning) => warning.includes("general.sampling"));
    expect(told).toHaveLength(1);
    for (const key of ["top_k", "top_p", "min_p", "mirostat", "penalty_repeat", "penalty_last_n", "xtc_threshold"])
      expect(told[0]).toContain(`general.sampling.${key} is `);
    expect(told[0]).toContain("infill");
    expect(told[0]).not.toContain("general.sampling.temp");
    expect((await readGguf(broken)).sampling.values).toEqual({ temperature: 0 });
  });

  test("is read from every key that llama.cpp has, with as many digits as were written", async () => {
    const path = write("all", {
      sequence: text("penalties;dry;top-n-sigma;typical;nucleus;xtc;temperature"),
      top_k: { type: "u32", value: 2 ** 24 + 1 },
      top_p: f32(0.95),
      min_p: f32(0.01),
      xtc_probability: f32(0.1),
      xtc_threshold: f32(0.3),
      temp: f32(0.7),
      penalty_last_n: i32(-1),
      penalty_repeat: f32(1.05),
      mirostat: i32(2),
      mirostat_tau: f32(5.5),
      mirostat_eta: f32(0.9876543),
    });
    expect((await readGguf(path)).sampling).toEqual({
      values: {
        samplers: ["penalties", "dry", "top_n_sigma", "typ_p", "top_p", "xtc", "temperature"],
        topK: 2 ** 24 + 1,
        topP: 0.95,
        minP: 0.01,
        xtcProbability: 0.1,
        xtcThreshold: 0.3,
        temperature: 0.7,
        repeatLastN: -1,
        repeatPenalty: 1.05,
        mirostat: 2,
        mirostatTau: 5.5,
        mirostatEta: 0.9876543,
      },
      ignored: [],
    });
    rmSync(path);
  });

  test("is shown with the model, the user's settings laid over it", async () => {
    const settings = { model: models, temperature: undefined, topP: 0.5, models: { wild: { temperature: 0.2 } } };
    const listed = await startEngine(settings).models();
    const shown = Object.fromEntries(listed.map(({ id, sampling }) => [id, sampling]));
    expect(shown).toMatchObject({
      calm: { temperature: 0, topP: 0.5 },
      wild: { temperature: 0.2, topP: 0.5, topK: 0, minP: 0 },
      silent: { topP: 0.5 },
    });
    expect((await engine.models()).find(({ id }) => id === "silent")?.sampling).toBeUndefined();
  });

  test("is bounded: a sequence of a thousand samplers is none", async () => {
    const path = write("long", { sequence: text("top_k;".repeat(1000)), temp: f32(0) });
    const { values, ignored } = (await readGguf(path)).sampling;
    expect(values).toEqual({ temperature: 0 });
    expect(ignored.join().length).toBeLessThan(300);
    rmSync(path);
  });
});
