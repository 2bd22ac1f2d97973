import type { UsageRecord } from "../state.ts";
import type { Database, Row, Value } from "./database.ts";
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

export const recordColumns =
  "time, sequence, id, key, path, model, provider, agent, prompt_tokens, cached_tokens, completion_tokens, counted, spend, " +
  "first_token, duration, bytes_in, bytes_out, status, outcome";

/** Days since 1970, of UTC. */
export function toDay(time: number): number {
  return Math.floor(time / day);
}

export function fromDay(days: number): string {
  return new Date(days * day).toISOString().slice(0, 10);
}

export function toRecordRow(record: UsageRecord, ids: RecordIds, sequence: number): Value[] {
  return [
    toWhole(record.time),
    sequence,
    toIdColumn(record.id),
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
    record.firstToken === null ? null : toWhole(record.firstToken),
    toWhole(record.duration),
    toWhole(record.bytesIn),
    toWhole(record.bytesOut),
    toWhole(record.status),
    outcomes.indexOf(record.outcome),
  ];
}

export function fromRecordRow(db: Database, texts: Texts, row: Row): UsageRecord {
  const [time, sequence, id, key, path, model, provider, agent] = row as readonly number[];
  const [
    promptTokens,
    cachedTokens,
    completionTokens,
    how,
    spend,
    firstToken,
    duration,
    bytesIn,
    bytesOut,
    status,
    end,
  ] = row.slice(8) as readonly number[];
  const content = db
    .prepare("SELECT request, reply FROM contents WHERE time = ? AND sequence = ?")
    .get([time!, sequence!]);
  return {
    id: fromIdColumn(id as unknown as Value),
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
    ...(content && { content: { request: String(content[0]), reply: String(content[1]) } }),
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

/** A record with a value that no column takes would stop all that come after it. */
export function toWhole(value: number): number {
  if (Number.isNaN(value)) return 0;
  return Math.max(-mostWhole, Math.min(mostWhole, Math.round(value)));
}

const uuid = /^[\da-f]{8}(?:-[\da-f]{4}){3}-[\da-f]{12}$/;

/** Calls have a UUID, unless the caller brought another name: as bytes it takes less than half of the room. */
function toIdColumn(id: string): Value {
  return uuid.test(id) ? Buffer.from(id.replaceAll("-", ""), "hex") : id;
}

function fromIdColumn(id: Value): string {
  if (!Buffer.isBuffer(id)) return String(id);
  const hex = id.toString("hex");
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join("-");
}
