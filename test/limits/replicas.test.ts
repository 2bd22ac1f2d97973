import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from "vitest";
import type { CallerLimits, Principal } from "../../src/core/access.ts";
import type { Demand } from "../../src/core/demand.ts";
import { ApiError } from "../../src/core/errors.ts";
import { silent } from "../../src/core/log.ts";
import { createLimiter, type LeasingLimiter } from "../../src/limits/create-limiter.ts";
import type { Reservation } from "../../src/limits/limiter.ts";
import { openState } from "../../src/open-state.ts";
import type { State } from "../../src/state/state.ts";
import { seeded } from "../support/bytes.ts";
import { redisMissing, type RedisServer, startRedis } from "../support/redis.ts";

const missing = redisMissing();
if (missing !== undefined) process.stdout.write(`limits over Redis are not tested: ${missing}\n`);

const opened: { limiter: LeasingLimiter; state: State }[] = [];
afterEach(async () => {
  for (const { limiter } of opened) await limiter.close();
  for (const { state } of opened.splice(0)) await state.close();
});

async function replica(url: string, grace = 60_000): Promise<LeasingLimiter> {
  const name = `replica-${opened.length}`;
  const state = await openState(url, { log: silent, replica: name });
  const limiter = createLimiter({ meters: state.meters, replica: name, grace, log: silent });
  opened.push({ limiter, state });
  return limiter;
}

function caller(id: string, limits: CallerLimits): Principal {
  return { id, name: id, roles: new Set(["inference"] as const), limits };
}

function demand(promptTokens: number, outputTokens: number): Demand {
  return {
    endpoint: "/v1/chat/completions",
    model: "m",
    streamed: false,
    promptTokens,
    outputTokens,
    tools: false,
    images: false,
  };
}

/** Undefined: it was refused. */
async function attempt(
  limiter: LeasingLimiter,
  principal: Principal,
  asked = demand(1, 0),
): Promise<Reservation | undefined> {
  try {
    return await limiter.reserve(principal, asked, 0);
  } catch (error) {
    if (error instanceof ApiError) return undefined;
    throw error;
  }
}

/** Lets the event loop turn once. */
function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

/** What two stores have in common: limits are kept by several replicas at a time. */
function sharedLimits(url: () => string): void {
  it("a quota is granted to the last token, and never more", async () => {
    const replicas = [await replica(url()), await replica(url()), await replica(url())];
    const principal = caller("quota", { tokensPerDay: 20_000 });
    const random = seeded(3);
    let granted = 0;
    let refused = 0;
    for (let round = 0; round < 300; round++) {
      const calls = Array.from({ length: 10 }, async () => {
        const tokens = 1 + Math.floor(random() * 9);
        const reservation = await attempt(replicas[Math.floor(random() * 3)]!, principal, demand(tokens, 3));
        if (reservation === undefined) refused++;
        else granted += tokens;
        await turn();
        reservation?.settle({ tokens, spend: 0 });
      });
      await Promise.all(calls);
    }
    expect(refused).toBe(0);
    // What lies idle has gone back when all of it can be had by one.
    await vi.waitFor(async () => {
      const rest = await attempt(replicas[0]!, principal, demand(20_000 - granted, 0));
      expect(rest).toBeDefined();
    });
    for (const limiter of replicas) expect(await attempt(limiter, principal)).toBeUndefined();
  });

  it("a bucket gives what it holds and what comes back, to one percent and never more", async () => {
    const replicas = [await replica(url()), await replica(url())];
    const principal = caller("bucket", { requestsPerMinute: 3000 });
    const began = performance.now();
    let granted = 0;
    let last = began;
    for (let calls = 0; performance.now() - began < 2500; calls++) {
      if ((await attempt(replicas[calls % 2]!, principal)) !== undefined) {
        granted++;
        last = performance.now();
      }
      await turn();
    }
    const passed = (performance.now() - began) / 1000;
    expect(granted).toBeLessThanOrEqual(3000 + passed * 50 + 1);
    expect(granted).toBeGreaterThanOrEqual(0.99 * (3000 + ((last - began) / 1000) * 50));
  });

  it("places are held by all together", async () => {
    const replicas = [await replica(url()), await replica(url())];
    const principal = caller("places", { concurrent: 5 });
    const held = await Promise.all(Array.from({ length: 12 }, (_, at) => attempt(replicas[at % 2]!, principal)));
    const inHand = held.filter((one) => one !== undefined);
    expect(inHand.length).toBeLessThanOrEqual(5);
    await vi.waitFor(async () => {
      for (const limiter of replicas) {
        const one = await attempt(limiter, principal);
        if (one !== undefined) inHand.push(one);
      }
      expect(inHand.length).toBe(5);
    });
    for (const one of inHand) one.settle({ tokens: 0, spend: 0 });
    await vi.waitFor(async () => expect(await attempt(replicas[1]!, principal)).toBeDefined());
  });
}

describe("over an SQLite file", () => {
  let folder: string;
  beforeAll(() => {
    folder = mkdtempSync(path.join(tmpdir(), "lair-limits-"));
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true, maxRetries: 5 }));
  sharedLimits(() => path.join(folder, "state.db"));
});

describe.skipIf(missing !== undefined)("over Redis", () => {
  let server: RedisServer;
  beforeAll(async () => {
    server = await startRedis({ persistence: "append" });
  });
  afterAll(() => server.close());
  sharedLimits(() => server.url);

  it("does not take a long turn of its own process for the state's silence", async () => {
    const limiter = await replica(server.url);
    const reservation = attempt(limiter, caller("stalled", { tokensPerDay: 10_000 }));
    await turn();
    await turn();
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 400);
    expect(await reservation).toBeDefined();
    expect(limiter.local).toBe(false);
  });

  it("goes on by itself while Redis is away, and tells what was used when it is back", async () => {
    const [first, second] = [await replica(server.url), await replica(server.url)];
    const principal = caller("away", { tokensPerDay: 10_000 });
    expect(await attempt(first!, principal, demand(1000, 0))).toBeDefined();
    await server.stop();
    for (let calls = 0; calls < 30; calls++) expect(await attempt(first!, principal, demand(100, 0))).toBeDefined();
    expect(first!.local).toBe(true);
    await server.start();
    await vi.waitFor(() => expect(first!.local).toBe(false), { timeout: 10_000, interval: 100 });
    // 1000 and 3000 are used: of 10 000, the other has 6000 and not a token more.
    await vi.waitFor(
      async () => {
        const whole = await attempt(second!, principal, demand(6000, 0));
        expect(whole).toBeDefined();
      },
      { timeout: 10_000, interval: 100 },
    );
    expect(await attempt(second!, principal)).toBeUndefined();
  });
});
