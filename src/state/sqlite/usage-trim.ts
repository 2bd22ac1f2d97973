import { setTimeout as delay } from "node:timers/promises";
import { countRecords, readCounter } from "./counters.ts";
import type { Database } from "./database.ts";
import type { StateFile } from "./state-file.ts";
import { dropOldest } from "./usage-batches.ts";
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
    const excess = Math.max(0, readCounter(db, "records") - most);
    const deleted = dropOldest(db, excess > 0 ? { records: Math.min(rows, excess) } : { before, records: rows });
    countRecords(db, -deleted);
    return deleted;
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

function deleteSums(db: Database, firstDay: number, rows: number): number {
  const columns = "day, key, model, provider, agent";
  const oldest = `SELECT ${columns} FROM sums WHERE day < ? ORDER BY ${columns} LIMIT ?`;
  return db.prepare(`DELETE FROM sums WHERE (${columns}) IN (${oldest})`).run([firstDay, rows]);
}
