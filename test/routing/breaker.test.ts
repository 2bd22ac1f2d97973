import { describe, expect, it } from "vitest";
import { Breaker } from "../../src/routing/breaker.ts";
import { TestClock } from "../support/routing.ts";

function start(): { clock: TestClock; breaker: Breaker; changes: string[] } {
  const clock = new TestClock();
  const changes: string[] = [];
  const breaker: Breaker = new Breaker(clock, () => changes.push(breaker.circuit));
  return { clock, breaker, changes };
}

function fail(breaker: Breaker, times = 1, trouble: "failing" | "unreachable" = "failing"): void {
  for (let count = 0; count < times; count++) breaker.enter()?.fail(trouble);
}

function succeed(breaker: Breaker, times = 1): void {
  for (let count = 0; count < times; count++) breaker.enter()?.succeed();
}

describe("a circuit", () => {
  it("stays closed after four failures in a row, however often that happens", () => {
    const { breaker } = start();
    for (let round = 0; round < 4; round++) {
      fail(breaker, 4);
      succeed(breaker, 9);
    }
    expect(breaker.circuit).toBe("closed");
  });

  it("opens at the fifth failure in a row, and lets nobody through", () => {
    const { breaker, clock, changes } = start();
    fail(breaker, 5);
    expect([breaker.circuit, breaker.enter(), breaker.wait, changes]).toEqual(["open", undefined, 1000, ["open"]]);
    expect(breaker.since).toBe(clock.now());
  });

  it("opens when half of twenty calls within half a minute fail, and not of nineteen", () => {
    const { breaker, clock } = start();
    for (let round = 0; round < 9; round++) {
      succeed(breaker);
      fail(breaker);
      clock.advance(1000);
    }
    succeed(breaker);
    expect(breaker.circuit).toBe("closed");
    fail(breaker);
    expect(breaker.circuit).toBe("open");
  });

  it("forgets failures of more than half a minute ago", () => {
    const { breaker, clock } = start();
    for (let round = 0; round < 100; round++) {
      succeed(breaker);
      fail(breaker);
      clock.advance(3000);
    }
    expect(breaker.circuit).toBe("closed");
  });

  it("lets one call at a time through after a second, then after ever longer pauses, at most half a minute", () => {
    const { breaker, clock } = start();
    fail(breaker, 5);
    for (const pause of [1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]) {
      clock.advance(pause - 1);
      expect([breaker.circuit, breaker.enter()]).toEqual(["open", undefined]);
      clock.advance(1);
      expect(breaker.circuit).toBe("half-open");
      const trial = breaker.enter();
      expect([trial?.trial, breaker.enter()]).toEqual([true, undefined]);
      trial?.fail("failing");
    }
  });

  it("closes with the first call that succeeds, and starts anew", () => {
    const { breaker, clock, changes } = start();
    fail(breaker, 5);
    clock.advance(1000);
    breaker.enter()?.fail("failing");
    clock.advance(2000);
    succeed(breaker);
    expect([breaker.circuit, changes]).toEqual(["closed", ["open", "closed"]]);
    fail(breaker, 4);
    expect(breaker.circuit).toBe("closed");
    fail(breaker);
    expect([breaker.circuit, breaker.wait]).toEqual(["open", 1000]);
  });

  it("lets another try when the one that tried has left without an answer", () => {
    const { breaker, clock } = start();
    fail(breaker, 5);
    clock.advance(1000);
    breaker.enter()?.leave();
    expect(breaker.enter()?.trial).toBe(true);
  });

  it("lets another try when the first trial takes longer than the longest pause", () => {
    const { breaker, clock } = start();
    fail(breaker, 5);
    clock.advance(1000);
    breaker.enter();
    clock.advance(29_999);
    expect(breaker.enter()).toBe(undefined);
    clock.advance(1);
    expect(breaker.enter()?.trial).toBe(true);
  });

  it("does not heed how calls end that began before it opened", () => {
    const { breaker } = start();
    const early = breaker.enter();
    fail(breaker, 5);
    early?.succeed();
    expect(breaker.circuit).toBe("open");
  });

  it("is closed by a health check where nobody could be reached, and not where calls were answered with failures", () => {
    for (const [trouble, after] of [
      ["unreachable", "closed"],
      ["failing", "open"],
    ] as const) {
      const { breaker } = start();
      fail(breaker, 5, trouble);
      breaker.answered();
      expect(breaker.circuit).toBe(after);
    }
  });

  it("counts a call once, whatever is said of it later", () => {
    const { breaker } = start();
    const passage = breaker.enter();
    for (let count = 0; count < 9; count++) passage?.fail("failing");
    expect(breaker.circuit).toBe("closed");
  });

  it("is not held open by a clock that was set back by a year", () => {
    const { breaker, clock } = start();
    fail(breaker, 5);
    clock.advance(-365 * 86_400_000);
    expect(breaker.enter()?.trial).toBe(true);
  });
});
