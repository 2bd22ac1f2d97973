import { setImmediate as yieldToOthers } from "node:timers/promises";
import { StateError, type UsageGroup, type UsageQuery, type UsageSum } from "../state.ts";
import type { Database } from "./database.ts";
import type { StateFile } from "./state-file.ts";
import type { Texts } from "./texts.ts";
import { fromDay, toDay } from "./usage-rows.ts";

/** Rows added up in one go, a few milliseconds long, before others get their turn. */
const step = 3000;
/** Milliseconds that several short steps may take together. */
const stepTime = 5;

/** A part of the sums of one day: those of the keys after one number, and up to another. */
interface Slice {
  readonly day: number;
  readonly after: number;
  readonly upTo: number;
}

interface Line {
  /** In the order of `Plan.columns`. */
  readonly group: readonly number[];
  readonly values: number[];
}

type Column = Exclude<UsageGroup, "month">;

interface Plan {
  /** By which SQLite groups: the asked ones, with the day in place of the month. */
  readonly columns: readonly Column[];
  readonly key: number | undefined;
  readonly model: number | undefined;
}

/** Adds up the sums of the days between, in steps that leave others their turn. Throws `StateError` when a day is none. */
export async function reportSums(file: StateFile, texts: Texts, query: UsageQuery): Promise<UsageSum[]> {
  const [from, to] = [parseDay(query.from), parseDay(query.to)];
  const plan = await file.read((db) => toPlan(db, texts, query));
  if (plan === undefined) return [];
  const report: Report = { plan, lines: new Map(), query, to };
  let slice: Slice | undefined = { day: from, after: -1, upTo: -1 };
  while (slice !== undefined) {
    const start: Slice = slice;
    slice = await file.read((db) => addSlices(db, report, start));
    await yieldToOthers();
  }
  return toSums(file, texts, report);
}

interface Report {
  readonly plan: Plan;
  readonly lines: Map<string, Line>;
  readonly query: UsageQuery;
  readonly to: number;
}

/** Adds slices from there on until its time is over. Returns where to go on; undefined: that was all. */
function addSlices(db: Database, report: Report, from: Slice): Slice | undefined {
  const until = performance.now() + stepTime;
  let slice = nextSlice(db, report, from);
  while (slice !== undefined) {
    addSlice(db, report, slice);
    if (performance.now() > until) return { ...slice, after: slice.upTo };
    slice = nextSlice(db, report, { ...slice, after: slice.upTo });
  }
  return undefined;
}

/** The next slice that has rows, after the keys that were done. */
function nextSlice(db: Database, { plan, to }: Report, { day, after }: Slice): Slice | undefined {
  if (after !== -1) {
    const rest = plan.key === undefined ? sliceOf(db, day, after) : undefined;
    if (rest !== undefined) return rest;
    day++;
  }
  const found = db.prepare("SELECT day FROM sums WHERE day BETWEEN ? AND ? ORDER BY day LIMIT 1").get([day, to]);
  if (found === undefined) return undefined;
  const next = Number(found[0]);
  return plan.key === undefined ? sliceOf(db, next, -1) : { day: next, after: plan.key - 1, upTo: plan.key };
}

function sliceOf(db: Database, day: number, after: number): Slice | undefined {
  const rest = "FROM sums WHERE day = ? AND key > ?";
  const row =
    db.prepare(`SELECT key ${rest} ORDER BY key LIMIT 1 OFFSET ${step}`).get([day, after]) ??
    db.prepare(`SELECT max(key) ${rest}`).get([day, after]);
  const key = row?.[0] ?? null;
  return key === null ? undefined : { day, after, upTo: Number(key) };
}

function addSlice(db: Database, { plan, lines, query }: Report, { day, after, upTo }: Slice): void {
  const { columns, model } = plan;
  const groups = columns.join(", ");
  const sums =
    "sum(requests), sum(failures), sum(prompt_tokens), sum(cached_tokens), sum(completion_tokens), sum(spend), sum(duration)";
  const rows = db
    .prepare(
      `SELECT ${groups}${groups === "" ? "" : ", "}${sums} FROM sums WHERE day = ? AND key > ? AND key <= ?` +
        `${model === undefined ? "" : " AND model = ?"}${groups === "" ? " HAVING count(*) > 0" : ` GROUP BY ${groups}`}`,
    )
    .all([day, after, upTo, ...(model === undefined ? [] : [model])]);
  const isByMonth = query.by.includes("month") && !query.by.includes("day");
  for (const row of rows) addLine(lines, columns, row as readonly number[], isByMonth);
}

function addLine(lines: Map<string, Line>, columns: Plan["columns"], row: readonly number[], isByMonth: boolean): void {
  const group = row.slice(0, columns.length);
  const day = columns.indexOf("day");
  if (isByMonth) group[day] = firstOfMonth(group[day]!);
  const name = group.join();
  const line = lines.get(name);
  const values = row.slice(columns.length);
  if (line === undefined) lines.set(name, { group, values });
  else for (const [index, value] of values.entries()) line.values[index]! += value;
}

/** Undefined: nothing can be found, for the key or model is in no row. */
function toPlan(db: Database, texts: Texts, { by, key, model }: UsageQuery): Plan | undefined {
  const ids = {
    key: key === undefined ? undefined : texts.find(db, key),
    model: model === undefined ? undefined : texts.find(db, model),
  };
  if ((key !== undefined && ids.key === undefined) || (model !== undefined && ids.model === undefined))
    return undefined;
  return { columns: [...new Set(by.map(toColumn))], ...ids };
}

async function toSums(file: StateFile, texts: Texts, { query, plan, lines: found }: Report): Promise<UsageSum[]> {
  const [{ by }, lines] = [query, [...found.values()]];
  const sums: UsageSum[] = [];
  for (let from = 0; from < lines.length; from += step) {
    await file.read((db) => {
      for (const { group, values } of lines.slice(from, from + step)) {
        const named = by.map(
          (part) => [part, nameOf(db, texts, part, group[plan.columns.indexOf(toColumn(part))]!)] as const,
        );
        sums.push({ group: Object.fromEntries(named), ...toCounts(values) });
      }
    });
    await yieldToOthers();
  }
  return sums.sort((a, b) => compare(a, b, by));
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
  return part === "month" ? fromDay(value).slice(0, "2026-11".length) : texts.read(db, value);
}

function toColumn(group: UsageGroup): Column {
  return group === "month" ? "day" : group;
}

function compare(a: UsageSum, b: UsageSum, by: readonly UsageGroup[]): number {
  for (const part of by) {
    const [left, right] = [a.group[part]!, b.group[part]!];
    if (left !== right) return left < right ? -1 : 1;
  }
  return 0;
}

function firstOfMonth(day: number): number {
  const date = new Date(fromDay(day));
  return toDay(date.setUTCDate(1));
}

function parseDay(text: string): number {
  const time = /^\d{4}-\d\d-\d\d$/.test(text) ? Date.parse(text) : Number.NaN;
  if (Number.isNaN(time)) throw new StateError(`"${text}" is no day; write it as 2026-11-22`);
  return toDay(time);
}
