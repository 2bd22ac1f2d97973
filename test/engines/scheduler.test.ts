import { describe, expect, test } from "vitest";
import { randomDecoder } from "../support/gguf.ts";
import { type Bench, distance, job, modelFile, openBench, trace, words } from "../support/llama-scheduler.ts";

const model = modelFile(randomDecoder({ architecture: "qwen2" }));
// A bias against both end tokens keeps the model talking.
const talk = { ...job(0, "").sampling, logitBias: { "1021": -100, "1023": -100 } };

const positions = (bench: Bench, id: number): (number | undefined)[] =>
  bench.outputs.flatMap((output) =>
    output.id === id && output.type === "progress" && output.event.phase === "queued" ? [output.event.position] : [],
  );

describe("running streams", () => {
  test("go on while a long prompt is taken in, a bounded piece in each step", async () => {
    const bench = await openBench(model, { contextLength: 2048, ubatchSize: 512, pace: { stallMs: 0 } });
    bench.scheduler.submit(job(1, "Tell me", { maxTokens: 200, sampling: talk }));
    for (let step = 0; step < 4; step++) bench.step();
    const before = bench.steps.length;
    bench.scheduler.submit(job(2, words(400), { maxTokens: 1 }));
    while (!bench.order.includes(2)) bench.step();
    const taken = bench.steps.slice(before);
    expect(taken.length).toBeGreaterThan(10);
    for (const step of taken) {
      expect(step.map(({ rows }) => rows).toSorted((a, b) => a - b)[0]).toBe(1);
      expect(Math.max(...step.map(({ rows }) => rows))).toBeLessThanOrEqual(65);
      expect(step).toHaveLength(2);
    }
    bench.scheduler.abort(1);
  });

  test("are computed in one pass: their rows lie in the order of their slots", async () => {
    const bench = await openBench(model);
    const submit = (id: number, maxTokens: number): void =>
      bench.scheduler.submit(job(id, `Question ${id}`, { maxTokens, sampling: talk }));
    for (const [id, length] of [30, 4, 30, 4].entries()) submit(id, length);
    while (bench.order.length < 2) bench.step();
    for (const id of [4, 5]) submit(id, 30);
    for (let step = 0; step < 6; step++) bench.step();
    for (const step of bench.steps) {
      const sequences = step.map(({ sequence }) => sequence);
      expect(sequences).toEqual(sequences.toSorted((a, b) => a - b));
    }
    await bench.run();
  });
});

describe("prompts that are read at the same time", () => {
  test("share the steps: a short one does not wait for a long one's end", async () => {
    const bench = await openBench(model, { contextLength: 4096 });
    bench.scheduler.submit(job(1, words(1200), { maxTokens: 1 }));
    for (let step = 0; step < 3; step++) bench.step();
    bench.scheduler.submit(job(2, "A short question", { maxTokens: 1 }));
    const before = bench.steps.length;
    while (!bench.order.includes(2)) bench.step();
    expect(bench.steps.length - before).toBeLessThanOrEqual(2);
    expect(bench.order).toEqual([2]);
    await bench.run();
    expect(bench.order).toEqual([2, 1]);
  });

  test("and the oldest is never starved by shorter ones that keep coming", async () => {
    const bench = await openBench(model, { contextLength: 4096, ubatchSize: 256 });
    bench.scheduler.submit(job(1, words(1000), { maxTokens: 1 }));
    const long = bench.tokens(words(1000)).length;
    for (let id = 2; !bench.order.includes(1); id++) {
      bench.scheduler.submit(job(id, words(100, id), { maxTokens: 1 }));
      bench.step();
    }
    expect(bench.steps.length).toBeLessThan((long / 128) * 1.3 + 3);
    await bench.run();
  });
});

describe("the line of those who wait", () => {
  test("answers 200 requests on 4 slots, in the order in which they came", async () => {
    const bench = await openBench(model);
    const ids = Array.from({ length: 200 }, (_, index) => index);
    for (const id of ids) bench.scheduler.submit(job(id, `Question ${id}`, { maxTokens: 3 }));
    await bench.run();
    expect(bench.order.toSorted((a, b) => a - b)).toEqual(ids);
    for (const [place, id] of bench.order.entries()) expect(Math.abs(place - id)).toBeLessThan(8);
    expect(ids.every((id) => bench.done(id).failure === undefined)).toBe(true);
    const told = positions(bench, 199);
    expect(told[0]).toBe(195);
    expect(told.at(-1)).toBeLessThan(4);
    expect(told).toEqual(told.toSorted((a, b) => (b ?? 0) - (a ?? 0)));
  });

  test("lets a session that asks one thing past another that asks many", async () => {
    const bench = await openBench(model, { sessions: 1 });
    for (let id = 0; id < 20; id++) bench.scheduler.submit(job(id, `Many ${id}`, { maxTokens: 2, session: "many" }));
    bench.step();
    bench.scheduler.submit(job(100, "Only one", { maxTokens: 2, session: "one" }));
    await bench.run();
    expect(bench.order.indexOf(100)).toBeLessThanOrEqual(2);
  });

  test("serves interactive requests first, and background ones in the end, too", async () => {
    const bench = await openBench(model, { sessions: 1 });
    const submit = (id: number, priority: "interactive" | "background"): void =>
      bench.scheduler.submit(job(id, `Ask ${id}`, { maxTokens: 2, priority }));
    submit(0, "interactive");
    bench.step();
    for (const id of [50, 51]) submit(id, "background");
    for (let id = 1; id <= 20; id++) submit(id, "interactive");
    await bench.run();
    expect(bench.order.slice(0, 3)).toEqual([0, 1, 2]);
    expect(bench.order.indexOf(50)).toBeGreaterThan(5);
    expect(bench.order.indexOf(50)).toBeLessThan(12);
    expect(bench.order).toHaveLength(23);
  });

  test("is bounded, and says how long it is to whom it turns away", async () => {
    const bench = await openBench(model, { sessions: 1, pace: { maxQueue: 3 } });
    for (let id = 0; id < 4; id++) bench.scheduler.submit(job(id, `Ask ${id}`, { maxTokens: 2 }));
    await bench.run();
    expect(bench.done(3).failure).toMatchObject({
      code: "concurrency_limit",
      message: expect.stringContaining("3 requests"),
    });
    expect(bench.order.filter((id) => id !== 3)).toEqual([0, 1, 2]);
  });

  test("can be left by any of those who wait", async () => {
    const bench = await openBench(model, { sessions: 1 });
    for (let id = 0; id < 5; id++) bench.scheduler.submit(job(id, `Ask ${id}`, { maxTokens: 2 }));
    bench.step();
    bench.scheduler.abort(2);
    await bench.run();
    expect(bench.order).toEqual([0, 1, 3, 4]);
    expect(positions(bench, 4)).toEqual([3, 2, 1, 0]);
  });
});

test("the same seed gives the same answer in whichever slot, among whichever others", async () => {
  const sampling = { ...talk, temperature: 1.3, topK: 0, topP: 1, seed: 11 };
  const alone = await openBench(model, { sessions: 1, ubatchSize: 32 });
  alone.scheduler.submit(job(1, "Roll the dice", { maxTokens: 12, sampling }));
  await alone.run();
  const bench = await openBench(model, { ubatchSize: 32 });
  for (let id = 10; id < 13; id++) bench.scheduler.submit(job(id, `Other ${id}`, { maxTokens: 30, sampling: talk }));
  for (const id of [1, 2]) bench.scheduler.submit(job(id, "Roll the dice", { maxTokens: 12, sampling }));
  await bench.run();
  for (const id of [1, 2]) expect(distance(trace(bench, id), trace(alone, 1))).toBeLessThan(0.05);
});

test("an answer ends with length where the context ends, and a longer prompt is refused with both numbers", async () => {
  const bench = await openBench(model, { contextLength: 256 });
  bench.scheduler.submit(job(1, words(40), { maxTokens: null, sampling: talk }));
  bench.scheduler.submit(job(2, words(300)));
  await bench.run();
  const finish = bench.outputs.find((output) => output.id === 1 && output.type === "finish");
  expect(finish).toMatchObject({ reason: "length" });
  const { usage } = bench.done(1);
  expect((usage?.promptTokens ?? 0) + (usage?.completionTokens ?? 0)).toBe(256);
  const { failure } = bench.done(2);
  expect(failure?.code).toBe("context_length_exceeded");
  expect(failure?.message).toContain("256");
  expect(failure?.message).toContain(String(bench.tokens(words(300)).length));
});
