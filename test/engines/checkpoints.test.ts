import { readdirSync } from "node:fs";
import { describe, expect, test } from "vitest";
import type { NativeContext } from "../../src/engines/llama/native/native-context.ts";
import { PrefixStore } from "../../src/engines/llama/prefix/prefix-store.ts";
import { randomDecoder } from "../support/gguf.ts";
import { recurrentDecoder, slidingDecoder } from "../support/gguf-memories.ts";
import {
  type Bench,
  distance,
  job,
  modelFile,
  newFolder,
  openBench,
  trace,
  words,
} from "../support/llama-scheduler.ts";

const models = [
  ["an ordinary memory", modelFile(randomDecoder({ architecture: "qwen2" })), true],
  ["a window of 64 tokens", modelFile(slidingDecoder(64)), false],
  ["a recurrent memory", modelFile(recurrentDecoder()), false],
] as const;

const beginning = words(260);

function storeIn(folder: string): (context: NativeContext) => PrefixStore {
  return ({ rewindsFreely }) =>
    new PrefixStore({ folder, bytes: 1 << 30, key: Buffer.alloc(32, 7), rewindsFreely, onWarning: () => undefined });
}

async function ask(bench: Bench, id: number, prompt: string): Promise<number> {
  bench.scheduler.submit(job(id, prompt));
  await bench.run();
  return bench.done(id).usage?.cachedTokens ?? -1;
}

describe.each(models)("a model with %s", (_, model, rewinds) => {
  const small = { contextLength: 2048, ubatchSize: 128 };

  async function expectAsCold(bench: Bench, id: number, prompt: string): Promise<void> {
    const alone = await openBench(model, { ...small, sessions: 1 });
    await ask(alone, 1, prompt);
    expect(distance(trace(bench, id), trace(alone, 1))).toBeLessThan(0.05);
    alone.close();
  }

  test("goes back to where its prompt ended, and answers as it would cold", async () => {
    const bench = await openBench(model, { ...small, sessions: 1 });
    expect(bench.context.rewindsFreely).toBe(rewinds);
    await ask(bench, 1, beginning);
    expect(await ask(bench, 2, beginning)).toBeGreaterThanOrEqual(bench.tokens(beginning).length - 5);
    await expectAsCold(bench, 2, beginning);
    const longer = `${beginning} and on`;
    expect(await ask(bench, 3, longer)).toBeGreaterThan(bench.tokens(beginning).length - 10);
    await expectAsCold(bench, 3, longer);
  });

  test.skipIf(rewinds)("reads a prompt anew where nothing leads back, and says so", async () => {
    const bench = await openBench(model, { ...small, sessions: 1 });
    await ask(bench, 1, beginning);
    const other = `${words(100)} ${words(160, 9)}`;
    expect(await ask(bench, 2, other)).toBe(0);
    expect(bench.done(2).timings?.cacheMiss?.reason).toBe("cannot-rewind");
    await expectAsCold(bench, 2, other);
  });

  test("shares the beginning of requests that come together", async () => {
    const bench = await openBench(model, { ...small, sessions: 3 });
    const prompts = ["a", "bc", "def"].map((tail) => `${beginning} ${tail}`);
    for (const [id, prompt] of prompts.entries()) bench.scheduler.submit(job(id, prompt));
    await bench.run();
    const cached = prompts.map((_prompt, id) => bench.done(id).usage?.cachedTokens ?? -1);
    expect(cached.filter((count) => count > bench.tokens(beginning).length - 3)).toHaveLength(2);
    for (const [id, prompt] of prompts.entries()) await expectAsCold(bench, id, prompt);
  });

  test("takes a conversation over that another slot has gone on from", async () => {
    const bench = await openBench(model, { ...small, sessions: 2 });
    await ask(bench, 1, `${beginning} first`);
    bench.scheduler.submit(job(2, `${beginning} first and much more`, { maxTokens: 40 }));
    for (let step = 0; step < 8; step++) bench.step();
    bench.scheduler.submit(job(3, `${beginning} first or last`));
    await bench.run();
    expect(bench.done(3).usage?.cachedTokens).toBeGreaterThan(bench.tokens(beginning).length - 10);
    await expectAsCold(bench, 3, `${beginning} first or last`);
  });

  test("answers as it would cold when a step was broken off, for the stream beside it too", async () => {
    const bench = await openBench(model, { ...small, sessions: 2 });
    const byte = new Uint8Array(bench.interrupt);
    bench.scheduler.submit(job(1, `${words(100, 4)} first`, { maxTokens: 30 }));
    while (bench.outputs.every(({ type }) => type !== "text")) bench.step();
    bench.scheduler.submit(job(2, beginning));
    for (let step = 0; bench.scheduler.busy; step++) {
      byte[0] = step % 3 === 1 ? 1 : 0;
      bench.step();
    }
    byte[0] = 0;
    await expectAsCold(bench, 2, beginning);
    const alone = await openBench(model, { ...small, sessions: 1 });
    alone.scheduler.submit(job(1, `${words(100, 4)} first`, { maxTokens: 30 }));
    await alone.run();
    expect(distance(trace(bench, 1), trace(alone, 1))).toBeLessThan(0.05);
  });

  test("goes on from the disk after a restart", async () => {
    const folder = newFolder();
    const before = await openBench(model, { ...small, store: storeIn(folder) });
    await ask(before, 1, beginning);
    while (before.scheduler.save("all"));
    before.close();
    while (readdirSync(folder).every((name) => !name.endsWith(".kv"))) await new Promise(setImmediate);
    const after = await openBench(model, { ...small, store: storeIn(folder) });
    expect(await ask(after, 1, beginning)).toBeGreaterThanOrEqual(after.tokens(beginning).length - 5);
    await expectAsCold(after, 1, beginning);
  });
});
