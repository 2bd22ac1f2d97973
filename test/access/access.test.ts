import type * as Crypto from "node:crypto";
import { timingSafeEqual } from "node:crypto";
import { describe, expect, test, vi } from "vitest";
import { access, type AccessSettings } from "../../src/access/access.ts";
import { newKey, revokedKey } from "../../src/access/issue.ts";
import { KeyRing } from "../../src/access/key-ring.ts";
import type { ByteSink, ByteStream } from "../../src/core/bytes.ts";
import { Call, type Headers, jsonReply, type Reply } from "../../src/core/call.ts";
import { Departure } from "../../src/core/departure.ts";
import { ApiError } from "../../src/core/errors.ts";
import { type Log, silent } from "../../src/core/log.ts";
import { MemoryKeys } from "../support/memory-keys.ts";

vi.mock("node:crypto", async (original) => {
  const crypto = await original<typeof Crypto>();
  return { ...crypto, timingSafeEqual: vi.fn(crypto.timingSafeEqual) };
});

interface Ask {
  path?: string;
  method?: string;
  headers?: Headers;
  body?: string | ByteStream;
  address?: string;
}

interface Answer {
  status: number;
  error: ApiError | undefined;
  call: Call;
}

function desk(settings: Partial<AccessSettings>): (ask: Ask) => Promise<Answer> {
  const middleware = access({ tokens: [], adminTokens: [], callerLimits: {}, log: silent, ...settings });
  return async ({ path = "/v1/models", method = "GET", headers = {}, body, address = "192.0.2.1" }) => {
    const call = new Call({
      id: "id",
      method,
      path,
      headers,
      address,
      signal: new Departure(),
      ...(body === undefined ? {} : { body: typeof body === "string" ? Buffer.from(body) : body }),
    });
    try {
      const reply: Reply = await middleware(call, () => Promise.resolve(jsonReply(200, {})));
      return { status: reply.status, error: undefined, call };
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      return { status: error.status, error, call };
    }
  };
}

const bearer = (key: string): { headers: Headers } => ({ headers: { authorization: `Bearer ${key}` } });

async function ringOf(keys: MemoryKeys): Promise<KeyRing> {
  return KeyRing.open(keys.asState(), silent);
}

describe("what a caller may ask for", () => {
  const paths = [
    "/v1/models",
    "/v1/chat/completions",
    "/version",
    "/nothing",
    "/metrics",
    "/metrics/",
    "/admin",
    "/admin/keys",
    "/admin/agents",
  ];
  const models = paths.slice(0, 4);
  const metrics = paths.slice(4, 6);
  const keys = new MemoryKeys();
  const now = Date.now();
  const made = {
    inference: newKey({ name: "inference" }, now),
    metrics: newKey({ name: "metrics", roles: ["metrics"] }, now),
    admin: newKey({ name: "admin", roles: ["admin"] }, now),
    all: newKey({ name: "all", roles: ["admin", "inference"] }, now),
  };

  test.each([
    ["a token", "caller-token-of-20-chars", models],
    ["an admin's token", "admins-token-of-20-chars", paths],
    ["a key for models", made.inference.text, models],
    ["a key for metrics", made.metrics.text, metrics],
    ["a key of an admin", made.admin.text, paths.slice(4)],
    ["a key with both roles", made.all.text, paths],
  ])("with %s", async (_name, text, allowed) => {
    if (keys.watch !== undefined && (await keys.find("all")) === undefined)
      await keys.insert(Object.values(made).map(({ record }) => record));
    const ring = await ringOf(keys);
    const ask = desk({ ring, tokens: ["caller-token-of-20-chars"], adminTokens: ["admins-token-of-20-chars"] });
    for (const path of paths) {
      const { status, error } = await ask({ path, ...bearer(text) });
      expect([path, status]).toEqual([path, allowed.includes(path) ? 200 : 403]);
      if (status === 403) expect(error?.code).toBe("insufficient_scope");
    }
    ring.close();
  });

  test("is health and readiness without any key, and with a wrong one", async () => {
    const ask = desk({ tokens: ["caller-token-of-20-chars"] });
    for (const path of ["/health", "/ready"]) {
      expect((await ask({ path })).status).toBe(200);
      const { status, call } = await ask({ path, ...bearer("wrong") });
      expect([status, call.headers]).toEqual([200, {}]);
    }
  });

  test("is anything where no key is configured, until there is the first one, and not again after the last", async () => {
    const store = new MemoryKeys();
    const ring = await ringOf(store);
    const ask = desk({ ring, callerLimits: { concurrent: 2 } });
    const { status, call } = await ask({ path: "/admin/agents", ...bearer("anything") });
    expect(status).toBe(200);
    expect(call.principal).toMatchObject({ id: "", limits: { concurrent: 2 } });
    const { record, text } = newKey({ name: "first" }, Date.now());
    await store.insert([record]);
    await ring.refresh();
    expect((await ask({})).status).toBe(401);
    expect((await ask(bearer(text))).status).toBe(200);
    await store.change("first", (key) => revokedKey(key, Date.now()));
    await ring.refresh();
    expect((await ask(bearer(text))).status).toBe(401);
    expect((await ask({})).status).toBe(401);
    ring.close();
  });

  test("has the limits of its key, else the configured ones", async () => {
    const store = new MemoryKeys();
    const own = newKey({ name: "own", limits: { tokensPerDay: 5 } }, Date.now());
    const bare = newKey({ name: "bare" }, Date.now());
    await store.insert([own.record, bare.record]);
    const ring = await ringOf(store);
    const ask = desk({ ring, tokens: ["caller-token-of-20-chars"], callerLimits: { concurrent: 2 } });
    expect((await ask(bearer(own.text))).call.principal?.limits).toEqual({ tokensPerDay: 5 });
    expect((await ask(bearer(bare.text))).call.principal?.limits).toEqual({ concurrent: 2 });
    expect((await ask(bearer("caller-token-of-20-chars"))).call.principal).toMatchObject({
      id: "token-1",
      limits: { concurrent: 2 },
    });
    ring.close();
  });
});

test("bodies that may hold a key are read for a bounded number of strangers at a time; who shows his key elsewhere never waits", async () => {
  const ask = desk({ tokens: ["caller-token-of-20-chars"] });
  const sinks: ByteSink[] = [];
  const body: ByteStream = { start: (sink) => void sinks.push(sink), resume: () => undefined, cancel: () => undefined };
  const question = { path: "/v1/chat/completions", method: "POST", body };
  // Of unknown length, so each counts as the largest that is let in: 64 MB.
  const waiting = [1, 2, 3, 4].map(() => ask(question));
  expect((await ask(question)).error?.code).toBe("service_unavailable");
  expect((await ask({ ...question, headers: { "content-length": "100" } })).error?.code).toBe("service_unavailable");
  expect((await ask({ ...question, ...bearer("caller-token-of-20-chars") })).status).toBe(200);
  sinks[0]?.write('{"api_key":"caller-token-of-20-chars"}');
  sinks[0]?.end();
  sinks[1]?.fail(new ApiError("client_closed_request", "gone"));
  expect((await waiting[0])?.status).toBe(200);
  expect((await waiting[1])?.error?.code).toBe("client_closed_request");
  const next = ask(question);
  sinks.at(-1)?.write("{}");
  for (const sink of sinks.slice(2)) sink.end();
  expect((await next).error?.code).toBe("invalid_api_key");
  await Promise.all(waiting);
});

describe("whoever shows a key that does not work", () => {
  test("learns nothing else: unknown, expired and revoked ones get the same answer by the same comparisons", async () => {
    const store = new MemoryKeys();
    const now = Date.now();
    const good = newKey({ name: "good" }, now);
    const expired = newKey({ name: "expired", expires: now - 1 }, now);
    const revoked = newKey({ name: "revoked" }, now);
    await store.insert([good.record, expired.record, revokedKey(revoked.record, now)]);
    const ring = await ringOf(store);
    const tokens = ["token-one-of-20-characters", "token-two-of-20-characters"];
    const answers: string[] = [];
    const compared: number[] = [];
    for (const text of [
      expired.text,
      revoked.text,
      newKey({ name: "x" }, now).text,
      "guess",
      `${tokens[0]}x`,
      good.text,
      tokens[0] as string,
    ]) {
      vi.mocked(timingSafeEqual).mockClear();
      const { status, error } = await desk({ ring, tokens, adminTokens: ["an-admins-of-20-characters"] })(bearer(text));
      compared.push(vi.mocked(timingSafeEqual).mock.calls.length);
      answers.push(JSON.stringify([status, error?.toJson(), error?.headers, error?.retryAfter]));
    }
    expect(compared).toEqual(compared.map(() => 4));
    expect(new Set(answers.slice(0, 5)).size).toBe(1);
    expect(answers[0]).toContain("401");
    expect(answers.slice(5)).toEqual(["[200,null,null,null]", "[200,null,null,null]"]);
    ring.close();
  });
});

describe("an address that shows wrong keys", () => {
  const token = "a-token-of-at-least-20";
  const wrong = bearer("wrong");
  const guess = async (
    ask: (question: Ask) => Promise<Answer>,
    times: number,
    question: Ask = wrong,
  ): Promise<number[]> => {
    const statuses: number[] = [];
    for (let time = 0; time < times; time++) statuses.push((await ask(question)).status);
    return statuses;
  };

  test("is not listened to after the tenth, and is told when it will be", async () => {
    const lines: object[] = [];
    const log: Log = { ...silent, warn: (fields) => void lines.push(fields) };
    const ask = desk({ tokens: [token, "short"], log });
    expect(await guess(ask, 12)).toEqual([...Array<number>(10).fill(401), 429, 429]);
    const { error } = await ask(wrong);
    expect(error?.code).toBe("rate_limit_exceeded");
    expect(error?.retryAfter).toBeGreaterThan(0);
    expect(lines).toEqual([{ address: "192.0.2.1", path: "/v1/models" }]);
    // A key that could be guessed is not looked at, right or wrong.
    expect((await ask(bearer("short"))).status).toBe(429);
    expect((await ask({ path: "/v1/chat/completions", method: "POST", body: '{"api_key":"short"}' })).status).toBe(429);
  });

  test("keeps nobody else out: neither other addresses, nor those behind it whose key cannot be guessed", async () => {
    const ask = desk({ tokens: [token, "short"] });
    await guess(ask, 30);
    expect((await ask({ ...bearer("short"), address: "192.0.2.2" })).status).toBe(200);
    expect((await ask(bearer(token))).status).toBe(200);
    expect((await ask({ path: "/health" })).status).toBe(200);
    // Without any key nothing was guessed.
    expect((await ask({})).status).toBe(401);
    // A long key that is wrong is told from a right one by nothing but the right one's answer.
    expect((await ask(bearer(`${token}x`))).status).toBe(429);
  });

  test("is a whole /64 of IPv6, and one address of IPv4 however it is written", async () => {
    const ask = desk({ tokens: [token] });
    for (let host = 1; host <= 10; host++) await ask({ ...wrong, address: `2001:db8:1:2::${host}` });
    expect((await ask({ ...wrong, address: "2001:db8:1:2:ffff::1" })).status).toBe(429);
    expect((await ask({ ...wrong, address: "2001:db8:1:3::1" })).status).toBe(401);
    await guess(ask, 10, { ...wrong, address: "::ffff:192.0.2.9" });
    expect((await ask({ ...wrong, address: "192.0.2.9" })).status).toBe(429);
  });

  test("is the caller's where a trusted front tells it, and the front's own else", async () => {
    const ask = desk({ tokens: [token], trustedProxies: ["10.0.0.0/8", "fd00::1"] });
    const through = (peer: string, told: string): Ask => ({
      headers: { authorization: "Bearer wrong", "x-forwarded-for": told },
      address: peer,
    });
    expect(await guess(ask, 11, through("10.0.0.1", "203.0.113.1"))).toContain(429);
    expect((await ask(through("fd00::1", "203.0.113.1, 10.2.3.4"))).status).toBe(429);
    // What a caller writes itself stands further left.
    expect((await ask(through("10.0.0.1", "203.0.113.1, 203.0.113.2:4711"))).status).toBe(401);
    // Whoever is no front may say what he wants.
    for (let last = 1; last <= 10; last++) await ask(through("198.51.100.1", `203.0.113.${last + 100}`));
    expect((await ask(through("198.51.100.1", "203.0.113.200"))).status).toBe(429);
    expect(() => desk({ trustedProxies: ["10.0.0.0/33"] })).toThrow(/10\.0\.0\.0\/33/);
    expect(() => desk({ trustedProxies: ["front.example"] })).toThrow(/front\.example/);
  });
});
