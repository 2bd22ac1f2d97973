import { beforeEach, describe, expect, it } from "vitest";
import { memoryStore } from "../../src/responses/memory-store.ts";
import type { ResponseStore } from "../../src/state/state.ts";
import { responseContract } from "../state/contract.ts";

const hour = 3_600_000;
const clock = { now: 0 };
let responses: ResponseStore;
const openWith = (most: number): void => {
  responses = memoryStore(most, () => clock.now);
};

describe("responses in memory", () => {
  beforeEach(() => openWith(64 * 1024 * 1024));
  responseContract(() => ({ state: { responses }, other: { responses }, clock }));

  it("are given up, the oldest first, where there is no room", async () => {
    openWith(100_000);
    for (let turn = 0; turn < 1000; turn++) await responses.put("a", `r${turn}`, "x".repeat(1000), hour);
    const kept: number[] = [];
    for (let turn = 0; turn < 1000; turn++) if ((await responses.get("a", `r${turn}`)) !== undefined) kept.push(turn);
    expect(kept.length).toBeGreaterThan(50);
    expect(kept.length).toBeLessThan(100);
    expect(kept).toEqual(Array.from({ length: kept.length }, (_, index) => 1000 - kept.length + index));
  });

  it("of one caller do not push out those of another who has fewer", async () => {
    openWith(100_000);
    for (const id of ["r1", "r2"]) await responses.put("modest", id, "x".repeat(10_000), hour);
    for (let turn = 0; turn < 1000; turn++) await responses.put("greedy", `r${turn}`, "x".repeat(5000), hour);
    for (const id of ["r1", "r2"]) expect(await responses.get("modest", id)).toHaveLength(10_000);
    expect(await responses.get("greedy", "r999")).toHaveLength(5000);
    // And of many who have as much as each other, all have some.
    for (let turn = 0; turn < 100; turn++)
      for (const who of ["a", "b", "c", "d"]) await responses.put(who, `r${turn}`, "x".repeat(2000), hour);
    for (const who of ["a", "b", "c", "d"]) expect(await responses.get(who, "r99")).toHaveLength(2000);
  });

  it("that alone are longer than all may be are refused, and what is there stays", async () => {
    openWith(10_000);
    await responses.put("a", "r", "short", hour);
    await expect(responses.put("a", "r", "x".repeat(10_000), hour)).rejects.toThrow("too long");
    expect(await responses.get("a", "r")).toBe("short");
  });

  it("leave their room when they are deleted, replaced or over", async () => {
    openWith(10_000);
    for (let turn = 0; turn < 50; turn++) {
      await responses.put("a", "same", "x".repeat(4000), hour);
      await responses.put("b", "gone", "x".repeat(4000), hour);
      await responses.delete("b", "gone");
      await responses.put("c", "short-lived", "x".repeat(4000), 1);
      clock.now += 2;
      expect(await responses.get("c", "short-lived")).toBeUndefined();
      expect(await responses.get("a", "same")).toHaveLength(4000);
    }
  });
});
