import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { retainUsage, trimUsage } from "../../src/usage/retention.ts";
import { MemoryUsage } from "../support/memory-usage.ts";

const said: string[] = [];
const note = (_fields: object, message: string): void => void said.push(message);
const log = { debug: note, info: note, warn: note, error: note };
const day = 86_400_000;
const settings = { keep: 90 * day, keepSums: 800 * day, most: 1000, log };

beforeEach(() => {
  said.length = 0;
  vi.useFakeTimers({ now: 1000 * day });
});
afterEach(() => {
  vi.useRealTimers();
});

it("forgets what is older than allowed, each hour until it is stopped", async () => {
  const usage = new MemoryUsage();
  const stop = retainUsage(usage, settings);
  expect(usage.trimmed).toEqual([]);
  await vi.advanceTimersByTimeAsync(60_000);
  expect(usage.trimmed).toEqual([{ before: 910 * day + 60_000, most: 1000, sumsBefore: 200 * day + 60_000 }]);
  await vi.advanceTimersByTimeAsync(3 * 3_600_000);
  expect(usage.trimmed).toHaveLength(4);
  stop();
  await vi.advanceTimersByTimeAsync(10 * 3_600_000);
  expect(usage.trimmed).toHaveLength(4);
});

it("goes on when the state was away", async () => {
  const usage = new MemoryUsage();
  usage.leaves();
  await trimUsage(usage, settings);
  expect(said).toEqual(["old usage records cannot be forgotten now"]);
  usage.returns();
  await trimUsage(usage, settings);
  expect(said[1]).toContain("are forgotten");
});
