import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { AgentSession } from "../../src/core/agent-session.ts";
import { silent } from "../../src/core/log.ts";
import { RedisAgentDirectory } from "../../src/state/redis/agent-directory.ts";
import { RedisConnection } from "../../src/state/redis/connection.ts";
import { redisMissing, type RedisServer, startRedis } from "../support/redis.ts";
import { waitUntil } from "../support/tunnel-log.ts";

const missing = redisMissing();
if (missing !== undefined) console.warn(`Tests of the directory of agents in Redis are skipped: ${missing}.`);

/** A relay as the directory knows it. */
interface Relay {
  readonly directory: RedisAgentDirectory;
  readonly connection: RedisConnection;
  /** What it has; `touch` follows. */
  own: AgentSession[];
  /** Milliseconds by which its clock is ahead. */
  ahead: number;
  /** What it knew after each change. */
  readonly history: string[][];
}

let redis: RedisServer;
const opened: Relay[] = [];
beforeEach(async () => {
  if (missing === undefined) redis = await startRedis();
});
afterEach(async () => {
  for (const { directory, connection } of opened.splice(0)) {
    await directory.close();
    await connection.close();
  }
  if (missing === undefined) await redis.close();
});

async function relay(id: string): Promise<Relay> {
  const connection = await RedisConnection.open(redis.url, { log: silent, replica: id });
  const directory = new RedisAgentDirectory(connection, silent, () => performance.now() + one.ahead);
  const one: Relay = { directory, connection, own: [], ahead: 0, history: [] };
  directory.open(
    id,
    () => one.own,
    () => void one.history.push(seen(one)),
  );
  opened.push(one);
  return one;
}

function session(relayId: string, agent: string, more: Partial<AgentSession> = {}): AgentSession {
  const who = { id: `${relayId}/${agent}/instance-1`, relay: relayId, agent, instance: "instance-1", keyId: "k1" };
  const where = { url: "http://127.0.0.1:1", version: "1.0.0", address: "192.0.2.1", since: 1 };
  return { ...who, ...where, epoch: 1, ready: true, capacity: 4, inFlight: 0, models: [{ id: "demo" }], ...more };
}

function has(one: Relay, own: AgentSession[]): void {
  one.own = own;
  one.directory.touch();
}

/** Of two agents of `b`, `a` hears 5 s apart. */
async function tellApart(a: Relay, b: Relay): Promise<void> {
  has(b, [session("b", "early")]);
  await until(a, "b/early/instance-1");
  a.ahead = 5000;
  has(b, [...b.own, session("b", "late")]);
  await until(a, "b/early/instance-1", "b/late/instance-1");
}

const seen = ({ directory }: Relay): string[] => [...directory.sessions.keys()].toSorted();
const until = (one: Relay, ...ids: string[]): Promise<void> =>
  waitUntil(() => seen(one).join() === ids.toSorted().join(), `it knows ${ids.join()}`);

describe.skipIf(missing !== undefined)("the directory in Redis", () => {
  test("tells of agents that come, change and go, and not of one's own", async () => {
    const [a, b] = [await relay("a"), await relay("b")];
    has(b, [session("b", "home"), session("b", "work")]);
    await until(a, "b/home/instance-1", "b/work/instance-1");
    expect(a.directory.sessions.get("b/home/instance-1")).toEqual(session("b", "home"));
    expect(seen(b)).toEqual([]);
    has(b, [session("b", "home", { epoch: 2, ready: false })]);
    await until(a, "b/home/instance-1");
    await waitUntil(() => a.directory.sessions.get("b/home/instance-1")?.ready === false, "it is not ready");
  });

  test("is read whole by a relay that starts later", async () => {
    const b = await relay("b");
    const many = Array.from({ length: 450 }, (_, at) => session("b", `home-${at}`));
    has(b, many);
    await waitUntil(async () => Number(await redis.cli("HLEN", "{lair}:agents")) === 450, "all are written");
    await until(await relay("a"), ...many.map(({ id }) => id));
  });

  test("is left by a relay that closes, and nothing stays in Redis for long", async () => {
    const [a, b] = [await relay("a"), await relay("b")];
    has(b, [session("b", "home")]);
    await until(a, "b/home/instance-1");
    expect(Number(await redis.cli("PTTL", "{lair}:agents"))).toBeGreaterThan(0);
    await b.directory.close();
    await until(a);
    expect(await redis.cli("HLEN", "{lair}:agents")).toBe("0");
  });

  test("forgets a relay that is silent for 15 s, in memory and in Redis", async () => {
    const [a, b] = [await relay("a"), await relay("b")];
    await tellApart(a, b);
    // As a process that is killed: it says nothing more, and takes nothing out.
    await b.connection.close();
    a.ahead = 16_000;
    await until(a, "b/late/instance-1");
    a.ahead = 22_000;
    await until(a);
    await redis.cli("ZADD", "{lair}:agents:ends", "1", "b/early/instance-1");
    await waitUntil(async () => (await redis.cli("HLEN", "{lair}:agents")) === "1", "the entry is out of Redis");
  });

  test("keeps an agent as long as its relay says every few seconds that it is there, and how busy", async () => {
    const [a, b, c] = [await relay("a"), await relay("b"), await relay("c")];
    has(b, [session("b", "home")]);
    has(c, [session("c", "work")]);
    await until(a, "b/home/instance-1", "c/work/instance-1");
    await c.connection.close();
    a.ahead = 10_000;
    b.own = [session("b", "home", { inFlight: 3 })];
    await waitUntil(() => a.directory.sessions.get("b/home/instance-1")?.inFlight === 3, "a word of b");
    a.history.length = 0;
    a.ahead = 17_000;
    await until(a, "b/home/instance-1");
    expect(a.history.filter((ids) => !ids.includes("b/home/instance-1"))).toEqual([]);
  });

  test("believes what it knew for 30 s while Redis is away, and hears of all when it is back, empty", async () => {
    const [a, b] = [await relay("a"), await relay("b")];
    await tellApart(a, b);
    await redis.kill();
    await waitUntil(() => !a.connection.health().ok, "Redis is missed");
    a.ahead = 31_000;
    await until(a, "b/late/instance-1");
    a.ahead = 37_000;
    await until(a);
    await redis.start();
    await until(a, "b/early/instance-1", "b/late/instance-1");
  });

  test("takes out what another relay says is gone only if it has not changed since, and its own puts it back", async () => {
    const [a, b, c] = [await relay("a"), await relay("b"), await relay("c")];
    has(b, [session("b", "home")]);
    await until(a, "b/home/instance-1");
    await until(c, "b/home/instance-1");
    a.directory.drop([session("b", "home", { epoch: 7 })]);
    await a.directory.reread();
    expect(seen(a)).toEqual(["b/home/instance-1"]);
    a.directory.drop([session("b", "home")]);
    expect(seen(a)).toEqual([]);
    await until(c);
    // With its next beat.
    await Promise.all([until(a, "b/home/instance-1"), until(c, "b/home/instance-1")]);
  });

  test("is not misled by what is no session, or is one of another relay", async () => {
    const a = await relay("a");
    const entries = {
      "b/home/instance-1": "1 {",
      "b/work/instance-1": `1 ${JSON.stringify(session("b", "home"))}`,
      "b/play/instance-1": `1 ${JSON.stringify(session("b", "play", { url: "file:///etc/passwd" }))}`,
      "b/rest/instance-1": `1 ${JSON.stringify({ ...session("b", "rest"), models: "demo" })}`,
      "b/good/instance-1": `1 ${JSON.stringify(session("b", "good"))}`,
    };
    for (const [id, entry] of Object.entries(entries)) {
      await redis.cli("HSET", "{lair}:agents", id, entry);
      await redis.cli("ZADD", "{lair}:agents:ends", "9999999999999", id);
    }
    for (const text of ["", "{", "[]", '{"relay":1}', '{"relay":"b","told":[1],"gone":2,"all":[[1]]}'])
      await redis.cli("PUBLISH", "{lair}:agents:told", text);
    await a.directory.reread();
    await until(a, "b/good/instance-1");
  });

  test("makes nobody wait while Redis is frozen", async () => {
    const [a, b] = [await relay("a"), await relay("b")];
    has(b, [session("b", "home")]);
    await until(a, "b/home/instance-1");
    redis.freeze();
    try {
      await a.directory.reread();
      a.directory.drop([session("b", "home", { epoch: 7 })]);
      has(a, [session("a", "near")]);
      await waitUntil(() => !a.connection.health().ok, "Redis is missed");
      await a.directory.reread();
    } finally {
      redis.thaw();
    }
    await until(b, "a/near/instance-1");
    await until(a, "b/home/instance-1");
  });
});
