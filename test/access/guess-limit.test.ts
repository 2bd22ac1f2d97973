import { expect, test } from "vitest";
import { GuessLimit } from "../../src/access/guess-limit.ts";

test("each further guess costs twice the last, up to a minute, and silence is forgiven", () => {
  let now = 0;
  const limit = new GuessLimit(() => now);
  for (let guess = 0; guess < 9; guess++) expect([limit.add("a"), limit.wait("a")]).toEqual([false, 0]);
  expect([limit.add("a"), limit.wait("a")]).toEqual([true, 1]);
  const waits: number[] = [];
  for (let guess = 0; guess < 8; guess++) {
    now += limit.wait("a") * 1000;
    expect(limit.wait("a")).toBe(0);
    expect(limit.add("a")).toBe(false);
    waits.push(limit.wait("a"));
  }
  expect(waits).toEqual([2, 4, 8, 16, 32, 60, 60, 60]);
  now += 60_000 + 120_000;
  limit.add("a");
  expect(limit.wait("a")).toBe(0);
});

test("a client with an old key that comes now and then never has to wait", () => {
  let now = 0;
  const limit = new GuessLimit(() => now);
  for (let guess = 0; guess < 1000; guess++) {
    now += 6000;
    limit.add("a");
    expect(limit.wait("a")).toBe(0);
  }
});

test("remembers a bounded number of addresses, and forgets those that guessed least lately", () => {
  const limit = new GuessLimit(() => 0);
  for (let guess = 0; guess < 10; guess++) limit.add("old");
  for (let other = 0; other < 9999; other++) limit.add(`a${other}`);
  limit.add("old");
  for (let other = 0; other < 9999; other++) limit.add(`b${other}`);
  expect(limit.wait("old")).toBeGreaterThan(0);
  limit.add("one more");
  expect([limit.size, limit.wait("old")]).toEqual([10_000, 0]);
});
