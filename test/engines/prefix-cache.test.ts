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
