import type { UsageBatch, UsageGroup, UsageRecord, UsageSum } from "../state.ts";

type Total = Omit<UsageSum, "group">;

/** The parts of a sum's name, in order; its day is the key that holds it. */
const parts: readonly UsageGroup[] = ["key", "model", "provider", "agent"];

/** The counts of a sum, in the order in which they are written. */
const counts: readonly (keyof Total)[] = [
  "requests",
  "failures",
  "promptTokens",
  "cachedTokens",
  "completionTokens",
  "spend",
  "duration",
];

type Field = Exclude<keyof UsageRecord, "key">;

/** What is written of a record, in this order, for ever: without their names, which would be half of it. What is new goes to the end. */
const written: Readonly<Record<Field, true>> = {
  id: true,
  time: true,
  path: true,
  model: true,
  provider: true,
  agent: true,
  promptTokens: true,
  cachedTokens: true,
  completionTokens: true,
  counted: true,
  spend: true,
  firstToken: true,
  duration: true,
  bytesIn: true,
  bytesOut: true,
  status: true,
  outcome: true,
  content: true,
};
const fields = Object.keys(written) as Field[];

/** A record as text that begins with its key, so that those of one key are found by their beginning. */
export function encodeRecord(batch: UsageBatch, turn: number): string {
  const record = batch.records[turn]!;
  const values = record.content === undefined ? fields.slice(0, -1) : fields;
  // The place in its journal tells records apart: calls may have the same id.
  const place = `${batch.writer} ${batch.sequence} ${turn}`;
  return `${recordBeginning(record.key)}${JSON.stringify([place, ...values.map((field) => record[field])]).slice(1)}`;
}

export function decodeRecord(text: string): UsageRecord {
  const [key, , ...values] = JSON.parse(text) as unknown[];
  const named = values.map((value, turn) => [fields[turn]!, value]);
  return { key, ...Object.fromEntries(named) } as UsageRecord;
}

/** How all records of that key begin. */
export function recordBeginning(key: string): string {
  return `[${JSON.stringify(key)},`;
}

/** The day of UTC, `2026-11-22`. */
export function toDay(time: number): string {
  return new Date(time).toISOString().slice(0, 10);
}

/** What the records add to each day's sums: day → name of the sum → counts. */
export function sumUp(records: readonly UsageRecord[]): Map<string, Map<string, number[]>> {
  const days = new Map<string, Map<string, number[]>>();
  for (const record of records) {
    const day = toDay(record.time);
    const sums = days.get(day) ?? new Map<string, number[]>();
    days.set(day, sums);
    const name = JSON.stringify([record.key, record.model, record.provider, record.agent]);
    const added = counts.map((count) => toCount(record, count));
    sums.set(name, sums.get(name)?.map((sum, turn) => sum + added[turn]!) ?? added);
  }
  return days;
}

/** Sums of a day as they are kept, added to those of a report. */
export class Report {
  readonly #by: readonly UsageGroup[];
  readonly #sums = new Map<string, { group: Record<string, string>; counts: number[] }>();

  constructor(by: readonly UsageGroup[]) {
    this.#by = by;
  }

  add(day: string, name: string, value: string, only: { readonly key?: string; readonly model?: string }): void {
    const values = JSON.parse(name) as string[];
    const group: Record<string, string> = { day, month: day.slice(0, 7) };
    for (const [turn, part] of parts.entries()) group[part] = values[turn]!;
    if (only.key !== undefined && only.key !== group["key"]) return;
    if (only.model !== undefined && only.model !== group["model"]) return;
    const asked = Object.fromEntries(this.#by.map((part) => [part, group[part]!]));
    const line = JSON.stringify(Object.values(asked));
    const added = value.split(" ").map(Number);
    const sum = this.#sums.get(line);
    if (sum === undefined) this.#sums.set(line, { group: asked, counts: added });
    else for (const [turn, count] of added.entries()) sum.counts[turn]! += count;
  }

  /** Lines in the order of their groups. */
  lines(): UsageSum[] {
    return [...this.#sums.values()]
      .toSorted((a, b) => this.#compare(a.group, b.group))
      .map((sum) => ({
        group: sum.group,
        ...(Object.fromEntries(counts.map((count, turn) => [count, sum.counts[turn]!])) as unknown as Total),
      }));
  }

  #compare(a: Record<string, string>, b: Record<string, string>): number {
    for (const part of this.#by) if (a[part] !== b[part]) return a[part]! < b[part]! ? -1 : 1;
    return 0;
  }
}

function toCount(record: UsageRecord, count: keyof Total): number {
  if (count === "requests") return 1;
  if (count === "failures") return record.outcome === "complete" ? 0 : 1;
  return record[count];
}
