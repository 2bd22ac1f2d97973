import { decodeKey, encodeKey } from "../key-text.ts";
import type { KeyRecord } from "../state.ts";
import type { Database } from "./database.ts";
import { takeRevisions } from "./counters.ts";

/** Up to `limit` keys that were changed after that revision, in the order of their last changes, and the last one's revision. */
export function readKeys(db: Database, after: number, limit: number): { keys: KeyRecord[]; revision: number } {
  const rows = db
    .prepare("SELECT record, revision FROM keys WHERE revision > ? ORDER BY revision LIMIT ?")
    .all([after, limit]);
  return { keys: rows.map(([record]) => decodeKey(record as string)), revision: Number(rows.at(-1)?.[1] ?? after) };
}

export function findKey(db: Database, idOrName: string): KeyRecord | undefined {
  for (const column of ["id", "name"]) {
    const row = db.prepare(`SELECT record FROM keys WHERE ${column} = ?`).get([idOrName]);
    if (row !== undefined) return decodeKey(row[0] as string);
  }
  return undefined;
}

/** Adds keys of which nothing is taken. */
export function addKeys(db: Database, keys: readonly KeyRecord[]): void {
  const insert = db.prepare(
    "INSERT INTO keys (name, digest, previous, revision, record, id) VALUES (?, ?, ?, ?, ?, ?)",
  );
  let revision = takeRevisions(db, keys.length);
  for (const key of keys) insert.run(toRow(key, revision++));
}

export function replaceKey(db: Database, key: KeyRecord): void {
  db.prepare("UPDATE keys SET name = ?, digest = ?, previous = ?, revision = ?, record = ? WHERE id = ?").run(
    toRow(key, takeRevisions(db, 1)),
  );
}

function toRow(key: KeyRecord, revision: number): (string | number | Buffer | null)[] {
  return [key.name, key.digest, key.previous?.digest ?? null, revision, encodeKey(key), key.id];
}
