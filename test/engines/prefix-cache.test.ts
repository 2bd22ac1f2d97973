import { describe, expect, test } from "vitest";
import { randomDecoder } from "../support/gguf.ts";
import { type Trace, distance, job, modelFile, openBench, trace, words } from "../support/llama-scheduler.ts";

const model = modelFile(randomDecoder({ architecture: "qwen2" }));
const system = words(120);
const rowsOf = (steps: readonly (readonly { sequence: number; rows: number }[])[]): number =>
  steps.flat().reduce((sum, { rows }) => sum + rows, 0);

/** What requests say when each is alone in a new context. */
async function cold(prompts: readonly string[]): Promise<Trace[]> {
  const said: Trace[] = [];
  for (const prompt of prompts) {
    const bench = await openBench(model, { sessions: 1 });
    bench.scheduler.submit(job(1, prompt));
    await bench.run();
    said.push(trace(bench, 1));
    bench.close();
  }
  return said;
}

describe("a beginning that prompts have in common", () => {
  test("is computed once when they come together, and the answers are those of each alone", async () => {
    const prompts = ["a", "bc", "def", "ghij"].map((tail) => `${system} ${tail}`);
    const bench = await openBench(model);
    for (const [id, prompt] of prompts.entries()) bench.scheduler.submit(job(id, prompt));
    await bench.run();
    const shared = bench.tokens(system).length;
    const own = prompts.reduce((sum, prompt) => sum + bench.tokens(prompt).length - shared, 0);
    const generated = prompts.reduce((sum, _, id) => sum + (bench.done(id).usage?.completionTokens ?? 0) - 1, 0);
    expect(shared).toBeGreaterThan(300);
    expect(Math.abs(rowsOf(bench.steps) - (shared + own + generated))).toBeLessThan(8);
    for (const [id, alone] of (await cold(prompts)).entries())
      expect(distance(trace(bench, id), alone)).toBeLessThan(0.05);
  });
});

describe("those who wait for another's prompt", () => {
  const prompts = ["a", "bc", "def"].map((tail) => `${system} ${tail}`);

  test("go on themselves when that one leaves, and lose nothing that was computed", async () => {
    const bench = await openBench(model);
    for (const [id, prompt] of prompts.entries()) bench.scheduler.submit(job(id, prompt));
    bench.step();
    const first = rowsOf(bench.steps);
    expect(first).toBe(128);
    bench.scheduler.abort(0);
    await bench.run();
    expect(bench.order.toSorted((a, b) => a - b)).toEqual([1, 2]);
    const shared = bench.tokens(system).length;
    expect(rowsOf(bench.steps)).toBeLessThan(shared + 40);
    const alone = await cold(prompts);
    for (const id of [1, 2]) expect(distance(trace(bench, id), alone[id] ?? [])).toBeLessThan(0.05);
  });

  test("can leave as well, and nobody misses them", async () => {
    const bench = await openBench(model);
    for (const [id, prompt] of prompts.entries()) bench.scheduler.submit(job(id, prompt));
    bench.step();
    bench.scheduler.abort(1);
    await bench.run();
    expect(bench.order.toSorted((a, b) => a - b)).toEqual([0, 2]);
    const alone = await cold(prompts);
    for (const id of [0, 2]) expect(distance(trace(bench, id), alone[id] ?? [])).toBeLessThan(0.05);
  });

  test("join while it is being computed, and take over what a stream has in its slot", async () => {
    const bench = await openBench(model);
    bench.scheduler.submit(job(0, prompts[0] ?? "", { maxTokens: 40 }));
    bench.step();
    bench.scheduler.submit(job(1, prompts[1] ?? ""));
    while (bench.outputs.every(({ type }) => type !== "text")) bench.step();
    bench.scheduler.submit(job(2, prompts[2] ?? ""));
    await bench.run();
    const shared = bench.tokens(system).length;
    for (const id of [1, 2]) expect(bench.done(id).usage?.cachedTokens).toBeGreaterThanOrEqual(shared - 3);
    const alone = await cold(prompts);
    for (const id of [1, 2]) expect(distance(trace(bench, id), alone[id] ?? [])).toBeLessThan(0.05);
    const undisturbed = await openBench(model, { sessions: 1 });
    undisturbed.scheduler.submit(job(0, prompts[0] ?? "", { maxTokens: 40 }));
    await undisturbed.run();
    expect(distance(trace(bench, 0), trace(undisturbed, 0))).toBeLessThan(0.05);
  });

  test("follow whom they have most in common with, not the first", async () => {
    const bench = await openBench(model);
    const branch = `${system} ${words(80, 2)}`;
    const asked = [`${system} other`, `${branch} x`, `${branch} yz`];
    for (const [id, prompt] of asked.entries()) bench.scheduler.submit(job(id, prompt));
    await bench.run();
    expect(bench.done(2).usage?.cachedTokens).toBeGreaterThanOrEqual(bench.tokens(branch).length - 3);
    const alone = await cold(asked);
    for (const [id, said] of alone.entries()) expect(distance(trace(bench, id), said)).toBeLessThan(0.05);
  });
});

test("a short beginning in a long context is copied by itself", async () => {
  const short = words(35);
  const prompts = ["a", "bc"].map((tail) => `${short} ${tail}`);
  const bench = await openBench(model, { contextLength: 4096 });
  let whole = 0;
  const { copy } = bench.context;
  bench.context.copy = (...args) => (whole++, copy.apply(bench.context, args));
  for (const [id, prompt] of prompts.entries()) bench.scheduler.submit(job(id, prompt));
  await bench.run();
  expect(bench.done(1).usage?.cachedTokens).toBeGreaterThan(80);
  expect(whole).toBe(0);
  for (const [id, said] of (await cold(prompts)).entries()) expect(distance(trace(bench, id), said)).toBeLessThan(0.05);
});

describe("why a prompt was not in the cache", () => {
  test("is told: new, or the first token that differs, and nothing where all of it was there", async () => {
    const bench = await openBench(model);
    const missOf = async (id: number, prompt: string): Promise<unknown> => {
      bench.scheduler.submit(job(id, prompt, { session: "s" }));
      await bench.run();
      return bench.done(id).timings?.cacheMiss;
    };
    expect(await missOf(1, `${system} north`)).toMatchObject({ reason: "new", position: 0 });
    expect(await missOf(2, `${system} north`)).toBeUndefined();
    const changed = await missOf(3, `${system} seven`);
    const position = bench.tokens(`${system} `).length - 1;
    expect(changed).toMatchObject({ reason: "changed", cached: " n" });
    expect((changed as { position: number }).position).toBe(position);
    expect(bench.done(3).timings?.queuedMs).toBeGreaterThanOrEqual(0);
  });
});
