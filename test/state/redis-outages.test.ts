import { spawn } from "node:child_process";
import { once } from "node:events";
import path from "node:path";
import { isDeepStrictEqual } from "node:util";
import { afterEach, describe, expect, it } from "vitest";
import { openState } from "../../src/open-state.ts";
import { RedisConnection } from "../../src/state/redis/connection.ts";
import { type KeyRecord, type State, StateError } from "../../src/state/state.ts";
import { redisMissing, type RedisOptions, type RedisServer, startRedis } from "../support/redis.ts";
import { type CutLine, startCutLine } from "../support/tunnel-lines.ts";
import { type KeptLog, keptLog, waitUntil } from "../support/tunnel-log.ts";
import { someKey, someRecord } from "./contract.ts";

const missing = redisMissing();
if (missing !== undefined) process.stdout.write(`outages of Redis are not tested: ${missing}\n`);

describe.skipIf(missing !== undefined)("when Redis", () => {
  const closing: (() => Promise<void>)[] = [];
  let server: RedisServer;
  let log: KeptLog;
  afterEach(async () => {
    for (const close of closing.splice(0).toReversed()) await close();
  });
  const begin = async (options?: RedisOptions): Promise<State> => {
    server = await startRedis(options);
    closing.push(() => server.close());
    log = keptLog();
    return open();
  };
  const open = async (url = server.url): Promise<State> => {
    const state = await openState(url, { log, replica: `replica-${closing.length}` });
    closing.push(() => state.close());
    return state;
  };

  /** How many hear of changes. */
  const listeners = async (): Promise<number> => Number((await server.cli("pubsub", "numsub", channel)).split("\n")[1]);

  it("is killed, everything asked fails at once and says so; when it is back all goes on, and nothing is lost", async () => {
    const state = await begin({ persistence: "append" });
    const key = someKey();
    await state.keys.insert([key]);
    const batch = { writer: "journal", sequence: 1, records: [someRecord(), someRecord()] };
    await state.usage.add(batch);
    await server.kill();
    await expect(state.keys.since(0)).rejects.toThrow(StateError);
    await waitUntil(() => !state.health().ok);
    const { problem, since } = state.health();
    expect(problem).toMatch(/^Redis at redis:\/\/127\.0\.0\.1:\d+ (cannot be reached|went away)/);
    expect(problem).not.toContain(server.password);
    expect(since).toBeLessThanOrEqual(Date.now());
    const meter = { id: "m", capacity: 1, refill: 0, expires: Date.now() + 60_000 };
    await expect(state.meters.exchange([{ meter, give: 0, want: 1, least: 1 }])).rejects.toThrow(StateError);
    await expect(state.usage.add({ ...batch, sequence: 2 })).rejects.toThrow(StateError);
    await server.start();
    await waitUntil(() => state.health().ok);
    expect((await state.keys.since(0)).keys).toEqual([key]);
    expect(await state.usage.add(batch)).toBe(false);
    expect(await state.usage.add({ ...batch, sequence: 2 })).toBe(true);
    expect((await state.usage.sums({ from: "2000-01-01", to: "2100-01-01", by: [] }))[0]!.requests).toBe(4);
    expect(log.lines.join("\n")).not.toContain(server.password);
    expect(log.lines.join("\n")).not.toMatch(/has lost what it held/);
  });

  it("is frozen, what is under way fails and so does what comes after, until it goes on", async () => {
    const state = await begin();
    server.freeze();
    const asked = Array.from({ length: 50 }, () => state.documents.read("d"));
    for (const end of await Promise.allSettled(asked)) expect(end).toMatchObject({ status: "rejected" });
    expect(state.health()).toMatchObject({ ok: false, problem: expect.stringMatching(/does not answer|went away/) });
    await expect(state.documents.read("d")).rejects.toThrow(StateError);
    server.thaw();
    await waitUntil(() => state.health().ok);
    expect(await state.documents.change("d", () => "again")).toBe("again");
  });

  it("is frozen while nobody asks anything, health says so all the same", async () => {
    const state = await begin();
    server.freeze();
    await waitUntil(() => !state.health().ok);
    server.thaw();
  });

  it("has answered while this program was busy for long, the answer counts", async () => {
    await begin();
    const connection = await RedisConnection.open(server.url, { log, replica: "busy" });
    closing.push(() => connection.close());
    const before = connection.health();
    const busy = (length: number): void => {
      for (const end = performance.now() + length; performance.now() < end;);
    };
    // The connection is looked at between the two, and nothing has come since when it is looked at again.
    busy(600);
    await new Promise((resolve) => setTimeout(resolve, 1));
    // From here on the clock is looked at first, and what has come only then.
    await new Promise((resolve) => setImmediate(resolve));
    const asked = connection.command(["PING"]);
    busy(1500);
    expect(await asked).toBe("PONG");
    expect(connection.health()).toEqual(before);
  });

  it("was away, who watches is told of what others changed meanwhile", async () => {
    const state = await begin({ persistence: "append" });
    const [key, doc] = [someKey(), "agents"];
    await state.keys.insert([key]);
    await state.documents.change(doc, () => "one");
    let { revision } = await state.keys.since(0);
    let revoked: KeyRecord | undefined;
    const stop = state.keys.watch(() => {
      void state.keys.since(revision).then((news) => {
        revision = news.revision;
        revoked = news.keys.find((held) => held.revoked !== undefined) ?? revoked;
      });
    });
    let documents = 0;
    state.documents.watch(doc, () => documents++);
    await server.kill();
    await waitUntil(() => !state.health().ok);
    await server.start();
    const other = await open();
    await other.keys.change(key.id, (held) => ({ ...held, revoked: 5 }));
    await other.documents.change(doc, () => "two");
    await waitUntil(() => revoked?.revoked === 5 && documents > 0);
    stop();
  });

  it("was changed between the reading and the watching, who watches is told", async () => {
    const state = await begin();
    const other = await open();
    await state.keys.since(0);
    await other.keys.insert([someKey()]);
    // The look that finds this has found the key, too.
    const looked = new Promise<void>((resolve) => state.documents.watch("d", resolve));
    await other.documents.change("d", () => "text");
    await looked;
    await new Promise<void>((resolve) => state.keys.watch(resolve));
  });

  it("loses the connection that messages come by, changes are seen nevertheless", async () => {
    const state = await begin();
    const other = await open();
    let told = 0;
    state.keys.watch(() => told++);
    await waitUntil(async () => (await server.cli("pubsub", "channels")) !== "");
    await server.cli("client", "kill", "type", "pubsub");
    await other.keys.insert([someKey()]);
    await waitUntil(() => told > 0);
    await waitUntil(async () => (await server.cli("pubsub", "channels")) !== "");
  });

  it("has forgotten everything, keys and documents are put back by those who know them, the latest of each", async () => {
    const first = await begin();
    const second = await open();
    const [kept, changed, revokedKey] = [someKey(), someKey(), someKey()];
    await first.keys.insert([kept, changed, revokedKey]);
    await first.documents.change("agents", () => "a list");
    const ring = await first.keys.since(0);
    // Only the second knows of these.
    const renamed = await second.keys.change(changed.id, (held) => ({ ...held, name: "renamed" }));
    const revoked = await second.keys.change(revokedKey.id, (held) => ({ ...held, revoked: 7 }));
    const told = new Promise<void>((resolve) => {
      first.keys.watch(resolve);
    });
    await server.kill();
    await waitUntil(() => !first.health().ok && !second.health().ok);
    await server.start();
    await told;
    await waitUntil(() => first.health().ok && second.health().ok);
    const fresh = await open();
    const expected = byId([kept, renamed!, revoked!]);
    await waitUntil(async () => (await fresh.keys.find("renamed")) !== undefined);
    await waitUntil(async () => (await fresh.keys.find(revokedKey.id))?.revoked === 7);
    expect(byId((await fresh.keys.since(0)).keys)).toEqual(expected);
    expect(await fresh.keys.find(kept.name)).toEqual(kept);
    expect(await fresh.keys.find(changed.name)).toBeUndefined();
    // One who goes on from where it was gets them all.
    expect(byId((await first.keys.since(ring.revision)).keys)).toEqual(expected);
    expect(await fresh.documents.read("agents")).toBe("a list");
    expect(first.health().problem).toMatch(/has lost what it held; keys were put back: let it save/);
    await log.until(/^error Redis has lost what it held.*put back \d+ keys and documents/);
    await expect(fresh.keys.insert([someKey({ name: kept.name })])).rejects.toThrow(kept.name);
  });

  it("has forgotten everything, and several put it back at once, the latest form of each key remains", async () => {
    const states = [await begin(), await open(), await open(), await open()];
    const keys = Array.from({ length: 80 }, () => someKey());
    await states[0]!.keys.insert(keys);
    for (const state of states) await state.keys.since(0);
    const latest = await Promise.all(
      keys.map(({ id }, turn) => {
        const news = turn % 3 === 0 ? { revoked: turn } : { name: `renamed ${turn}` };
        return states[turn % 4]!.keys.change(id, (held) => ({ ...held, ...news }));
      }),
    );
    for (const state of states) state.keys.watch(() => undefined);
    await waitUntil(async () => (await listeners()) === 4);
    await server.cli("flushall");
    await server.cli("publish", channel, "all look now");
    const fresh = await open();
    await waitUntil(async () => {
      const { keys: now } = await fresh.keys.since(0);
      return isDeepStrictEqual(byId(now), byId(latest as KeyRecord[]));
    }, "all keys in their latest form");
    expect(await server.cli("hlen", "{lair}:keys:names")).toBe("80");
  });

  it("has been set back to an earlier save, a revocation since then stays one", async () => {
    const state = await begin();
    const key = someKey();
    await state.keys.insert([key]);
    await server.cli("save");
    await state.keys.change(key.id, (held) => ({ ...held, revoked: 7 }));
    const { revision } = await state.keys.since(0);
    await server.kill();
    await server.start();
    await waitUntil(() => state.health().ok);
    await waitUntil(async () => (await state.keys.find(key.id))?.revoked === 7);
    const other = await open();
    const late = someKey();
    await other.keys.insert([late]);
    // A revision that was given out before and lost is not taken for known.
    const news = await state.keys.since(revision);
    expect(news.keys.map(({ id }) => id)).toContain(late.id);
    expect(news.keys).toContainEqual({ ...key, revoked: 7 });
  });

  it("has lost its last changes, and others have written since, both are seen", async () => {
    const direct = await begin();
    const line = await lineTo(server);
    closing.push(() => line.close());
    const state = await open(line.url);
    const [first, second] = [someKey(), someKey()];
    await state.keys.insert([first, second]);
    await server.cli("save");
    await state.keys.change(first.id, (held) => ({ ...held, revoked: 7 }));
    const { revision } = await state.keys.since(0);
    line.refuse();
    await direct.close();
    await server.kill();
    await server.start();
    // It knows nothing of the revocation, and gives out its revision again.
    const other = await open();
    await other.keys.change(second.id, (held) => ({ ...held, revoked: 8 }));
    line.mend();
    await waitUntil(async () => (await other.keys.find(first.id))?.revoked === 7);
    const news = await state.keys.since(revision);
    expect(byId(news.keys)).toEqual(byId([first, second]).map((key) => ({ ...key, revoked: key === first ? 7 : 8 })));
  });

  it("is behind a network that swallows everything, it is asked by new connections", async () => {
    const direct = await begin();
    const line = await lineTo(server);
    closing.push(() => line.close());
    const state = await open(line.url);
    let told = 0;
    state.keys.watch(() => told++);
    const listeners = async (): Promise<number> =>
      Number((await server.cli("pubsub", "numsub", channel)).split("\n")[1]);
    await waitUntil(async () => (await listeners()) === 1);
    line.freeze();
    await expect(state.keys.since(0)).rejects.toThrow(StateError);
    await waitUntil(() => state.health().ok);
    await direct.keys.insert([someKey()]);
    await waitUntil(() => told > 0);
    await waitUntil(() => line.connections() >= 4, "messages come by a new connection, too");
  });

  it("is emptied while it runs, keys come back too, and those that were made meanwhile stay", async () => {
    const state = await begin();
    const key = someKey();
    await state.keys.insert([key]);
    const before = await state.keys.since(0);
    await server.cli("flushall");
    const other = await open();
    const late = someKey();
    await other.keys.insert([late]);
    await waitUntil(async () => (await other.keys.find(key.id)) !== undefined);
    const news = await state.keys.since(before.revision);
    expect(byId(news.keys)).toEqual(byId([key, late]));
  });

  it("has forgotten the scripts, they are sent again", async () => {
    const state = await begin();
    await state.keys.insert([someKey()]);
    await server.cli("script", "flush");
    await state.keys.insert([someKey()]);
    expect((await state.keys.since(0)).keys.length).toBe(2);
  });

  it("was away, a store that listens to a channel of its own is told to look, and hears again", async () => {
    await begin();
    const connection = await RedisConnection.open(server.url, { log, replica: "own" });
    closing.push(() => connection.close());
    const heard: string[] = [];
    let ready = 0;
    connection.onReady(() => ready++);
    connection.subscribe(connection.key("own"), (text) => heard.push(text));
    await waitUntil(() => ready > 0);
    await connection.command(["PUBLISH", connection.key("own"), "one"]);
    await waitUntil(() => heard.length === 1);
    await server.kill();
    await waitUntil(() => !connection.health().ok);
    ready = 0;
    await server.start();
    await waitUntil(() => ready > 0);
    await waitUntil(async () => {
      await connection.command(["PUBLISH", connection.key("own"), "two"]);
      return heard.includes("two");
    });
  });

  it.each(["ready", "killed", "frozen"])("is %s, a program that closes the state ends by itself", async (how) => {
    await begin();
    const script = path.join(import.meta.dirname, "open-and-close.ts");
    const child = spawn(process.execPath, ["--import", import.meta.resolve("tsx"), script], {
      env: { ...process.env, STATE: server.url },
      stdio: ["pipe", "pipe", "inherit"],
    });
    const ended = once(child, "exit");
    await once(child.stdout, "data");
    if (how === "killed") await server.kill();
    if (how === "frozen") server.freeze();
    child.stdin.write("close\n");
    expect(await ended).toEqual([0, null]);
  });
});

const channel = "{lair}:changes";

/** A line to it that can be broken, with the URL of a state. */
async function lineTo({ port, password }: RedisServer): Promise<CutLine> {
  const line = await startCutLine(`http://127.0.0.1:${port}`);
  return { ...line, url: `redis://:${password}@${new URL(line.url).host}` };
}

function byId(keys: readonly KeyRecord[]): KeyRecord[] {
  return keys.toSorted((a, b) => (a.id < b.id ? -1 : 1));
}
