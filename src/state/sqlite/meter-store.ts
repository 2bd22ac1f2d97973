import { holdTime, type MeterExchange, type MeterGrant, type MeterHold, type MeterStore } from "../state.ts";
import type { Database } from "./database.ts";
import type { StateFile } from "./state-file.ts";

const sweepMeters = {
  end: "SELECT id FROM meters WHERE id > ? ORDER BY id LIMIT 1 OFFSET ?",
  forget: "DELETE FROM meters WHERE id > ? AND id <= ? AND expires < ?",
};
const sweepHolds = {
  end: "SELECT id FROM holds WHERE id > ? ORDER BY id LIMIT 1 OFFSET ?",
  forget: "DELETE FROM holds WHERE id > ? AND id <= ? AND until < ?",
};
/** Calls between two that look for meters or holds that are over, and how many these look at: some 0.1 ms long. */
const callsBetween = 50;
const lookedAt = 300;

export class SqliteMeters implements MeterStore {
  readonly #file: StateFile;
  readonly #now: () => number;
  readonly #sweeps = { meters: new Sweep(sweepMeters), holds: new Sweep(sweepHolds) };

  constructor(file: StateFile, now: () => number) {
    this.#file = file;
    this.#now = now;
  }

  async exchange(exchanges: readonly MeterExchange[]): Promise<MeterGrant[]> {
    if (exchanges.length === 0) return [];
    return this.#file.write((db) => {
      const now = Math.floor(this.#now());
      this.#sweeps.meters.step(db, now);
      return exchanges.map((exchange) => exchangeOne(db, exchange, now));
    });
  }

  async hold(replica: string, holds: readonly MeterHold[]): Promise<number[]> {
    if (holds.length === 0) return [];
    return this.#file.write((db) => {
      const now = Math.floor(this.#now());
      this.#sweeps.holds.step(db, now);
      return holds.map((hold) => holdOne(db, replica, hold, now));
    });
  }
}

function exchangeOne(db: Database, { meter, give, want, least }: MeterExchange, now: number): MeterGrant {
  const { id, capacity, refill } = meter;
  const [used = 0, time = now] = (db
    .prepare("SELECT used, time FROM meters WHERE id = ? AND expires >= ?")
    .get([id, now]) ?? []) as readonly number[];
  // A clock that has jumped backwards fills nothing, and fills on from where it is now.
  const filled = (Math.max(0, now - time) / 1000) * refill;
  const missing = Math.max(0, Math.max(0, used - filled) - give);
  const there = Math.min(want, Math.max(0, capacity - missing));
  const granted = there < least ? 0 : there;
  db.prepare(
    "INSERT INTO meters (id, used, time, expires) VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET used = excluded.used, time = excluded.time, expires = excluded.expires",
  ).run([id, missing + granted, now, Math.min(Number.MAX_SAFE_INTEGER, Math.ceil(meter.expires))]);
  return { granted, level: capacity - missing - granted };
}

function holdOne(db: Database, replica: string, { id, most, want }: MeterHold, now: number): number {
  // After a clock has jumped backwards, no place may be held for longer than it takes to be missed.
  db.prepare("UPDATE holds SET until = ? WHERE id = ? AND until > ?").run([now + holdTime, id, now + holdTime]);
  const [own, others] = db
    .prepare(
      "SELECT coalesce(sum(iif(replica = ?, count, 0)), 0), coalesce(sum(iif(replica = ?, 0, count)), 0) FROM holds WHERE id = ? AND until > ?",
    )
    .get([replica, replica, id, now]) as readonly [number, number];
  const held = Math.max(0, Math.min(want, Math.max(own, most - others)));
  db.prepare("REPLACE INTO holds (id, replica, count, until) VALUES (?, ?, ?, ?)").run([
    id,
    replica,
    held,
    now + holdTime,
  ]);
  return held;
}

/** Goes through all rows, a few at a time, again and again: an index over times that change with every call costs more. */
class Sweep {
  readonly #sql: { readonly end: string; readonly forget: string };
  #calls = 0;
  #after = "";

  constructor(sql: { readonly end: string; readonly forget: string }) {
    this.#sql = sql;
  }

  step(db: Database, now: number): void {
    if (this.#calls++ % callsBetween !== 0) return;
    const end = db.prepare(this.#sql.end).get([this.#after, lookedAt])?.[0];
    db.prepare(this.#sql.forget).run([this.#after, end === undefined ? "\uFFFF" : String(end), now]);
    this.#after = end === undefined ? "" : String(end);
  }
}
