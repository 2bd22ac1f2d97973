import type { UsageRecord } from "../state.ts";
import type { Database } from "./database.ts";
import type { Texts } from "./texts.ts";

const counted = ["reported", "tokenized", "estimated"] as const;
const outcomes = ["complete", "left", "failed", "refused"] as const;
/** Milliseconds. */
const day = 86_400_000;

/** A row of `sums`. */
export interface SumRow {
  /** Day, and numbers of key, model, provider and agent. */
  readonly group: readonly number[];
  /** requests, failures, tokens of prompt, cache and completion, spend, duration. */
  readonly values: number[];
}

/** The numbers of a record's texts. */
export interface RecordIds {
  readonly key: number;
  readonly path: number;
  readonly model: number;
  readonly provider: number;
  readonly agent: number;
}

/** A record in its batch: its time, its id, the numbers of its texts, its figures, and what was said where that is kept. */
export type RecordRow = readonly (string | number | null)[];

/** Days since 1970, of UTC. */
export function toDay(time: number): number {
  return Math.floor(time / day);
}

export function fromDay(days: number): string {
  return new Date(days * day).toISOString().slice(0, 10);
}

export function toRecordRow(record: UsageRecord, ids: RecordIds): RecordRow {
  const { id, firstToken, content } = record;
  const row = [
    toWhole(record.time),
    id,
    ids.key,
    ids.path,
    ids.model,
    ids.provider,
    ids.agent,
    toWhole(record.promptTokens),
    toWhole(record.cachedTokens),
    toWhole(record.completionTokens),
    counted.indexOf(record.counted),
    toWhole(record.spend),
    firstToken === null ? null : toWhole(firstToken),
    toWhole(record.duration),
    toWhole(record.bytesIn),
    toWhole(record.bytesOut),
    toWhole(record.status),
    outcomes.indexOf(record.outcome),
  ];
  if (content !== undefined) row.push(content.request, content.reply);
  return row;
}

/** When a record's call came. */
export function timeOf(row: RecordRow): number {
  return row[0] as number;
}

/** The number of a record's key. */
export function keyOf(row: RecordRow): number {
  return row[2] as number;
}

export function fromRecordRow(db: Database, texts: Texts, row: RecordRow): UsageRecord {
  const [time, id, key, path, model, provider, agent, promptTokens, cachedTokens, completionTokens] = row as number[];
  const [how, spend, firstToken, duration, bytesIn, bytesOut, status, end] = row.slice(10) as number[];
  const [request, reply] = row.slice(18);
  return {
    id: String(id),
    time: time!,
    key: texts.read(db, key!),
    path: texts.read(db, path!),
    model: texts.read(db, model!),
    provider: texts.read(db, provider!),
    agent: texts.read(db, agent!),
    promptTokens: promptTokens!,
    cachedTokens: cachedTokens!,
    completionTokens: completionTokens!,
    counted: counted[how!] ?? "estimated",
    spend: spend!,
    firstToken: firstToken as number | null,
    duration: duration!,
    bytesIn: bytesIn!,
    bytesOut: bytesOut!,
    status: status!,
    outcome: outcomes[end!] ?? "failed",
    ...(reply === undefined ? {} : { content: { request: String(request), reply: String(reply) } }),
  };
}

/** What the records of one batch add to the sums, one row for each that changes. */
export function addUp(records: readonly UsageRecord[], ids: readonly RecordIds[]): SumRow[] {
  const rows = new Map<string, SumRow>();
  for (const [index, record] of records.entries()) {
    const { key, model, provider, agent } = ids[index]!;
    const group = [toDay(record.time), key, model, provider, agent];
    const name = group.join();
    let row = rows.get(name);
    if (row === undefined) rows.set(name, (row = { group, values: [0, 0, 0, 0, 0, 0, 0] }));
    const { values } = row;
    values[0]! += 1;
    values[1]! += record.outcome === "complete" ? 0 : 1;
    values[2]! += toWhole(record.promptTokens);
    values[3]! += toWhole(record.cachedTokens);
    values[4]! += toWhole(record.completionTokens);
    values[5]! += toWhole(record.spend);
    values[6]! += toWhole(record.duration);
  }
  return [...rows.values()];
}

/** Far more than any count, time or price of one call; so many add up without a loss. */
const mostWhole = 1e13;

/** A value that no column takes would stop all records that come after it. */
export function toWhole(value: number): number {
  if (Number.isNaN(value)) return 0;
  return Math.max(-mostWhole, Math.min(mostWhole, Math.round(value)));
}
