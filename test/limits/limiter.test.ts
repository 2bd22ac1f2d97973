import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { CallerLimits, Principal } from "../../src/core/access.ts";
import type { Demand } from "../../src/core/demand.ts";
import { ApiError } from "../../src/core/errors.ts";
import { silent } from "../../src/core/log.ts";
import { createLimiter, type LeasingLimiter } from "../../src/limits/create-limiter.ts";
import type { Reservation } from "../../src/limits/limiter.ts";
import { seeded } from "../support/bytes.ts";
import { type MeterConnection, MemoryMeters } from "../support/memory-meters.ts";

const noon = Date.UTC(2026, 10, 22, 12);
const open: LeasingLimiter[] = [];
let store: MemoryMeters;

beforeEach(() => {
  vi.useFakeTimers({
    now: noon,
    toFake: ["setTimeout", "clearTimeout", "setInterval", "clearInterval", "setImmediate", "Date", "performance"],
  });
  store = new MemoryMeters(() => performance.now());
});

afterEach(async () => {
  for (const limiter of open.splice(0)) void limiter.close();
  await pass(1000);
  vi.useRealTimers();
});

function replica(settings: { grace?: number; way?: MeterConnection; onState?: (away: boolean) => void } = {}) {
  const { grace = 60_000, way = store.connect(), onState } = settings;
  const name = `replica-${open.length}`;
  const limiter = createLimiter({
    meters: way,
    replica: name,
    grace,
    log: silent,
    ...(onState === undefined ? {} : { onState }),
  });
  open.push(limiter);
  return { limiter, way };
}

function caller(limits: CallerLimits, id = "k1"): Principal {
  return { id, name: id, roles: new Set(["inference"] as const), limits };
}

function demand(fields: Partial<Demand> = {}): Demand {
  return {
    endpoint: "/v1/chat/completions",
    model: "m",
    streamed: false,
    promptTokens: 10,
    outputTokens: 90,
    tools: false,
    images: false,
    ...fields,
  };
}

/** Lets so many milliseconds pass, with everything that they bring: one after the other, long times in larger steps. */
async function pass(milliseconds: number): Promise<void> {
  const step = milliseconds > 10_000 ? 50 : 1;
  for (let passed = 0; passed <= milliseconds; passed += step) {
    vi.advanceTimersByTime(passed === 0 ? 0 : step);
    for (let turn = 0; turn < 12; turn++) await Promise.resolve();
  }
}

/** The reservation or the refusal, once it is known. */
async function ask(...[limiter, principal, asked = demand(), spend = 0]: Asking): Promise<Reservation | ApiError> {
  const result = attempt(limiter, principal, asked, spend).catch((error: unknown) => {
    if (error instanceof ApiError) return error;
    throw error;
  });
  await pass(1);
  return result;
}

type Asking = [limiter: LeasingLimiter, principal: Principal, asked?: Demand, spend?: number];

async function attempt(...[limiter, principal, asked = demand(), spend = 0]: Asking): Promise<Reservation> {
  return limiter.reserve(principal, asked, spend);
}

async function granted(...args: Asking): Promise<Reservation> {
  const result = await ask(...args);
  if (result instanceof ApiError) throw result;
  return result;
}

async function refused(...args: Asking): Promise<ApiError> {
  const result = await ask(...args);
  if (!(result instanceof ApiError)) throw new Error("it was not refused");
  return result;
}

const nothing = { tokens: 0, spend: 0 };

/** How many of so many calls at once are let through. */
async function count(calls: number, ...args: Asking): Promise<number> {
  const results = Array.from({ length: calls }, () =>
    attempt(...args).then(
      () => 1,
      () => 0,
    ),
  );
  await pass(1);
  return (await Promise.all(results)).reduce<number>((sum, one) => sum + one, 0);
}

const perMinute = { id: "k1/requests-per-minute/60", capacity: 60, refill: 1, expires: Infinity };
const tokensToday = { id: "k1/tokens/2026-11-22", capacity: 10_000, refill: 0, expires: Infinity };

describe("a limit over several replicas", () => {
  it("grants what there is, to one percent and never more, under five hundred calls a second", async () => {
    const replicas = [replica(), replica(), replica()];
    for (const { way } of replicas) way.latency = 4;
    const principal = caller({ requestsPerMinute: 6000 });
    let taken = 0;
    // 30 s against a full bucket of 6000 and 100 that come back each second.
    for (let turn = 0; turn < 15_000; turn++) {
      void attempt(replicas[turn % 3]!.limiter, principal).then(
        () => taken++,
        () => undefined,
      );
      await pass(2);
    }
    const allowed = 6000 + 30 * 100;
    expect(taken).toBeLessThanOrEqual(allowed);
    expect(taken).toBeGreaterThanOrEqual(allowed * 0.99);
  });

  it("never exceeds a quota while calls of all sizes begin, end and are refused, and leaves none of it unused", async () => {
    const replicas = [replica(), replica(), replica()];
    for (const { way } of replicas) way.latency = 6;
    const principal = caller({ tokensPerDay: 100_000 });
    const random = seeded(7);
    let used = 0;
    let reserved = 0;
    let most = 0;
    for (let turn = 0; turn < 6000; turn++) {
      const asked = demand({ promptTokens: 1 + Math.floor(random() * 40), outputTokens: Math.floor(random() * 200) });
      const whole = asked.promptTokens + asked.outputTokens!;
      const real = Math.floor(whole * random());
      void attempt(replicas[Math.floor(random() * 3)]!.limiter, principal, asked).then(
        (reservation) => {
          reserved += whole;
          most = Math.max(most, used + reserved);
          setTimeout(() => {
            reserved -= whole;
            used += real;
            reservation.settle({ tokens: real, spend: 0 });
          }, random() * 300);
        },
        () => undefined,
      );
      await pass(2);
    }
    await pass(1000);
    expect(most).toBeLessThanOrEqual(100_000);
    expect(used).toBeGreaterThan(99_000);
    expect(store.level({ ...tokensToday, capacity: 100_000 })).toBe(100_000 - used);
  });

  it("leaves to one replica what another does not use", async () => {
    const [first, second] = [replica(), replica()];
    const principal = caller({ requestsPerMinute: 60 });
    for (let turn = 0; turn < 20; turn++) {
      await granted(first!.limiter, principal);
      await pass(20);
    }
    await pass(500);
    const level = store.level(perMinute);
    expect(await count(60, second!.limiter, principal)).toBe(Math.floor(level));
    expect(level).toBeGreaterThan(39.9);
  });

  it("is asked for again a moment after it was used up, for another replica may have given back", async () => {
    const [first, second] = [replica(), replica()];
    const principal = caller({ tokensPerDay: 100 });
    const all = await granted(second!.limiter, principal);
    await refused(first!.limiter, principal);
    all.settle({ tokens: 40, spend: 0 });
    await pass(400);
    await granted(first!.limiter, principal, demand({ promptTokens: 60, outputTokens: 0 }));
  });

  it("is in no replica's hands for more than an eighth ahead of its calls, nor a quarter of the rest", async () => {
    const { limiter } = replica();
    const principal = caller({ tokensPerDay: 10_000 });
    for (let used = 10; used <= 9990; used += 10) {
      void limiter.reserve(principal, demand({ promptTokens: 10, outputTokens: 0 }), 0);
      await pass(1);
      expect(store.spent.get(tokensToday.id)! - used).toBeLessThanOrEqual(Math.min(1250, (10_000 - used) / 4 + 2));
    }
  });

  it("counts calls under way together, and has a place for the next when one ends", async () => {
    const [first, second] = [replica(), replica()];
    const principal = caller({ concurrent: 3 });
    const held = [await granted(first!.limiter, principal), await granted(first!.limiter, principal)];
    await granted(second!.limiter, principal);
    const refusal = await refused(second!.limiter, principal);
    expect(refusal.code).toBe("concurrency_limit");
    expect(refusal.message).toBe(
      "the limit of 3 calls at a time is reached; the next is possible when one of them ends",
    );
    expect(refusal.retryAfter).toBe(1);
    expect((await refused(first!.limiter, principal)).code).toBe("concurrency_limit");
    held[0]!.settle(nothing);
    held[0]!.settle(nothing);
    await pass(500);
    await granted(second!.limiter, principal);
    expect((await refused(second!.limiter, principal)).code).toBe("concurrency_limit");
    expect(store.held("k1/concurrent")).toBe(3);
  });

  it("lets in as many as there are places when more come at once, and refuses the others", async () => {
    const { limiter } = replica();
    expect(await count(20, limiter, caller({ concurrent: 7 }))).toBe(7);
  });

  it("keeps the places of long calls, for as long as they are under way and the replica lives", async () => {
    const first = replica();
    const principal = caller({ concurrent: 1 });
    await granted(first.limiter, principal);
    await pass(60_000);
    expect(store.held("k1/concurrent")).toBe(1);
    first.way.hangs();
    await pass(15_500);
    const second = replica();
    await granted(second.limiter, principal);
  });
});

describe("round trips", () => {
  it("are none for callers without limits, who all hold the same", async () => {
    const { limiter, way } = replica();
    const reservation = limiter.reserve(caller({}), demand(), 5);
    expect(limiter.reserve(caller({}, "other"), demand(), 5)).toBe(reservation);
    expect((reservation as Reservation).headers).toEqual({});
    await pass(1000);
    expect(way.asked).toEqual([]);
  });

  it("are shared by the calls that wait, and few when calls come fast", async () => {
    const { limiter, way } = replica();
    const principal = caller({ requestsPerMinute: 600_000, tokensPerMinute: 60_000_000, concurrent: 500 });
    expect(await count(100, limiter, principal)).toBe(100);
    expect(way.asked.length).toBe(1);
    expect(way.heldFor.length).toBe(1);
    await pass(100);
    let waited = 0;
    const before = way.asked.length;
    for (let turn = 0; turn < 1000; turn++) {
      const result = limiter.reserve(principal, demand(), 0);
      if (result instanceof Promise) waited++;
      await pass(1);
      (await result).settle({ tokens: 100, spend: 0 });
    }
    expect(waited).toBeLessThan(5);
    expect(way.asked.length - before).toBeLessThan(60);
  });

  it("are few for a caller who goes on asking though nothing is left", async () => {
    const { limiter, way } = replica();
    const principal = caller({ tokensPerDay: 100 });
    await granted(limiter, principal);
    const before = way.asked.length;
    for (let turn = 0; turn < 1000; turn++) {
      expect((await refused(limiter, principal)).code).toBe("insufficient_quota");
      await pass(1);
    }
    expect(way.asked.length - before).toBeLessThan(10);
  });

  it("bring back what lies idle, and then end", async () => {
    const { limiter, way } = replica();
    const principal = caller({ tokensPerDay: 10_000 });
    (await granted(limiter, principal)).settle({ tokens: 30, spend: 0 });
    await pass(400);
    expect(store.level(tokensToday)).toBe(9970);
    const before = way.asked.length;
    await pass(60_000);
    expect(way.asked.length).toBe(before);
  });

  it("give all back at the end", async () => {
    const { limiter } = replica();
    const principal = caller({ tokensPerDay: 10_000, concurrent: 2 });
    (await granted(limiter, principal)).settle({ tokens: 30, spend: 0 });
    const closed = limiter.close();
    await pass(0);
    await closed;
    expect(store.level(tokensToday)).toBe(9970);
    expect(store.held("k1/concurrent")).toBe(0);
  });
});

describe("a call", () => {
  it("takes from all of its limits or from none", async () => {
    const { limiter } = replica();
    const principal = caller({ requestsPerMinute: 60, tokensPerDay: 10_000, concurrent: 5 });
    await granted(limiter, principal, demand({ promptTokens: 9000, outputTokens: 500 }));
    const refusal = await refused(limiter, principal, demand({ promptTokens: 400, outputTokens: 200 }));
    expect(refusal.code).toBe("insufficient_quota");
    await pass(500);
    expect(store.level(perMinute)).toBeGreaterThan(59);
    expect(store.held("k1/concurrent")).toBe(1);
    expect(store.level(tokensToday)).toBe(500);
  });

  it("leaves nothing behind where the state has of one limit enough and of another too little", async () => {
    const [first, second] = [replica(), replica()];
    const principal = caller({ requestsPerMinute: 60, tokensPerDay: 10_000, concurrent: 5 });
    await granted(second!.limiter, principal, demand({ promptTokens: 9950, outputTokens: 0 }));
    expect((await refused(first!.limiter, principal)).code).toBe("insufficient_quota");
    await pass(500);
    expect(store.level(perMinute)).toBeGreaterThan(59);
    expect(store.held("k1/concurrent")).toBe(1);
  });

  it("gives back what was reserved and not used, once, whenever it ends", async () => {
    const { limiter } = replica();
    const principal = caller({ tokensPerDay: 10_000, spendPerDay: 2 });
    const reservation = await granted(
      limiter,
      principal,
      demand({ promptTokens: 1000, outputTokens: 8000 }),
      1_500_000,
    );
    expect((await refused(limiter, principal, demand(), 600_000)).message).toContain("0.5 of spend are left");
    await pass(3_600_000);
    reservation.settle({ tokens: 1200, spend: 100_000 });
    reservation.settle({ tokens: 0, spend: 0 });
    await pass(500);
    expect(store.level(tokensToday)).toBe(8800);
    expect(store.level({ id: "k1/spend/2026-11-22", capacity: 2_000_000, refill: 0, expires: 0 })).toBe(1_900_000);
  });

  it("owes what it used on top, and the next waits until that has come back", async () => {
    const { limiter } = replica();
    const other = replica();
    const principal = caller({ tokensPerMinute: 6000 });
    const reservation = await granted(limiter, principal, demand({ promptTokens: 100, outputTokens: 900 }));
    reservation.settle({ tokens: 9000, spend: 0 });
    await pass(200);
    const refusal = await refused(other.limiter, principal);
    expect(refusal.code).toBe("rate_limit_exceeded");
    // 3000 too many, and 100 that it asks for, at 100 a second.
    expect(refusal.retryAfter).toBeGreaterThanOrEqual(30);
    expect(refusal.retryAfter).toBeLessThanOrEqual(31);
    await pass(31_000);
    await granted(other.limiter, principal);
  });

  it("is believed no use that cannot be", async () => {
    const { limiter } = replica();
    const principal = caller({ tokensPerDay: 10_000 });
    for (const tokens of [Number.NaN, -5000, Infinity])
      (await granted(limiter, principal)).settle({ tokens, spend: 0 });
    await pass(500);
    expect(store.level(tokensToday)).toBe(9700);
  });

  it("may ask for a longer answer than the limit allows, which then bounds it", async () => {
    const { limiter } = replica();
    const principal = caller({ tokensPerMinute: 10_000 });
    const reservation = await granted(limiter, principal, demand({ promptTokens: 500, outputTokens: 32_000 }));
    expect((await refused(limiter, principal)).code).toBe("rate_limit_exceeded");
    reservation.settle({ tokens: 700, spend: 0 });
    await granted(limiter, principal);
  });

  it("reserves a usual answer where it sets no bound", async () => {
    const { limiter } = replica();
    await granted(limiter, caller({ tokensPerDay: 10_000 }), {
      ...demand({ promptTokens: 4 }),
      outputTokens: undefined,
    });
    expect(store.level(tokensToday)).toBe(5900);
  });

  it("that costs nothing is free, though no money is left", async () => {
    const { limiter } = replica();
    const principal = caller({ spendPerMonth: 1 });
    await granted(limiter, principal, demand(), 1_000_000);
    expect((await refused(limiter, principal, demand(), 1)).code).toBe("insufficient_quota");
    await granted(limiter, principal, demand(), 0);
  });
});

describe("a refusal", () => {
  it("names the limit and says when it is possible, also in OpenAI's headers", async () => {
    const { limiter } = replica();
    const principal = caller({ requestsPerMinute: 2, tokensPerMinute: 100_000 });
    const { headers } = await granted(limiter, principal);
    expect(headers).toEqual({
      "x-ratelimit-limit-requests": "2",
      "x-ratelimit-remaining-requests": "1",
      "x-ratelimit-reset-requests": "30s",
      "x-ratelimit-limit-tokens": "100000",
      // Of the 100 reserved, one has come back in the millisecond since.
      "x-ratelimit-remaining-tokens": "99901",
      "x-ratelimit-reset-tokens": "1s",
    });
    await granted(limiter, principal);
    const refusal = await refused(limiter, principal);
    expect(refusal.code).toBe("rate_limit_exceeded");
    expect(refusal.message).toBe("the limit of 2 requests per minute is reached; it is possible in 30 s");
    expect(refusal.retryAfter).toBe(30);
    expect(refusal.headers).toMatchObject({
      "x-ratelimit-remaining-requests": "0",
      "x-ratelimit-reset-requests": "1m0s",
    });
    await pass(30_000);
    await granted(limiter, principal);
  });

  it("of tokens says what was asked and what is left", async () => {
    const { limiter } = replica();
    const principal = caller({ tokensPerMinute: 6000 });
    await granted(limiter, principal, demand({ promptTokens: 1000, outputTokens: 4000 }));
    const refusal = await refused(limiter, principal, demand({ promptTokens: 1000, outputTokens: 1000 }));
    expect(refusal.message).toBe(
      "the limit of 6000 tokens per minute is reached: this request may use 2000 tokens, and 1000 tokens are left; it is possible in 10 s; a smaller max_tokens asks for less",
    );
    expect(refusal.retryAfter).toBe(10);
  });

  it("of a day ends with the day of UTC, and of a month with the month", async () => {
    const { limiter } = replica();
    const day = caller({ tokensPerDay: 100 }, "by-day");
    const month = caller({ tokensPerMonth: 100 }, "by-month");
    await granted(limiter, day);
    await granted(limiter, month);
    const today = await refused(limiter, day);
    expect(today.code).toBe("insufficient_quota");
    expect(today.message).toContain("the day ends at 2026-11-23T00:00:00Z");
    expect(today.retryAfter).toBe(12 * 3600);
    expect((await refused(limiter, month)).message).toContain("the month ends at 2026-12-01T00:00:00Z");
    vi.setSystemTime(Date.UTC(2026, 10, 23, 0, 0, 1));
    await granted(limiter, day);
    expect((await refused(limiter, month)).code).toBe("insufficient_quota");
    vi.setSystemTime(Date.UTC(2026, 11, 1));
    await granted(limiter, month);
  });

  it("is the same again when the wall clock is put back, and nothing is had twice", async () => {
    const { limiter } = replica();
    const principal = caller({ tokensPerDay: 100, requestsPerMinute: 10 });
    await granted(limiter, principal);
    vi.setSystemTime(noon - 3_600_000);
    expect((await refused(limiter, principal)).code).toBe("insufficient_quota");
    vi.setSystemTime(noon + 86_400_000);
    await granted(limiter, principal);
    vi.setSystemTime(noon);
    expect((await refused(limiter, principal)).code).toBe("insufficient_quota");
  });

  it("that no waiting can help is none that clients repeat, nor one at which opencode shortens and asks again", async () => {
    const { limiter } = replica();
    const huge = demand({ promptTokens: 150_200, outputTokens: 10 });
    const refusal = await refused(limiter, caller({ tokensPerMinute: 50_200 }), huge);
    expect(refusal.status).toBe(400);
    expect(refusal.code).toBe("invalid_request");
    for (const limits of [{ tokensPerDay: 0 }, { requestsPerMinute: 0 }, { concurrent: 0 }])
      expect((await refused(limiter, caller(limits, JSON.stringify(limits)))).status).toBe(403);
    expect((await refused(limiter, caller({ spendPerDay: 0 }, "poor"), demand(), 10)).status).toBe(403);
    await granted(limiter, caller({ spendPerDay: 0 }, "poor"));
    // What opencode takes for a failure that passes, in any 4xx.
    expect(refusal.message).not.toMatch(
      /429|500|502|503|504|524|try again|overload|timed out|server error|rate.?limit/i,
    );
  });

  it("is never taken for a conversation that is too long", async () => {
    const { limiter } = replica();
    const refusals = [
      await refused(limiter, caller({ tokensPerMinute: 100 }), demand({ promptTokens: 5000 })),
      await granted(limiter, caller({ tokensPerMinute: 100 }, "k2")).then(() =>
        refused(limiter, caller({ tokensPerMinute: 100 }, "k2")),
      ),
      await granted(limiter, caller({ tokensPerDay: 100 }, "k3")).then(() =>
        refused(limiter, caller({ tokensPerDay: 100 }, "k3")),
      ),
    ];
    // opencode's provider/error.ts: what matches is answered by compacting and asking again.
    const overflow =
      /prompt is too long|input is too long|exceeds the context|input token count.*exceeds|maximum prompt length|reduce the length|maximum context length|exceeds the limit of|exceeds the available context|greater than the context|context window exceeds|exceeded model token limit|context[_ ]length[_ ]exceeded|too large|token limit|too many tokens/i;
    for (const { message } of refusals) expect(message).not.toMatch(overflow);
  });
});

describe("limits that change", () => {
  it("hold at once when they are raised or lowered, and what was used stays used", async () => {
    const { limiter } = replica();
    await granted(limiter, caller({ tokensPerDay: 1000 }), demand({ promptTokens: 900, outputTokens: 0 }));
    await refused(limiter, caller({ tokensPerDay: 1000 }), demand({ promptTokens: 200, outputTokens: 0 }));
    await granted(limiter, caller({ tokensPerDay: 2000 }), demand({ promptTokens: 200, outputTokens: 0 }));
    await refused(limiter, caller({ tokensPerDay: 1000 }), demand({ promptTokens: 1, outputTokens: 0 }));
    await granted(limiter, caller({}), demand({ promptTokens: 5000, outputTokens: 0 }));
    await granted(limiter, caller({ tokensPerDay: 2000 }), demand({ promptTokens: 900, outputTokens: 0 }));
    await refused(limiter, caller({ tokensPerDay: 2000 }), demand({ promptTokens: 1, outputTokens: 0 }));
  });

  it("take what is in hand with them: a lowered limit leaves no rest of the old one", async () => {
    const { limiter } = replica();
    const wide = caller({ requestsPerMinute: 60_000 });
    for (let turn = 0; turn < 300; turn++) {
      (await granted(limiter, wide)).settle(nothing);
      await pass(1);
    }
    expect(await count(500, limiter, caller({ requestsPerMinute: 5 }))).toBeLessThanOrEqual(5);
  });

  it("of places count the calls that are under way", async () => {
    const { limiter } = replica();
    const held: Reservation[] = [];
    for (let turn = 0; turn < 3; turn++) held.push(await granted(limiter, caller({ concurrent: 3 })));
    await refused(limiter, caller({ concurrent: 1 }));
    await granted(limiter, caller({}));
    for (const one of held.slice(1)) one.settle(nothing);
    await refused(limiter, caller({ concurrent: 1 }));
    held[0]!.settle(nothing);
    await granted(limiter, caller({ concurrent: 1 }));
    await pass(700_000);
    await refused(limiter, caller({ concurrent: 1 }));
  });
});

describe("while the state is away", () => {
  const principal = caller({ requestsPerMinute: 60 });

  it("limits hold for each replica by itself, from what was last known", async () => {
    const told: boolean[] = [];
    const [first, second] = [replica({ onState: (away) => told.push(away) }), replica()];
    for (let turn = 0; turn < 40; turn++) await granted(first!.limiter, principal);
    await pass(300);
    for (const { way } of [first!, second!]) way.breaks(new Error("gone"));
    expect(await count(100, first!.limiter, principal)).toBe(20);
    expect(await count(100, second!.limiter, principal)).toBe(60);
    expect(first!.limiter.local).toBe(true);
    expect(told).toEqual([true]);
    await pass(2000);
    expect(await count(100, first!.limiter, principal)).toBe(2);
  });

  it("a call waits a quarter of a second for it, and those after it not at all", async () => {
    const { limiter, way } = replica();
    way.hangs();
    let done = 0;
    void attempt(limiter, principal).then(() => done++);
    await pass(240);
    expect(done).toBe(0);
    await pass(15);
    expect(done).toBe(1);
    expect(limiter.reserve(principal, demand(), 0)).not.toBeInstanceOf(Promise);
  });

  it("callers with limits are refused after the grace, and others never", async () => {
    const { limiter, way } = replica({ grace: 5000 });
    way.breaks(new Error("gone"));
    await granted(limiter, principal);
    await pass(5100);
    const refusal = await refused(limiter, principal);
    expect(refusal.code).toBe("service_unavailable");
    expect(refusal.message).toContain("state.grace");
    await granted(limiter, caller({}, "free"));
    way.heals();
    await pass(1200);
    expect(limiter.local).toBe(false);
    await granted(limiter, principal);
  });

  it("with a grace of nothing, they are refused at once", async () => {
    const { limiter, way } = replica({ grace: 0 });
    way.hangs();
    const refusal = attempt(limiter, principal).catch((error: unknown) => error);
    await pass(260);
    expect(((await refusal) as ApiError).code).toBe("service_unavailable");
  });

  it("what is used is told when it is back", async () => {
    const told: boolean[] = [];
    const { limiter, way } = replica({ onState: (away) => told.push(away) });
    const quota = caller({ tokensPerDay: 10_000 });
    await granted(limiter, quota);
    await pass(400);
    way.breaks(new Error("gone"));
    expect(await count(20, limiter, quota)).toBe(20);
    const late = await granted(limiter, quota);
    await pass(3000);
    expect(store.level(tokensToday)).toBe(9900);
    way.heals();
    await pass(1200);
    expect(told).toEqual([true, false]);
    expect(store.level(tokensToday)).toBe(7800);
    late.settle({ tokens: 40, spend: 0 });
    await pass(500);
    expect(store.level(tokensToday)).toBe(7860);
  });

  it("what was owed when it went away is owed when it is back", async () => {
    const { limiter, way } = replica();
    const reservation = await granted(limiter, caller({ tokensPerDay: 10_000 }));
    await pass(400);
    way.breaks(new Error("gone"));
    reservation.settle({ tokens: 900, spend: 0 });
    await pass(2000);
    expect(limiter.local).toBe(true);
    way.heals();
    await pass(1200);
    expect(store.level(tokensToday)).toBe(9100);
  });

  it("what came back meanwhile is not owed: a bucket is as empty as the replica's own", async () => {
    const { limiter, way } = replica({ grace: 3_600_000 });
    way.breaks(new Error("gone"));
    for (let second = 0; second < 600; second++) {
      await count(5, limiter, principal);
      await pass(999);
    }
    way.heals();
    await pass(1300);
    // Ten minutes at one a second are no debt of 600.
    expect(store.level(perMinute)).toBeGreaterThan(-2);
    expect(store.level(perMinute)).toBeLessThan(5);
  });

  it("an answer that comes late after all counts once", async () => {
    const { limiter, way } = replica();
    const quota = caller({ tokensPerDay: 10_000 });
    way.hangs();
    const reservation = attempt(limiter, quota);
    await pass(300);
    (await reservation).settle({ tokens: 60, spend: 0 });
    way.heals();
    await pass(2000);
    expect(limiter.local).toBe(false);
    expect(store.level(tokensToday)).toBe(9940);
  });

  it("places are the replica's own, and shared again afterwards", async () => {
    const [first, second] = [replica(), replica()];
    const places = caller({ concurrent: 2 });
    const held = await granted(first!.limiter, places);
    await granted(second!.limiter, places);
    first!.way.breaks(new Error("gone"));
    await pass(200);
    const more = attempt(first!.limiter, places);
    await pass(1);
    (await more).settle(nothing);
    first!.way.heals();
    await pass(1200);
    expect(store.held("k1/concurrent")).toBe(2);
    await refused(first!.limiter, places);
    held.settle(nothing);
    await granted(first!.limiter, places);
  });
});
