import { once } from "node:events";
import { createServer } from "node:http";
import { type AddressInfo, createServer as createTcpServer } from "node:net";
import path from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { silent } from "../../src/core/log.ts";
import { openState } from "../../src/open-state.ts";
import { readRedisAddress } from "../../src/state/redis/address.ts";
import { RedisConnection } from "../../src/state/redis/connection.ts";
import { type State, StateError } from "../../src/state/state.ts";
import { bulk, type FakeRedis, startFakeRedis } from "../support/fake-redis.ts";
import { redisMissing, type RedisServer, startRedis } from "../support/redis.ts";
import { makeCertificate } from "../support/tunnel-certificate.ts";
import { freePort } from "../support/tunnel-lines.ts";
import { keptLog, waitUntil } from "../support/tunnel-log.ts";
import { someKey, someRecord } from "./contract.ts";

const settings = { log: silent, replica: "one" };

/** The refusal's message; fails where it opens, and where the password is in the message. */
async function refusal(url: string): Promise<string> {
  const opened = await openState(url, settings).then(
    async (state) => {
      await state.close();
      return undefined;
    },
    (error: unknown) => error,
  );
  expect(opened).toBeInstanceOf(StateError);
  const { message, cause } = opened as StateError;
  expect(`${message} ${JSON.stringify(cause)}`).not.toContain("planted-secret");
  return message;
}

describe("an address of Redis", () => {
  it("is read with user, password, database, prefix and bound", () => {
    const address = readRedisAddress("rediss://ana:p%40ss@redis.example:7000/3?prefix=team-a&records=500");
    expect(address).toEqual({
      place: "rediss://redis.example:7000/3",
      prefix: "{team-a}",
      records: 500,
      server: { host: "redis.example", port: 7000, db: 3, username: "ana", password: "p@ss", tls: {} },
    });
    expect(readRedisAddress("redis://[::1]").server).toEqual({ host: "::1", port: 6379, db: 0 });
    const socket = readRedisAddress("unix:/run/redis.sock?password=planted-secret&db=2");
    expect(socket).toMatchObject({ place: "unix:/run/redis.sock", server: { path: "/run/redis.sock", db: 2 } });
  });

  it.each([
    ["redis://:planted-secret@host:70000", "no URL"],
    ["redis://:planted-secret@host/?prefx=a", '"?prefx="'],
    ["redis://:planted-secret@host/?prefix=a:b", "prefix"],
    ["redis://:planted-secret@host/x", "database"],
    ["redis://:planted-secret@host/?records=-1", "records"],
    ["redis://:planted-secret%@host", "%25"],
    ["redis://:planted-secret@host/?ca=file.pem", "rediss://"],
    ["rediss://:planted-secret@host/?ca=/nowhere/at-all.pem", "/nowhere/at-all.pem"],
    ["redis:///0", "host"],
  ])("that is wrong is refused with what is wrong: %s", async (url, word) => {
    expect(await refusal(url)).toContain(word);
  });

  it("of something else is refused by its scheme", async () => {
    expect(await refusal("postgres://ana:planted-secret@host/db")).toMatch(/^postgres: is no state/);
  });
});

describe("a server that cannot be used", () => {
  let fake: FakeRedis | undefined;
  afterEach(async () => {
    await fake?.close();
    fake = undefined;
  });

  it("because it is too old is refused with its version", async () => {
    fake = await startFakeRedis(([name]) => {
      if (name === "INFO") return bulk("# Server\r\nredis_version:5.0.14\r\nrun_id:abc\r\n");
      return name === "AUTH" ? "+OK\r\n" : "-ERR unknown command\r\n";
    });
    expect(await refusal(fake.url)).toMatch(/is version 5\.0\.14, too old: Redis 6\.2 or newer/);
  });

  it("because it takes no password, or another one, is refused with where the password goes", async () => {
    let answers: Record<string, string> = {
      AUTH: "-WRONGPASS invalid username-password pair or user is disabled.\r\n",
    };
    fake = await startFakeRedis(([name]) => answers[name!] ?? "-NOAUTH Authentication required.\r\n");
    expect(await refusal(fake.url)).toMatch(/does not take the user or password/);
    answers = {};
    expect(await refusal(fake.url.replace(":planted-secret@", ""))).toMatch(/asks for a password/);
  });

  it("because it is a replica is refused with what to give instead", async () => {
    fake = await startFakeRedis(([name]) => {
      return name === "INFO" ? bulk("redis_version:7.2.0\r\nrole:slave\r\n") : "+OK\r\n";
    });
    expect(await refusal(fake.url)).toMatch(/address of the primary/);
  });

  it("because the keys are at another node of its cluster is refused with that node", async () => {
    fake = await startFakeRedis(([name]) => {
      if (name === "INFO") return bulk("redis_version:7.2.0\r\nrole:master\r\n");
      return name === "AUTH" ? "+OK\r\n" : "-MOVED 7638 10.0.0.2:6379\r\n";
    });
    expect(await refusal(fake.url)).toMatch(/whose node 10\.0\.0\.2:6379 has the keys/);
  });

  it("because it does not say what it is is refused", async () => {
    fake = await startFakeRedis(([name]) => (name === "INFO" ? bulk("some_proxy:1\r\n") : "+OK\r\n"));
    expect(await refusal(fake.url)).toMatch(/no Redis or Valkey/);
  });

  it("because it speaks HTTP is refused", async () => {
    const server = createServer((_request, response) => response.end("hello"));
    await once(server.listen(0, "127.0.0.1"), "listening");
    expect(await refusal(`redis://:planted-secret@127.0.0.1:${(server.address() as AddressInfo).port}`)).toMatch(
      /no word of Redis's protocol/,
    );
    server.close();
    server.closeAllConnections();
  });

  it("yet, because it is loading its data, is waited for", async () => {
    let asked = 0;
    fake = await startFakeRedis(([name]) => {
      if (name !== "INFO") return name === "AUTH" || name === "PING" ? "+OK\r\n" : "-LOADING Redis is loading\r\n";
      return bulk(`redis_version:7.2.0\r\nrole:master\r\nloading:${asked++ < 1 ? 1 : 0}\r\n`);
    });
    const connection = await RedisConnection.open(fake.url, settings);
    expect(asked).toBe(2);
    await expect(connection.command(["GET", "a"])).rejects.toThrow(/is loading its data/);
    await connection.close();
  });
});

describe.concurrent("a server that is not there", () => {
  it("is refused with its address", async () => {
    const port = await freePort();
    expect(await refusal(`redis://:planted-secret@127.0.0.1:${port}/1`)).toBe(
      `Redis at redis://127.0.0.1:${port}/1 cannot be reached (ECONNREFUSED)`,
    );
  });

  it("but whose port takes connections is refused", async () => {
    const server = createTcpServer(() => undefined);
    await once(server.listen(0, "127.0.0.1"), "listening");
    const { port } = server.address() as AddressInfo;
    expect(await refusal(`redis://:planted-secret@127.0.0.1:${port}`)).toMatch(/does not answer/);
    server.close();
  });
});

const missing = redisMissing();
if (missing !== undefined) process.stdout.write(`what Redis refuses is not tested: ${missing}\n`);

describe.skipIf(missing !== undefined)("a real Redis", () => {
  let server: RedisServer;
  let state: State | undefined;
  beforeAll(async () => {
    server = await startRedis({ lines: ["unixsocket redis.sock"] });
  });
  afterEach(async () => {
    await state?.close();
    state = undefined;
    await server.cli("flushall");
  });
  afterAll(() => server.close());

  it("with a state of a newer program is refused, and left as it is", async () => {
    await server.cli("hset", "{lair}:schema", "version", "9");
    expect(await refusal(server.url)).toMatch(/version 9, newer than this program's 1: update this program/);
    expect(await server.cli("dbsize")).toBe("1");
  });

  it("with something else under the same names is refused", async () => {
    await server.cli("set", "{lair}:schema", "mine");
    expect(await refusal(server.url)).toMatch(/other things under this program's keys/);
  });

  it("whose user may not do what is needed is refused", async () => {
    await server.cli("acl", "setuser", "weak", "on", ">planted-secret", "~other:*", "+@all");
    expect(await refusal(`redis://weak:planted-secret@127.0.0.1:${server.port}`)).toMatch(/does not allow this user/);
  });

  it("is used by a user who may touch the prefix only", async () => {
    const rights = ["~{lair}:*", "&{lair}:*", "+@all", "-@dangerous", "+info"];
    await server.cli("acl", "setuser", "ours", "on", ">planted-secret", ...rights);
    state = await openState(`redis://ours:planted-secret@127.0.0.1:${server.port}`, settings);
    await useAll(state);
    expect((await server.cli("keys", "*")).split("\n").filter((key) => !key.startsWith("{lair}:"))).toEqual([]);
  });

  it("is reached by its socket", async () => {
    const folder = (await server.cli("config", "get", "dir")).split("\n")[1]!;
    state = await openState(`unix:${path.join(folder, "redis.sock")}?password=${server.password}`, settings);
    expect(state.place).not.toContain(server.password);
    await useAll(state);
  });

  it("is reached by TLS with the authority of the address, and by no other", async () => {
    const certificate = makeCertificate();
    if (certificate === undefined) return void process.stdout.write("TLS is not tested: openssl is not installed\n");
    const port = await freePort();
    const files = [`tls-cert-file ${certificate.cert}`, `tls-key-file ${certificate.key}`, "tls-auth-clients no"];
    const secure = await startRedis({ lines: [`tls-port ${port}`, ...files] });
    const url = `rediss://:${secure.password}@127.0.0.1:${port}`;
    expect(await refusal(url)).toMatch(/by TLS \(.*\): the file of its authority goes into \?ca=/);
    state = await openState(`${url}?ca=${encodeURIComponent(certificate.cert)}`, settings);
    await useAll(state);
    await secure.close();
    certificate.remove();
  });

  it("keeps two prefixes apart", async () => {
    state = await openState(server.url, settings);
    const other = await openState(`${server.url}?prefix=other`, settings);
    await state.keys.insert([someKey()]);
    expect((await other.keys.since(0)).keys).toEqual([]);
    await other.close();
  });

  it("that is a cluster of one takes every script, as all keys are together", async () => {
    const cluster = await startRedis({ lines: ["cluster-enabled yes"] });
    await cluster.cli("cluster", "addslotsrange", "0", "16383");
    await waitUntil(async () => (await cluster.cli("cluster", "info")).includes("cluster_state:ok"));
    state = await openState(cluster.url, settings);
    await useAll(state);
    await state.close();
    await cluster.close();
  });

  it("that is full says so, in health too, and is used again when it has room", async () => {
    const log = keptLog();
    state = await openState(server.url, { ...settings, log });
    await state.keys.insert([someKey({ name: "before" })]);
    await server.cli("config", "set", "maxmemory", "1");
    await expect(state.keys.insert([someKey()])).rejects.toThrow(/is full \(maxmemory\)/);
    expect(state.health()).toMatchObject({ ok: false, problem: expect.stringMatching(/full/) });
    expect(await state.keys.find("before")).toBeDefined();
    const batch = { writer: "w", sequence: 1, records: [someRecord()] };
    await expect(state.usage.add(batch)).rejects.toThrow(StateError);
    await server.cli("config", "set", "maxmemory", "0");
    await waitUntil(() => state!.health().ok);
    // Nothing of what was refused was half done.
    expect(await state.usage.add(batch)).toBe(true);
    expect(await state.usage.list({ limit: 10 })).toEqual(batch.records);
    expect(log.lines.filter((line) => line.startsWith("error")).length).toBe(1);
  });

  it("that becomes a replica says so, and is used again when it is the primary", async () => {
    state = await openState(server.url, settings);
    await server.cli("replicaof", "127.0.0.1", String(await freePort()));
    await expect(state.keys.insert([someKey()])).rejects.toThrow(/replica/);
    await waitUntil(() => /address of the primary/.test(state!.health().problem ?? ""));
    await server.cli("replicaof", "no", "one");
    await waitUntil(() => state!.health().ok);
    await state.keys.insert([someKey()]);
  });

  it("that forgets keys when it is full is warned of", async () => {
    await server.cli("config", "set", "maxmemory", "100mb");
    await server.cli("config", "set", "maxmemory-policy", "allkeys-lru");
    const log = keptLog();
    state = await openState(server.url, { ...settings, log });
    expect(log.lines.join()).toMatch(/maxmemory-policy allkeys-lru/);
    await server.cli("config", "set", "maxmemory", "0");
    await server.cli("config", "set", "maxmemory-policy", "noeviction");
  });

  it("has never more usage records than its address allows, and every sum", async () => {
    state = await openState(`${server.url}?records=5`, settings);
    const records = Array.from({ length: 9 }, (_, turn) => someRecord({ time: 1_795_000_000_000 + turn }));
    await state.usage.add({ writer: "w", sequence: 1, records: records.slice(0, 4) });
    await state.usage.add({ writer: "w", sequence: 2, records: records.slice(4) });
    expect(await state.usage.list({ limit: 100 })).toEqual(records.slice(4).toReversed());
    const [sum] = await state.usage.sums({ from: "2026-01-01", to: "2027-01-01", by: [] });
    expect(sum).toMatchObject({ requests: 9, promptTokens: 90 });
  });
});

/** Every script once. */
async function useAll(state: State): Promise<void> {
  const key = someKey();
  await state.keys.insert([key]);
  await state.keys.change(key.id, (held) => ({ ...held, revoked: 1 }));
  expect((await state.keys.since(0)).keys).toEqual([{ ...key, revoked: 1 }]);
  await state.usage.add({ writer: "w", sequence: 1, records: [someRecord(), someRecord({ time: 0 })] });
  expect((await state.usage.sums({ from: "1970-01-01", to: "2030-01-01", by: ["day"] })).length).toBe(2);
  expect((await state.usage.list({ limit: 10, key: "kaaaaaaaaaaaa" })).length).toBe(2);
  expect(await state.usage.trim({ before: 1, most: 10, sumsBefore: 86_400_000 })).toBe(1);
  const meter = { id: "m", capacity: 5, refill: 0, expires: Date.now() + 60_000 };
  const exchange = { meter, give: 0, want: 2, least: 1 };
  expect(await state.meters.exchange([exchange, { ...exchange, meter: { ...meter, id: "n" } }])).toHaveLength(2);
  expect(await state.meters.hold("a", [{ id: "m", most: 2, want: 3 }])).toEqual([2]);
  await state.responses.put("p", "r", "text", 60_000);
  expect(await state.responses.get("p", "r")).toBe("text");
  expect(await state.responses.delete("p", "r")).toBe(true);
  expect(await state.documents.change("d", () => "text")).toBe("text");
  const told = new Promise<void>((resolve) => state.documents.watch("d", resolve));
  await state.documents.change("d", () => "other");
  await told;
}
