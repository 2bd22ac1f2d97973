import { execFileSync } from "node:child_process";
import { once } from "node:events";
import {
  chmodSync,
  chownSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  closeSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { type Log, silent } from "../../src/core/log.ts";
import { type Database, type Driver, loadDriver, type OpenDatabase } from "../../src/state/sqlite/database.ts";
import { migrate } from "../../src/state/sqlite/schema.ts";
import { openSqliteState, type SqliteStateSettings } from "../../src/state/sqlite/sqlite-state.ts";
import { StateFile } from "../../src/state/sqlite/state-file.ts";
import { SqliteUsage } from "../../src/state/sqlite/usage-store.ts";
import { type State, StateError } from "../../src/state/state.ts";
import { availableDrivers } from "./drivers.ts";
import { someKey, someRecord } from "./records.ts";

const isPosix = process.platform !== "win32";
let driverName: Driver;
let driver: OpenDatabase;
let folder = "";
let file = "";
const opened: { close(): unknown }[] = [];
async function open(settings: Partial<SqliteStateSettings> = {}, at = file): Promise<State> {
  const state = await openSqliteState(at, { log: silent, driver: driverName, ...settings });
  opened.push(state);
  return state;
}

/** SQLite itself, past everything of ours. */
function plain(at = file): Database {
  const db = driver(at);
  opened.push(db);
  return db;
}

/** A log that can be read and waited for. */
function listen(): { readonly log: Log; readonly lines: string[]; until(pattern: RegExp): Promise<string> } {
  const lines: string[] = [];
  let wake = (): void => undefined;
  const add = (_fields: object, message: string): void => {
    lines.push(message);
    wake();
  };
  return {
    log: { debug: add, info: add, warn: add, error: add },
    lines,
    async until(pattern) {
      for (;;) {
        const found = lines.find((line) => pattern.test(line));
        if (found !== undefined) return found;
        await new Promise<void>((resolve) => (wake = resolve));
      }
    },
  };
}

/** A state with these keys, closed again. */
async function made(keys = [someKey(), someKey()]): Promise<typeof keys> {
  const state = await openSqliteState(file, { log: silent, driver: driverName });
  await state.keys.insert(keys);
  await state.usage.add({ writer: "w", sequence: 1, records: [someRecord()] });
  await state.close();
  return keys;
}

function damage(from: number, length: number): void {
  const descriptor = openSync(file, "r+");
  writeSync(descriptor, Buffer.alloc(length, 0xa5), 0, length, from);
  closeSync(descriptor);
}

async function idsOf(state: State): Promise<string[]> {
  return (await state.keys.since(0)).keys.map(({ id }) => id).toSorted();
}

describe.each(await availableDrivers())("over %s,", (name) => {
  beforeEach(async () => {
    driverName = name;
    driver = await loadDriver([name]);
    folder = mkdtempSync(path.join(tmpdir(), "lair-state-"));
    file = path.join(folder, "state.db");
  });
  afterEach(async () => {
    for (const state of opened.splice(0).toReversed()) await state.close();
    rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
  });

  describe("a state file", () => {
    it.runIf(isPosix)("is its owner's alone, with all that lies beside it, in a folder of its own", async () => {
      const nested = path.join(folder, "a", "b", "state.db");
      const state = await open({}, nested);
      await state.keys.insert([someKey()]);
      expect(statSync(path.dirname(nested)).mode & 0o777).toBe(0o700);
      const names = readdirSync(path.dirname(nested));
      expect(names).toEqual(expect.arrayContaining(["state.db", "state.db-shm", "state.db-wal"]));
      await state.close();
      for (const name of [...names, "state.db.keys.bak"].filter((each) =>
        existsSync(path.join(path.dirname(nested), each)),
      ))
        expect([name, statSync(path.join(path.dirname(nested), name)).mode & 0o777]).toEqual([name, 0o600]);
      expect(existsSync(`${nested}.keys.bak`)).toBe(true);
    });

    it.runIf(isPosix)("that others may read is taken from them", async () => {
      await made();
      chmodSync(file, 0o644);
      await open();
      expect(statSync(file).mode & 0o777).toBe(0o600);
    });

    it("holds no key in its copy of the keys, only digests", async () => {
      const [first] = await made();
      const copy = readFileSync(`${file}.keys.bak`, "utf8");
      expect(copy).toContain(first!.digest.toString("base64"));
      expect(copy.split("\n").length).toBe(4);
    });

    it("is brought to a newer schema without losing anything, or left as it was where that fails", async () => {
      const [first] = await made();
      const db = plain();
      const version = Number(db.prepare("PRAGMA user_version").get()![0]);
      const known = Array<string>(version).fill("SELECT no_such_column");
      db.exec("BEGIN IMMEDIATE");
      expect(() => migrate(db, file, [...known, "ALTER TABLE keys ADD COLUMN more TEXT; SELECT broken"])).toThrow(
        /broken/,
      );
      db.exec("ROLLBACK");
      expect(db.prepare("PRAGMA user_version").get()).toEqual([version]);
      db.exec("BEGIN IMMEDIATE");
      expect(migrate(db, file, [...known, "ALTER TABLE keys ADD COLUMN more TEXT"])).toBe(false);
      db.exec("COMMIT");
      expect(db.prepare("SELECT id, more FROM keys WHERE id = ?").get([first!.id])).toEqual([first!.id, null]);
      expect(db.prepare("PRAGMA user_version").get()).toEqual([version + 1]);
    });

    it("of a newer lair is refused, and untouched", async () => {
      await made();
      const db = driver(file);
      db.exec("PRAGMA user_version = 99; PRAGMA wal_checkpoint(TRUNCATE)");
      db.close();
      const before = readFileSync(file);
      await expect(open()).rejects.toThrow(/written by a newer lair \(its schema is 99, .*nothing was changed/);
      await expect(open()).rejects.toThrow(StateError);
      expect(readFileSync(file).equals(before)).toBe(true);
      expect(readdirSync(folder).filter((name) => name.includes("corrupt"))).toEqual([]);
    });

    it.each([
      ["another program's database", "CREATE TABLE theirs (a); INSERT INTO theirs VALUES (1)"],
      ["one that names its program", "PRAGMA application_id = 7; PRAGMA user_version = 1; CREATE TABLE theirs (a)"],
    ])("that is %s is refused, and untouched", async (_, sql) => {
      const db = driver(file);
      db.exec(sql);
      db.close();
      const before = readFileSync(file);
      await expect(open()).rejects.toThrow(/SQLite file of another program/);
      expect(readFileSync(file).equals(before)).toBe(true);
    });

    it("that is no database at all, and never was a state, is refused and untouched", async () => {
      writeFileSync(file, "upstreams:\n".repeat(1000));
      await expect(open()).rejects.toThrow(/no state file of lair.*move it away.*nothing was changed/);
      expect(readdirSync(folder)).toEqual(["state.db"]);
      expect(readFileSync(file, "utf8")).toBe("upstreams:\n".repeat(1000));
    });

    it("cannot be a folder, lie below a file, or be a socket", async () => {
      mkdirSync(file);
      await expect(open()).rejects.toThrow(/is a folder: name a file.*state\.db/);
      writeFileSync(path.join(folder, "plain"), "x");
      await expect(open({}, path.join(folder, "plain", "state.db"))).rejects.toThrow(/part of its path is a file/);
      if (!isPosix) return;
      const server = createServer().listen(path.join(folder, "socket"));
      await once(server, "listening");
      await expect(open({}, path.join(folder, "socket"))).rejects.toThrow(/no ordinary file/);
      server.close();
    });

    it("takes a path with signs that an address would have", async () => {
      const odd = path.join(folder, isPosix ? "a b%20?c#d.db" : "a b%20#d.db");
      const state = await open({}, odd);
      await state.keys.insert([someKey()]);
      expect(existsSync(odd)).toBe(true);
    });

    it("says what to do where there is no SQLite at all", async () => {
      await expect(loadDriver([])).rejects.toThrow(/no SQLite library.*--include=optional.*22\.13.*Redis/);
    });
  });

  describe.runIf(isPosix)("a state that may not be written", () => {
    it("is said to be so, for the file and for its folder", async () => {
      await made();
      chownSync(folder, nobody, nobody);
      for (const name of readdirSync(folder)) chownSync(path.join(folder, name), nobody, nobody);
      chmodSync(file, 0o400);
      await expect(asNobody(() => open())).rejects.toThrow(
        /state\.db cannot be used: .*writable for the user who runs lair/,
      );
      chmodSync(file, 0o600);
      for (const ending of ["-wal", "-shm"]) rmSync(`${file}${ending}`, { force: true });
      chmodSync(folder, 0o500);
      await expect(asNobody(() => open())).rejects.toThrow(/writable for the user who runs lair/);
      await expect(asNobody(() => open({}, path.join(folder, "new.db")))).rejects.toThrow(/writable for the user/);
      chmodSync(folder, 0o700);
      const state = await asNobody(() => open());
      expect((await idsOf(state)).length).toBe(2);
    });
  });

  describe("a damaged state file", () => {
    it("is kept aside, and its keys come back from their copy", async () => {
      const keys = await made();
      damage(0, 1000);
      const damaged = readFileSync(file);
      const { log, lines } = listen();
      const state = await open({ log });
      expect(await idsOf(state)).toEqual(keys.map(({ id }) => id).toSorted());
      expect(await state.keys.find(keys[0]!.name)).toEqual(keys[0]);
      const aside = readdirSync(folder).filter(
        (name) => name.startsWith("state.db.corrupt-") && !/-(?:wal|shm)$/.test(name),
      );
      expect(aside.length).toBe(1);
      expect(readFileSync(path.join(folder, aside[0]!)).equals(damaged)).toBe(true);
      expect(lines.join("\n")).toMatch(/is damaged: it is kept as .*state\.db\.corrupt-/);
      expect(lines.join("\n")).toMatch(/2 keys came back as they were at 20\d\d-/);
      expect(await state.usage.add({ writer: "w", sequence: 1, records: [someRecord()] })).toBe(true);
    });

    it("gives its own keys where only the usage is damaged, also those that are not in the copy yet", async () => {
      const keys = await made();
      const old = readFileSync(`${file}.keys.bak`);
      const state = await openSqliteState(file, { log: silent, driver: driverName });
      const late = someKey();
      await state.keys.insert([late]);
      await state.close();
      writeFileSync(`${file}.keys.bak`, old);
      damage(4096 * (pageOf("batches") - 1), 4096);
      const again = await open();
      expect(await idsOf(again)).toEqual([...keys, late].map(({ id }) => id).toSorted());
    });

    it("gives the keys of the copy where its own cannot be read", async () => {
      const keys = await made();
      damage(4096 * (pageOf("keys") - 1), 4096);
      expect(await idsOf(await open())).toEqual(keys.map(({ id }) => id).toSorted());
    });

    it("is kept aside once, when two find it at the same time", async () => {
      const keys = await made();
      damage(0, 1000);
      const states = await Promise.all([open(), open(), open()]);
      for (const state of states) expect((await idsOf(state)).length).toBe(keys.length);
      await states[0]!.keys.insert([someKey()]);
      for (const state of states) expect((await idsOf(state)).length).toBe(keys.length + 1);
      expect(readdirSync(folder).filter((name) => /corrupt-[^-]*-[^-]*-[^-]*-[^-]*-[^-]*Z$/.test(name)).length).toBe(1);
    });

    it("is refused where its copy is damaged too, and nothing is overwritten", async () => {
      await made();
      damage(0, 1000);
      const copy = readFileSync(`${file}.keys.bak`, "utf8");
      writeFileSync(`${file}.keys.bak`, copy.slice(0, -20));
      await expect(open()).rejects.toThrow(/no copy of its keys/);
      expect(readFileSync(`${file}.keys.bak`, "utf8")).toBe(copy.slice(0, -20));
    });

    it("that is found while it is open is left for the new one, by all who have it open", async () => {
      const keys = await made();
      const { log, until } = listen();
      const running = await open({ log });
      let told = 0;
      running.keys.watch(() => void told++);
      damage(0, 1000);
      const other = await open();
      await until(/was replaced/);
      const fresh = someKey();
      await other.keys.insert([fresh]);
      expect(await running.keys.find(fresh.id)).toEqual(fresh);
      expect(await idsOf(running)).toEqual([...keys, fresh].map(({ id }) => id).toSorted());
      expect(running.health().ok).toBe(true);
      while (told === 0) await new Promise(setImmediate);
    });

    it("is found by who reads it, while it is open", async () => {
      const keys = await made();
      const { log, lines } = listen();
      const running = await open({ log });
      const db = plain();
      damage(4096, statSync(file).size - 4096);
      // SQLite forgets what it has in memory of a file when another process has written it.
      db.exec("PRAGMA user_version = 1");
      expect(await idsOf(running)).toEqual(keys.map(({ id }) => id).toSorted());
      expect(lines.join("\n")).toMatch(/is damaged: it is kept as/);
      expect(lines.join("\n")).toMatch(/2 keys came back/);
      await running.keys.insert([someKey()]);
      expect(running.health().ok).toBe(true);
    });

    it("that was deleted while it was open begins anew with the keys of the copy", async () => {
      const keys = await made();
      const { log, until } = listen();
      const running = await open({ log });
      for (const ending of ["", "-wal", "-shm"]) rmSync(`${file}${ending}`, { force: true });
      await until(/was replaced/);
      const { revision } = await running.keys.since(0);
      expect(await idsOf(running)).toEqual(keys.map(({ id }) => id).toSorted());
      const fresh = someKey();
      await running.keys.insert([fresh]);
      expect((await running.keys.since(revision)).keys).toEqual([fresh]);
      expect(existsSync(file)).toBe(true);
    });

    it("put in the place of an open one is used, and who follows the revision sees all of its keys", async () => {
      await made();
      const { log, until } = listen();
      const running = await open({ log });
      const { revision } = await running.keys.since(0);
      const elsewhere = path.join(folder, "restored.db");
      const restored = await openSqliteState(elsewhere, { log: silent, driver: driverName });
      const mine = someKey();
      await restored.keys.insert([mine]);
      await restored.close();
      // From a time before the one that is open.
      const db = driver(elsewhere);
      db.exec(
        "UPDATE counters SET value = 1000 WHERE name = 'revision'; UPDATE keys SET revision = 1000; PRAGMA wal_checkpoint(TRUNCATE)",
      );
      db.close();
      for (const ending of ["-wal", "-shm"]) rmSync(`${file}${ending}`, { force: true });
      rmSync(file);
      copyFileSync(elsewhere, file);
      await until(/was replaced/);
      expect((await running.keys.since(revision)).keys).toEqual([mine]);
    });
  });

  describe("a state file that is locked", () => {
    it("is waited for, in the order in which it was asked, and can be read meanwhile", async () => {
      const keys = await made();
      const state = await open();
      const db = plain();
      db.exec("BEGIN IMMEDIATE");
      const sequences = Array.from({ length: 16 }, (_, turn) => turn + 1);
      const adding = sequences.map((sequence) => state.usage.add({ writer: "x", sequence, records: [someRecord()] }));
      expect(await idsOf(state)).toEqual(keys.map(({ id }) => id).toSorted());
      expect(await state.usage.lastSequence("x")).toBe(0);
      db.exec("COMMIT");
      expect(await Promise.all(adding)).toEqual(sequences.map(() => true));
      expect(state.health().ok).toBe(true);
    });

    it("in the middle of a large batch ends that, and the rest of it is added the next time", async () => {
      const state = await open({ patience: 30 });
      const records = Array.from({ length: 3000 }, () => someRecord());
      const adding = state.usage.add({ writer: "w", sequence: 1, records });
      const db = plain();
      const count = (): unknown => db.prepare("SELECT value FROM counters WHERE name = 'records'").get()![0];
      while (count() === 0) await Promise.resolve();
      db.exec("BEGIN IMMEDIATE");
      await expect(adding).rejects.toThrow(/locked/);
      const added = count();
      expect(added).toBeGreaterThan(0);
      expect(added).toBeLessThan(3000);
      expect(await state.usage.lastSequence("w")).toBe(0);
      db.exec("COMMIT");
      expect(await state.usage.add({ writer: "w", sequence: 1, records })).toBe(true);
      expect(await state.usage.lastSequence("w")).toBe(1);
      const [sum] = await state.usage.sums({ from: "2026-01-01", to: "2026-12-31", by: [] });
      expect([sum!.requests, count()]).toEqual([3000, 3000]);
    });

    it("for too long is said to be so, and works again afterwards", async () => {
      await made();
      const state = await open({ patience: 30 });
      const { since } = state.health();
      const db = plain();
      db.exec("BEGIN IMMEDIATE");
      const late = someKey();
      await expect(state.keys.insert([late])).rejects.toThrow(
        /state\.db cannot be used: another process keeps it locked/,
      );
      expect(state.health()).toMatchObject({ ok: false, problem: expect.stringMatching(/locked/) });
      expect(state.health().since).toBeGreaterThanOrEqual(since);
      await expect(open({ patience: 30 })).rejects.toThrow(/keeps it locked/);
      db.exec("COMMIT");
      expect(await state.keys.find(late.id)).toBeUndefined();
      await state.keys.insert([late]);
      expect(state.health().ok).toBe(true);
      expect(await state.keys.find(late.id)).toEqual(late);
    });

    it("that is closed says so", async () => {
      const state = await openSqliteState(file, { log: silent, driver: driverName });
      await state.close();
      await expect(state.keys.find("x")).rejects.toThrow(/is closed/);
      await expect(state.keys.insert([someKey()])).rejects.toThrow(StateError);
    });
  });

  describe("a full disk", () => {
    it("stops what is written and not what is read, is told, and loses and doubles nothing", async () => {
      let limit = (_pages: number): void => undefined;
      const limited: OpenDatabase = (at) => {
        const db = driver(at);
        limit = (pages) => db.exec(`PRAGMA max_page_count = ${pages}`);
        return db;
      };
      const { log, lines } = listen();
      const state = await StateFile.open(file, { driver: limited, log, patience: 1000 });
      opened.push(state);
      const usage = new SqliteUsage(state);
      limit(80);
      const batch = (
        sequence: number,
      ): { writer: string; sequence: number; records: ReturnType<typeof someRecord>[] } => {
        return {
          writer: "w",
          sequence,
          records: Array.from({ length: 100 }, () => someRecord({ model: `m${sequence}` })),
        };
      };
      let sequence = 1;
      const failure = await (async () => {
        for (; ; sequence++) await usage.add(batch(sequence));
      })().catch((error: unknown) => error);
      expect(failure).toBeInstanceOf(StateError);
      expect(String(failure)).toMatch(/state\.db cannot be used: the disk is full; make room/);
      expect(await usage.lastSequence("w")).toBe(sequence - 1);
      expect(state.health()).toMatchObject({ ok: false, problem: expect.stringMatching(/disk is full/) });
      limit(1_000_000);
      expect(await usage.add(batch(sequence))).toBe(true);
      expect(await usage.add(batch(sequence))).toBe(false);
      while (!state.health().ok) await new Promise(setImmediate);
      expect(lines.join("\n")).toMatch(/works again/);
      const [sum] = await usage.sums({ from: "2026-01-01", to: "2026-12-31", by: [] });
      expect(sum!.requests).toBe(sequence * 100);
    });

    it.runIf(canMount())("of a real file system does the same", () => {
      const script = path.join(import.meta.dirname, "fill-disk.ts");
      const run = `mount -t tmpfs -o size=1m tmpfs '${folder}' && exec '${process.execPath}' --import '${import.meta.resolve("tsx")}' '${script}' '${file}'`;
      const output = execFileSync("unshare", ["--mount", "sh", "-c", run], { encoding: "utf8" });
      expect(JSON.parse(output)).toEqual({
        failure: expect.stringMatching(/disk is full/),
        health: false,
        readable: true,
        again: true,
        complete: true,
      });
    });
  });

  describe("usage", () => {
    it("with values that no column takes does not stop what comes after it", async () => {
      const state = await open();
      const odd = someRecord({
        duration: 12.6,
        firstToken: Number.NaN,
        spend: Number.POSITIVE_INFINITY,
        promptTokens: -0.4,
        model: "a\0b\ud800",
        key: "\0",
      });
      expect(await state.usage.add({ writer: "w", sequence: 1, records: [odd, odd] })).toBe(true);
      const [back] = await state.usage.list({ limit: 1 });
      expect(back).toMatchObject({ duration: 13, firstToken: 0, model: "a\uFFFDb\uFFFD" });
      expect((await state.usage.sums({ from: "2026-01-01", to: "2026-12-31", by: ["model"] })).length).toBe(1);
    });

    it("is not remembered by a number that was never written", async () => {
      const state = await open({ patience: 30 });
      const failing = state.usage.add({
        writer: "w",
        sequence: 1,
        records: [someRecord({ model: "first" }), null as unknown as ReturnType<typeof someRecord>],
      });
      await expect(failing).rejects.toThrow();
      await state.usage.add({ writer: "w", sequence: 1, records: [someRecord({ model: "second" })] });
      await state.usage.add({ writer: "w", sequence: 2, records: [someRecord({ model: "first" })] });
      const sums = await (await open()).usage.sums({ from: "2026-01-01", to: "2026-12-31", by: ["model"] });
      expect(sums.map(({ group }) => group.model)).toEqual(["first", "second"]);
    });
  });
});

const nobody = 65534;

/** Runs it as a user whom permissions hold, for they hold no root. */
async function asNobody<Result>(work: () => Promise<Result>): Promise<Result> {
  if (process.getuid?.() !== 0) return work();
  process.seteuid!(nobody);
  try {
    return await work();
  } finally {
    process.seteuid!(0);
  }
}

function canMount(): boolean {
  try {
    execFileSync("unshare", ["--mount", "sh", "-c", "mount -t tmpfs tmpfs /tmp"], { stdio: "ignore" });
    return true;
  } catch {
    process.stderr.write("this user may mount nothing here: the test with a disk that is full is not run\n");
    return false;
  }
}

/** The number of the first page of a table. */
function pageOf(table: string): number {
  const db = driver(file);
  const [page] = db.prepare("SELECT rootpage FROM sqlite_schema WHERE name = ?").get([table])!;
  db.exec("PRAGMA wal_checkpoint(TRUNCATE)");
  db.close();
  return Number(page);
}
