import { holdTime, type MeterExchange, type MeterGrant, type MeterHold, type MeterStore } from "../state.ts";
import type { Database } from "./database.ts";
import type { StateFile } from "./state-file.ts";

/** Each call makes room for this many meters and holds that are over. */
const forgottenAtOnce = 20;

export class SqliteMeters implements MeterStore {
  readonly #file: StateFile;
  readonly #now: () => number;

  constructor(file: StateFile, now: () => number) {
    this.#file = file;
    this.#now = now;
  }

  async exchange(exchanges: readonly MeterExchange[]): Promise<MeterGrant[]> {
    if (exchanges.length === 0) return [];
    return this.#file.write((db) => {
      const now = Math.floor(this.#now());
      db.prepare(forgetMeters).run([now]);
      return exchanges.map((exchange) => exchangeOne(db, exchange, now));
    });
  }

  async hold(replica: string, holds: readonly MeterHold[]): Promise<number[]> {
    if (holds.length === 0) return [];
    return this.#file.write((db) => {
      const now = Math.floor(this.#now());
      db.prepare(forgetHolds).run([now]);
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
  db.prepare("REPLACE INTO meters (id, used, time, expires) VALUES (?, ?, ?, ?)").run([
    id,
    missing + granted,
    now,
    Math.min(Number.MAX_SAFE_INTEGER, Math.ceil(meter.expires)),
  ]);
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

const forgetMeters = `DELETE FROM meters WHERE id IN (SELECT id FROM meters WHERE expires < ? LIMIT ${forgottenAtOnce})`;
const forgetHolds = `DELETE FROM holds WHERE (id, replica) IN (SELECT id, replica FROM holds WHERE until < ? LIMIT ${forgottenAtOnce})`;
