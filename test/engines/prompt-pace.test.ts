import { expect, test } from "vitest";
import { PromptPace } from "../../src/engines/llama/scheduling/prompt-pace.ts";

/** A machine whose attention costs so many milliseconds for each row and thousand tokens of context, in large pieces and in small. */
function read(length: number, cost: { base: number; row: number; large: number; small: number }) {
  const pace = new PromptPace(150);
  const steps: { at: number; rows: number; milliseconds: number }[] = [];
  for (let at = 0; at < length;) {
    const { rows } = pace;
    const attention = ((rows >= 65 ? cost.large : cost.small) * at) / 1000;
    const milliseconds = cost.base + rows * (cost.row + attention);
    pace.observe(rows, milliseconds);
    steps.push({ at, rows, milliseconds });
    at += rows;
  }
  return { steps, pace };
}

// As measured on two cores with a model of 0.5B: docs/benchmarks.md.
const slow = { base: 15, row: 2, large: 2.1, small: 3.7 };

test("steps beside streams stay near the stall that was asked for, however long the context has grown", () => {
  const { steps } = read(8000, slow);
  for (const { milliseconds } of steps.slice(4)) expect(milliseconds).toBeLessThan(300);
  expect(steps.at(-1)?.rows).toBeLessThan(30);
});

test("large pieces are taken where they are in time", () => {
  const { steps } = read(8000, { base: 5, row: 0.2, large: 0.05, small: 0.5 });
  for (const { rows } of steps) expect(rows).toBeGreaterThanOrEqual(65);
});

test("where small pieces are far slower, the smallest large one is taken up to three times the stall", () => {
  const { steps } = read(3000, { base: 5, row: 0.5, large: 1, small: 20 });
  const rows = steps.slice(-10).map((step) => step.rows);
  expect(rows.filter((count) => count === 65).length).toBeGreaterThan(5);
});

test("after a long prompt the next one is taken in large pieces again", () => {
  const { pace } = read(8000, slow);
  for (let step = 0; step < 10; step++) pace.observe(pace.rows, 5 + pace.rows * 0.5);
  expect(pace.rows).toBeGreaterThanOrEqual(65);
});
