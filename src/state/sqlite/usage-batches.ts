import { setImmediate as yieldToOthers } from "node:timers/promises";
import type { UsageRecord } from "../state.ts";
import type { Database, Row } from "./database.ts";
import type { StateFile } from "./state-file.ts";
import type { Texts } from "./texts.ts";
import { fromRecordRow, keyOf, type RecordRow, timeOf } from "./usage-rows.ts";

/** Most batches that one step of a list reads. */
const mostAtOnce = 32;

/** Keeps records that came together, at least one. Within a transaction. */
export function insertBatch(db: Database, rows: readonly RecordRow[]): void {
  const times = rows.map(timeOf);
  const [first, last] = [Math.min(...times), Math.max(...times)];
  const values = [first, last, rows.length, encodeRows(rows)];
  const insert = "INSERT INTO batches (first, last, count, records) VALUES (?, ?, ?, ?) RETURNING sequence";
  const sequence = Number(db.prepare(insert).get(values)![0]);
  const addKey = db.prepare("INSERT INTO batch_keys (key, last, sequence) VALUES (?, ?, ?)");
  for (const key of new Set(rows.map(keyOf))) addKey.run([key, last, sequence]);
}

/** Single records, newest first; those of the same millisecond in the order in which they came, the last first. */
export async function listRecords(
  file: StateFile,
  texts: Texts,
  { before = Number.MAX_SAFE_INTEGER, key, limit }: { before?: number; key?: string; limit: number },
): Promise<UsageRecord[]> {
  const most = Math.max(1, Math.min(1000, limit));
  const only = key === undefined ? undefined : await file.read((db) => texts.find(db, key));
  if (key !== undefined && only === undefined) return [];
  const found = new Newest(most);
  let cursor = [Number.MAX_SAFE_INTEGER, 0];
  for (let step = 1; ; step = Math.min(mostAtOnce, step * 2)) {
    const batches = await file.read((db) => readBatches(db, { cursor, before, key: only, step }));
    for (const [last, sequence, records] of batches) {
      // All others are older still.
      if (found.isFull && Number(last) < found.oldest) return toRecords(file, texts, found);
      cursor = [Number(last), Number(sequence)];
      found.add(decodeRows(records).filter((row) => timeOf(row) < before && (only ?? keyOf(row)) === keyOf(row)));
    }
    if (batches.length < step) return toRecords(file, texts, found);
    await yieldToOthers();
  }
}

/**
 * Forgets the oldest records: those before that time, of at most as many batches as have `records` of them; without a time as many
 * as `records` says. Returns how many went. Within a transaction.
 */
export function dropOldest(db: Database, { before, records }: { before?: number; records: number }): number {
  const oldest = "SELECT sequence, last, records FROM batches WHERE first < ? ORDER BY first, sequence LIMIT 1";
  let dropped = 0;
  while (dropped < records) {
    const found = db.prepare(oldest).get([before ?? Number.MAX_SAFE_INTEGER]);
    if (found === undefined) break;
    const rows = decodeRows(found[2]).toSorted((one, other) => timeOf(one) - timeOf(other));
    const old = rows.findIndex((row) => timeOf(row) >= (before ?? Number.MAX_SAFE_INTEGER));
    const count = before === undefined ? Math.min(rows.length, records - dropped) : old === -1 ? rows.length : old;
    shorten(db, found, { gone: rows.slice(0, count), kept: rows.slice(count) });
    dropped += Math.max(1, count);
  }
  return dropped;
}

function shorten(
  db: Database,
  [sequence, last]: Row,
  { gone, kept }: { readonly gone: readonly RecordRow[]; readonly kept: readonly RecordRow[] },
): void {
  const keys = new Set(gone.map(keyOf));
  for (const row of kept) keys.delete(keyOf(row));
  const forget = db.prepare("DELETE FROM batch_keys WHERE key = ? AND last = ? AND sequence = ?");
  for (const key of keys) forget.run([key, last!, sequence!]);
  if (kept.length === 0) db.prepare("DELETE FROM batches WHERE sequence = ?").run([sequence!]);
  else
    db.prepare("UPDATE batches SET first = ?, count = ?, records = ? WHERE sequence = ?").run([
      timeOf(kept[0]!),
      kept.length,
      encodeRows(kept),
      sequence!,
    ]);
}

interface Asked {
  /** `last` and `sequence` of the batch that was read before. */
  readonly cursor: readonly number[];
  readonly before: number;
  readonly key: number | undefined;
  readonly step: number;
}

function readBatches(db: Database, { cursor, before, key, step }: Asked): Row[] {
  if (key === undefined) {
    const all =
      "SELECT last, sequence, records FROM batches WHERE (last, sequence) < (?, ?) AND first < ? ORDER BY last DESC, sequence DESC LIMIT ?";
    return db.prepare(all).all([...cursor, before, step]);
  }
  const own =
    "SELECT k.last, k.sequence, b.records FROM batch_keys k JOIN batches b ON b.sequence = k.sequence " +
    "WHERE k.key = ? AND (k.last, k.sequence) < (?, ?) AND b.first < ? ORDER BY k.last DESC, k.sequence DESC LIMIT ?";
  return db.prepare(own).all([key, ...cursor, before, step]);
}

/** The newest rows among all that were added, batches with the latest records first. */
class Newest {
  readonly #most: number;
  #rows: RecordRow[] = [];

  constructor(most: number) {
    this.#most = most;
  }

  get isFull(): boolean {
    return this.#rows.length === this.#most;
  }

  /** Time of the oldest of them. */
  get oldest(): number {
    return timeOf(this.#rows.at(-1)!);
  }

  get rows(): readonly RecordRow[] {
    return this.#rows;
  }

  add(rows: readonly RecordRow[]): void {
    if (rows.length === 0) return;
    const all = [...this.#rows, ...rows.toReversed()];
    this.#rows = all.sort((one, other) => timeOf(other) - timeOf(one)).slice(0, this.#most);
  }
}

function toRecords(file: StateFile, texts: Texts, { rows }: Newest): Promise<UsageRecord[]> {
  return file.read((db) => rows.map((row) => fromRecordRow(db, texts, row)));
}

/** As bytes: what was said may hold anything, and libsql ends a text at its first NUL. */
function encodeRows(rows: readonly RecordRow[]): Buffer {
  return Buffer.from(JSON.stringify(rows));
}

/** A batch that is damaged has no rows, so that it hides no other one. */
function decodeRows(records: Row[number] | undefined): RecordRow[] {
  try {
    return JSON.parse(String(records)) as RecordRow[];
  } catch {
    return [];
  }
}
