import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { silent } from "../../src/core/log.ts";
import { type Driver, loadDriver } from "../../src/state/sqlite/database.ts";
import { openSqliteState } from "../../src/state/sqlite/sqlite-state.ts";
import type { State } from "../../src/state/state.ts";
import { availableDrivers } from "./drivers.ts";

let folder = "";
let file = "";
const children: ChildProcess[] = [];
const states: State[] = [];
beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), "lair-state-"));
  file = path.join(folder, "state.db");
});
afterEach(async () => {
  for (const child of children.splice(0)) child.kill("SIGKILL");
  for (const state of states.splice(0)) await state.close();
  rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
});

interface Writer {
  readonly name: string;
  /** What it was told to be written, from its first line on. */
  readonly confirmed: string[];
  /** Until it has said so many lines. */
  reaches(count: number): Promise<void>;
  kill(): Promise<void>;
}

function startWriter(name: string, driver: Driver): Writer {
  const script = fileURLToPath(new URL("./write-state.ts", import.meta.url));
  const args = ["--import", import.meta.resolve("tsx"), "--no-warnings", script, file, name, driver];
  const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"] });
  children.push(child);
  const confirmed: string[] = [];
  let rest = "";
  child.stdout!.setEncoding("utf8").on("data", (text: string) => {
    const lines = (rest + text).split("\n");
    rest = lines.pop()!;
    confirmed.push(...lines);
  });
  return {
    name,
    confirmed,
    async reaches(count) {
      while (confirmed.length < count) await once(child.stdout!, "data");
    },
    async kill() {
      const closed = once(child.stdout!, "close");
      child.kill("SIGKILL");
      await closed;
    },
  };
}

describe.each(await availableDrivers())("over %s, a state file", (driver) => {
  it("loses nothing that was confirmed when its writers are killed, again and again", async () => {
    const all: Writer[] = [];
    for (let round = 0; round < 4; round++) {
      const writers = ["a", "b"].map((name) => startWriter(name, driver));
      all.push(...writers);
      await Promise.all(writers.map((writer) => writer.reaches(4 + round * 13)));
      await Promise.all(writers.map((writer) => writer.kill()));
      const state = await openSqliteState(file, { log: silent, driver });
      await assertComplete(state, all);
      await state.close();
    }
    const db = (await loadDriver([driver]))(file);
    expect(db.prepare("PRAGMA integrity_check").all()).toEqual([["ok"]]);
    db.close();
    expect(readdirSync(folder).filter((name) => /corrupt|lock|aside/.test(name))).toEqual([]);
  });

  it("tells what another process adds, while that writes on", async () => {
    const state = await openSqliteState(file, { log: silent, driver });
    states.push(state);
    let told = (): void => undefined;
    const stop = state.keys.watch(() => told());
    const writer = startWriter("a", driver);
    const seen = new Set<string>();
    let revision = 0;
    while (seen.size < 20) {
      const change = new Promise<void>((resolve) => (told = resolve));
      const step = await state.keys.since(revision);
      revision = step.revision;
      for (const { id } of step.keys) seen.add(id);
      if (step.keys.length === 0) await change;
    }
    await writer.kill();
    const last = await state.keys.since(revision);
    for (const { id } of last.keys) seen.add(id);
    for (const line of writer.confirmed.filter((each) => each.startsWith("key ")))
      expect(seen.has(line.slice(4))).toBe(true);
    stop();
  });
});

/** What was confirmed is there, and what is there of a batch is all of it. */
async function assertComplete(state: State, writers: readonly Writer[]): Promise<void> {
  const keys = new Map((await state.keys.since(0)).keys.map((key) => [key.id, key]));
  const confirmed = writers.flatMap(({ confirmed: lines }) => lines.map((line) => line.split(" ")));
  for (const [what, id] of confirmed) {
    if (what === "key") expect(keys.has(id!)).toBe(true);
    if (what === "revoked") expect(keys.get(id!)!.revoked).toBeGreaterThan(0);
  }
  const sums = await state.usage.sums({ from: "2026-01-01", to: "2026-12-31", by: ["agent"] });
  for (const name of ["a", "b"]) {
    const last = await state.usage.lastSequence(name);
    const said = writers.filter((writer) => writer.name === name).flatMap(({ confirmed: lines }) => lines);
    const batches = said.filter((line) => line.startsWith("batch ")).map((line) => Number(line.slice(6)));
    expect(last).toBeGreaterThanOrEqual(Math.max(...batches));
    expect(sums.find(({ group }) => group.agent === name)!.requests).toBe(last * 20);
  }
  const counted = confirmed.filter(([what]) => what === "counted").length;
  expect(Number(await state.documents.read("count"))).toBeGreaterThanOrEqual(counted);
}
