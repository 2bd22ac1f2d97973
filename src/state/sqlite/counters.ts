import type { Database } from "./database.ts";

/** The first of `count` revisions that nobody else gets, above all that were there before; within a transaction. */
export function takeRevisions(db: Database, count: number): number {
  const row = db.prepare("UPDATE counters SET value = value + ? WHERE name = 'revision' RETURNING value").get([count]);
  return Number(row![0]) - count + 1;
}

/** How far a counter has come. */
export function readCounter(db: Database, name: "revision" | "records"): number {
  return Number(db.prepare("SELECT value FROM counters WHERE name = ?").get([name])![0]);
}

/** How many records there are, from now on so many more. */
export function countRecords(db: Database, more: number): void {
  db.prepare("UPDATE counters SET value = value + ? WHERE name = 'records'").run([more]);
}
