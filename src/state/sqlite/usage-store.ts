import { setImmediate as yieldToOthers } from "node:timers/promises";
import type { UsageBatch, UsageQuery, UsageRecord, UsageStore, UsageSum } from "../state.ts";
import { countRecords } from "./counters.ts";
import type { Database } from "./database.ts";
import type { StateFile } from "./state-file.ts";
import { Texts } from "./texts.ts";
import { insertBatch, listRecords } from "./usage-batches.ts";
import { addUp, type RecordIds, toRecordRow, toWhole } from "./usage-rows.ts";
import { reportSums } from "./usage-sums.ts";
import { trimUsage } from "./usage-trim.ts";

/** Keys looked up in one go before others get their turn. */
const step = 500;
/** Records of a batch that the very first step adds, and the least and the most of each; and milliseconds that one should take. */
const steps = { first: 150, least: 50, most: 2000 };
const stepTime = 8;

export class SqliteUsage implements UsageStore {
  readonly #file: StateFile;
  readonly #texts = new Texts();
  #adding: Promise<unknown> = Promise.resolve();
  /** Records of the next step: as many as were quick enough lately. */
  #step = steps.first;

  constructor(file: StateFile) {
    this.#file = file;
  }

  /**
   * A large batch goes in by several steps. How far it has come is written with them: one that was cut short is completed
   * by whoever adds it again.
   */
  add(batch: UsageBatch): Promise<boolean> {
    // Not a step of the next one before the last of this.
    const adding = this.#adding.then(() => this.#add(batch));
    this.#adding = adding.catch(() => undefined);
    return adding;
  }

  async #add(batch: UsageBatch): Promise<boolean> {
    for (;;) {
      const start = performance.now();
      const size = this.#step;
      const added = await this.#file.write((db) => addStep(db, this.#texts, batch, size));
      if (added === undefined) return false;
      this.#texts.remember(added.db, added.fresh);
      // A step that was not full says nothing of how long a full one takes.
      if (added.count === size) {
        const pace = stepTime / Math.max(0.1, performance.now() - start);
        const next = Math.floor(size * Math.max(0.25, Math.min(4, pace)));
        this.#step = Math.max(steps.least, Math.min(steps.most, next));
      }
      if (added.isLast) return true;
      await yieldToOthers();
    }
  }

  lastSequence(writer: string): Promise<number> {
    return this.#file.read((db) => lastSequence(db, writer));
  }

  sums(query: UsageQuery): Promise<UsageSum[]> {
    return reportSums(this.#file, this.#texts, query);
  }

  list(query: { before?: number; key?: string; limit: number }): Promise<UsageRecord[]> {
    return listRecords(this.#file, this.#texts, query);
  }

  async lastUsed(keys: readonly string[]): Promise<ReadonlyMap<string, number>> {
    const found = new Map<string, number>();
    for (let from = 0; from < keys.length; from += step) {
      await this.#file.read((db) => {
        for (const key of keys.slice(from, from + step)) {
          const row = db
            .prepare("SELECT time FROM last_used WHERE key = (SELECT id FROM texts WHERE text = ?)")
            .get([key]);
          if (row !== undefined) found.set(key, Number(row[0]));
        }
      });
      await yieldToOthers();
    }
    return found;
  }

  trim(bounds: { before: number; most: number; sumsBefore: number }): Promise<number> {
    return trimUsage(this.#file, bounds);
  }
}

function lastSequence(db: Database, writer: string): number {
  return Number(db.prepare("SELECT sequence FROM writers WHERE name = ?").get([writer])?.[0] ?? 0);
}

interface Added {
  readonly db: Database;
  /** Texts that are new. */
  readonly fresh: Map<string, number>;
  readonly count: number;
  readonly isLast: boolean;
}

/** Adds the next `size` records of the batch. Undefined: all of it was added before. */
function addStep(
  db: Database,
  texts: Texts,
  { writer, sequence, records }: UsageBatch,
  size: number,
): Added | undefined {
  const row = db.prepare("SELECT sequence, begun, done FROM writers WHERE name = ?").get([writer]);
  const [last, begun, done] = (row ?? [0, 0, 0]) as readonly [number, number, number];
  if (sequence <= last) return undefined;
  const from = begun === sequence ? done : 0;
  const part = records.slice(from, from + size);
  const isLast = from + part.length >= records.length;
  const values = isLast ? [writer, sequence, 0, 0] : [writer, last, sequence, from + part.length];
  db.prepare("REPLACE INTO writers (name, sequence, begun, done) VALUES (?, ?, ?, ?)").run(values);
  return { db, fresh: addRecords(db, texts, part), count: part.length, isLast };
}

/** Returns the texts that are new. */
function addRecords(db: Database, texts: Texts, records: readonly UsageRecord[]): Map<string, number> {
  const fresh = new Map<string, number>();
  if (records.length === 0) return fresh;
  const take = (text: string): number => texts.take(db, text, fresh);
  const ids = records.map(({ key, path, model, provider, agent }): RecordIds => {
    return { key: take(key), path: take(path), model: take(model), provider: take(provider), agent: take(agent) };
  });
  insertBatch(
    db,
    records.map((record, index) => toRecordRow(record, ids[index]!)),
  );
  countRecords(db, records.length);
  const addSums = db.prepare(upsertSums);
  for (const { group, values } of addUp(records, ids)) addSums.run([...group, ...values]);
  const touch = db.prepare(upsertLastUsed);
  const used = new Map<number, number>();
  for (const [index, { key }] of ids.entries())
    used.set(key, Math.max(used.get(key) ?? 0, toWhole(records[index]!.time)));
  for (const [key, time] of used) touch.run([key, time]);
  return fresh;
}

const upsertSums =
  "INSERT INTO sums VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET requests = requests + excluded.requests, " +
  "failures = failures + excluded.failures, prompt_tokens = prompt_tokens + excluded.prompt_tokens, " +
  "cached_tokens = cached_tokens + excluded.cached_tokens, completion_tokens = completion_tokens + excluded.completion_tokens, " +
  "spend = spend + excluded.spend, duration = duration + excluded.duration";

const upsertLastUsed = "INSERT INTO last_used VALUES (?, ?) ON CONFLICT DO UPDATE SET time = max(time, excluded.time)";
