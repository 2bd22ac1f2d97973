import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { CallerLimits, Principal } from "../../src/core/access.ts";
import type { Demand } from "../../src/core/demand.ts";
import { ApiError } from "../../src/core/errors.ts";
import { silent } from "../../src/core/log.ts";
import { createLimiter, type LeasingLimiter } from "../../src/limits/create-limiter.ts";
import type { Reservation } from "../../src/limits/limiter.ts";
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

/** Lets so many milliseconds pass, one after the other, with everything that they bring. */
async function pass(milliseconds: number): Promise<void> {
  for (let passed = 0; passed <= milliseconds; passed++) {
    vi.advanceTimersByTime(passed === 0 ? 0 : 1);
    for (let turn = 0; turn < 12; turn++) await undefined;
  }
}

/** The reservation or the refusal, once it is known. */
async function ask(...[limiter, principal, asked = demand(), spend = 0]: Asking): Promise<Reservation | ApiError> {
  const result = attempt(limiter, principal, asked, spend).catch((error: unknown) => {
    if (error instanceof ApiError) return error;
    throw error;
  });
  await pass(0);
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

describe("a limit over several replicas", () => {
  it("grants exactly what there is, to one request, under five hundred a second", async () => {
    const replicas = [replica(), replica(), replica()];
    for (const { way } of replicas) way.latency = 4;
    const principal = caller({ requestsPerMinute: 6000 });
    let taken = 0;
    // 30 s at 500 a second, against 100 a second and a full bucket of 6000.
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
});
