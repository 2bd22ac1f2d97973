import { setImmediate as yieldToOthers } from "node:timers/promises";
import { StateError, type UsageGroup, type UsageQuery, type UsageSum } from "../state.ts";
import type { Database } from "./database.ts";
import type { StateFile } from "./state-file.ts";
import type { Texts } from "./texts.ts";
import { fromDay, toDay } from "./usage-rows.ts";

/** Milliseconds that one step should take, before others get their turn. */
const stepTime = 6;
/** Lines that get their names in one step. */
const linesAtOnce = 1000;

type Column = Exclude<UsageGroup, "month">;

interface Report {
  /** What SQLite groups by: the asked groups, with the day in place of the month. */
  readonly columns: readonly Column[];
  /** Adds up those of one period: what comes after that key, up to and with another. */
  readonly sql: string;
  readonly model: readonly number[];
  /** By the numbers of their groups. */
  readonly lines: Map<string, Line>;
}

interface Line {
  /** In the order of the columns. */
  readonly group: readonly number[];
  readonly values: number[];
}

/** Keys as numbers: those after the first one, up to and with the second. */
interface Span {
  readonly after: number;
  readonly upTo: number;
}

/** Adds up the sums of the days between, in steps that leave others their turn. Throws `StateError` when a day is none. */
export async function reportSums(file: StateFile, texts: Texts, query: UsageQuery): Promise<UsageSum[]> {
  const [from, to] = [parseDay(query.from), parseDay(query.to)];
  const [keys, model] = await file.read((db) => [spanOf(db, texts, query.key), find(db, texts, query.model)] as const);
  if (keys === undefined || (query.model !== undefined && model === undefined)) return [];
  const columns = [...new Set(query.by.map(toColumn))];
  const models = model === undefined ? [] : [model];
  const report: Report = { columns, sql: toSql(columns, models.length > 0), model: models, lines: new Map() };
  for (const period of toPeriods(await file.read((db) => readDays(db, from, to)), query.by)) {
    await addPeriod(file, report, period, keys);
  }
  return toSums(file, texts, query.by, report);
}

/** By spans of keys, as many at a time as fit into a step. */
async function addPeriod(file: StateFile, report: Report, days: readonly number[], keys: Span): Promise<void> {
  let width = 50;
  for (let after = keys.after; after < keys.upTo;) {
    const span = { after, upTo: Math.min(keys.upTo, after + width) };
    const start = performance.now();
    await file.read((db) => addSpan(db, report, days, span));
    const pace = stepTime / Math.max(0.01, performance.now() - start);
    width = Math.max(1, Math.floor(width * Math.max(0.25, Math.min(4, pace))));
    after = span.upTo;
    await yieldToOthers();
  }
}

function addSpan(db: Database, { sql, columns, model, lines }: Report, days: readonly number[], keys: Span): void {
  const rows = db.prepare(sql).all([JSON.stringify(days), keys.after, keys.upTo, ...model]);
  for (const row of rows as (readonly number[])[]) {
    const group = row.slice(0, columns.length);
    // All days of a period count as its first one.
    const day = columns.indexOf("day");
    if (day !== -1) group[day] = days[0]!;
    const name = group.join();
    const [line, values] = [lines.get(name), row.slice(columns.length)];
    if (line === undefined) lines.set(name, { group, values });
    else for (const [index, value] of values.entries()) line.values[index]! += value;
  }
}

function toSql(columns: readonly Column[], isOfModel: boolean): string {
  const groups = columns.filter((column) => column !== "day").join(", ");
  const named = columns.map((column) => (column === "day" ? "0, " : `${column}, `)).join("");
  return (
    // Not sum(): node:sqlite throws at integers from 2^53 on.
    `SELECT ${named}total(requests), total(failures), total(prompt_tokens), total(cached_tokens), total(completion_tokens), ` +
    "total(spend), total(duration) FROM sums WHERE day IN (SELECT value FROM json_each(?)) AND key > ? AND key <= ?" +
    `${isOfModel ? " AND model = ?" : ""}${groups === "" ? " HAVING count(*) > 0" : ` GROUP BY ${groups}`}`
  );
}

/** The days that have sums. */
function readDays(db: Database, from: number, to: number): number[] {
  const days: number[] = [];
  const next = db.prepare("SELECT day FROM sums WHERE day > ? AND day <= ? ORDER BY day LIMIT 1");
  for (let row = next.get([from - 1, to]); row !== undefined; row = next.get([row[0]!, to])) days.push(Number(row[0]));
  return days;
}

/** Days that come into the same lines. */
function toPeriods(days: readonly number[], by: readonly UsageGroup[]): readonly (readonly number[])[] {
  if (days.length === 0) return [];
  if (by.includes("day")) return days.map((day) => [day]);
  if (!by.includes("month")) return [days];
  const months = new Map<string, number[]>();
  for (const day of days) {
    const month = toMonth(day);
    const found = months.get(month);
    if (found === undefined) months.set(month, [day]);
    else found.push(day);
  }
  return [...months.values()];
}

/** All keys, or the one that is asked for; undefined: it is in no row. */
function spanOf(db: Database, texts: Texts, key: string | undefined): Span | undefined {
  if (key === undefined) return { after: 0, upTo: Number(db.prepare("SELECT max(id) FROM texts").get()?.[0] ?? 0) };
  const id = texts.find(db, key);
  return id === undefined ? undefined : { after: id - 1, upTo: id };
}

function find(db: Database, texts: Texts, text: string | undefined): number | undefined {
  return text === undefined ? undefined : texts.find(db, text);
}

async function toSums(
  file: StateFile,
  texts: Texts,
  by: readonly UsageGroup[],
  { columns, lines }: Report,
): Promise<UsageSum[]> {
  const sums: { readonly order: string; readonly sum: UsageSum }[] = [];
  const all = [...lines.values()];
  for (let from = 0; from < all.length; from += linesAtOnce) {
    await file.read((db) => {
      for (const { group, values } of all.slice(from, from + linesAtOnce)) {
        const named = by.map(
          (part) => [part, nameOf(db, texts, part, group[columns.indexOf(toColumn(part))]!)] as const,
        );
        const order = named.map(([, name]) => name).join("\0");
        sums.push({ order, sum: { group: Object.fromEntries(named), ...toCounts(values) } });
      }
    });
    await yieldToOthers();
  }
  return sums.sort((a, b) => (a.order < b.order ? -1 : 1)).map(({ sum }) => sum);
}

function toCounts(values: readonly number[]): Omit<UsageSum, "group"> {
  const [requests, failures, promptTokens, cachedTokens, completionTokens, spend, duration] = values;
  return {
    requests: requests!,
    failures: failures!,
    promptTokens: promptTokens!,
    cachedTokens: cachedTokens!,
    completionTokens: completionTokens!,
    spend: spend!,
    duration: duration!,
  };
}

function nameOf(db: Database, texts: Texts, part: UsageGroup, value: number): string {
  if (part === "day") return fromDay(value);
  return part === "month" ? toMonth(value) : texts.read(db, value);
}

function toColumn(group: UsageGroup): Column {
  return group === "month" ? "day" : group;
}

function toMonth(day: number): string {
  return fromDay(day).slice(0, "2026-11".length);
}

function parseDay(text: string): number {
  const time = /^\d{4}-\d\d-\d\d$/.test(text) ? Date.parse(text) : Number.NaN;
  if (Number.isNaN(time)) throw new StateError(`"${text}" is no day; write it as 2026-11-22`);
  return toDay(time);
}
