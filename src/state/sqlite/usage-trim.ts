import { setTimeout as delay } from "node:timers/promises";
import { countRecords, readCounter } from "./counters.ts";
import type { Database } from "./database.ts";
import type { StateFile } from "./state-file.ts";
import { toDay } from "./usage-rows.ts";

/** Milliseconds that one step should take, and those between two, in which others work. */
const stepTime = 8;
const pause = 8;

interface Bounds {
  readonly before: number;
  readonly most: number;
  readonly sumsBefore: number;
}

/** Deletes what is out of bounds in steps that leave others their turn. Returns how many records went. */
export async function trimUsage(file: StateFile, { before, most, sumsBefore }: Bounds): Promise<number> {
  const records = await inSteps(file, (db, rows) => {
    const excess = readCounter(db, "records") - most;
    return deleteOldest(db, excess > 0 ? Number.MAX_SAFE_INTEGER : before, excess > 0 ? Math.min(rows, excess) : rows);
  });
  const firstDay = toDay(sumsBefore);
  await inSteps(file, (db, rows) => deleteSums(db, firstDay, rows));
  return records;
}

/** Runs steps, of as many rows as fit into their time, until one finds nothing. */
async function inSteps(file: StateFile, step: (db: Database, rows: number) => number): Promise<number> {
  let all = 0;
  for (let rows = 100; ;) {
    const start = performance.now();
    const deleted = await file.write((db) => step(db, rows));
    if (deleted === 0) return all;
    all += deleted;
    const pace = stepTime / Math.max(0.1, performance.now() - start);
    rows = Math.max(50, Math.min(2000, Math.floor(rows * Math.max(0.5, Math.min(2, pace)))));
    await delay(pause);
  }
}

function deleteOldest(db: Database, before: number, rows: number): number {
  const oldest = "SELECT time, sequence FROM records WHERE time < ? ORDER BY time, sequence LIMIT 1";
  const last =
    db.prepare(`${oldest} OFFSET ?`).get([before, rows - 1]) ??
    db
      .prepare("SELECT time, sequence FROM records WHERE time < ? ORDER BY time DESC, sequence DESC LIMIT 1")
      .get([before]);
  if (last === undefined) return 0;
  const deleted = db.prepare("DELETE FROM records WHERE (time, sequence) <= (?, ?)").run(last);
  db.prepare("DELETE FROM contents WHERE (time, sequence) <= (?, ?)").run(last);
  countRecords(db, -deleted);
  return deleted;
}

function deleteSums(db: Database, firstDay: number, rows: number): number {
  const columns = "day, key, model, provider, agent";
  const oldest = `SELECT ${columns} FROM sums WHERE day < ? ORDER BY ${columns} LIMIT ?`;
  return db.prepare(`DELETE FROM sums WHERE (${columns}) IN (${oldest})`).run([firstDay, rows]);
}
