import { ApiError } from "../core/errors.ts";
import type { KeyStore, State, UsageGroup, UsageQuery, UsageRecord, UsageSum } from "../state/state.ts";
import { usageGroups } from "../state/state.ts";
import { encodeCsv } from "./csv.ts";

/** What is asked of a report, as it was written; absent: the usual. */
export interface ReportWords {
  readonly from?: string | undefined;
  readonly to?: string | undefined;
  readonly by?: string | undefined;
  readonly key?: string | undefined;
  readonly model?: string | undefined;
}

/** The sums of one report. */
export interface Report {
  readonly query: UsageQuery;
  readonly sums: readonly UsageSum[];
  readonly total: Totals;
  /** Names of the managed keys in it, by id. */
  readonly names: ReadonlyMap<string, string>;
}

export type Totals = Omit<UsageSum, "group">;

/** Lines that a report may have. */
const mostLines = 100_000;
/** Keys that are asked for one by one rather than all at once. */
const fewKeys = 200;

/** Sums by what was asked; this month by day and model, where nothing was. Throws `invalid_value` naming the word. */
export async function readReport(state: State, words: ReportWords, now = Date.now()): Promise<Report> {
  const query = toQuery({ ...words, key: await keyId(state.keys, words.key) }, now);
  const sums = await state.usage.sums(query);
  if (sums.length > mostLines)
    throw new ApiError("invalid_value", `that is ${sums.length} lines; ask for fewer days, or group by less`, {
      param: "by",
    });
  const ids = new Set(sums.flatMap(({ group }) => group.key ?? []));
  return { query, sums, total: toTotals(sums), names: await keyNames(state.keys, ids) };
}

/** Names of keys by their ids; those of no managed key are not in it. */
export async function keyNames(keys: KeyStore, ids: ReadonlySet<string>): Promise<ReadonlyMap<string, string>> {
  if (ids.size === 0) return new Map();
  const found =
    ids.size > fewKeys ? (await keys.since(0)).keys : await Promise.all([...ids].map((id) => keys.find(id)));
  return new Map(found.flatMap((key) => (key !== undefined && ids.has(key.id) ? [[key.id, key.name]] : [])));
}

/** A key's id, of its id or name; what no managed key is called stays as it is. */
export async function keyId(keys: KeyStore, idOrName: string | undefined): Promise<string | undefined> {
  if (idOrName === undefined) return undefined;
  return (await keys.find(idOrName))?.id ?? idOrName;
}

/** One line for each sum: its groups, then counts; spend in the currency, duration in seconds. */
export function reportCsv({ query, sums, names }: Report): string {
  const groups = query.by.flatMap((group) => (group === "key" ? ["key", "key_name"] : [group]));
  const heads = "requests failures prompt_tokens cached_tokens completion_tokens spend seconds".split(" ");
  const rows = sums.map((sum) => [
    ...query.by.flatMap((group) => {
      const value = sum.group[group] ?? "";
      return group === "key" ? [value, names.get(value) ?? ""] : [value];
    }),
    sum.requests,
    sum.failures,
    sum.promptTokens,
    sum.cachedTokens,
    sum.completionTokens,
    sum.spend / 1e6,
    sum.duration / 1000,
  ]);
  return encodeCsv([[...groups, ...heads], ...rows]);
}

const recordFields = [
  "id",
  "key",
  "path",
  "model",
  "provider",
  "agent",
  "promptTokens",
  "cachedTokens",
  "completionTokens",
  "counted",
  "firstToken",
  "duration",
  "bytesIn",
  "bytesOut",
  "status",
  "outcome",
] as const satisfies readonly (keyof UsageRecord)[];

/** One line for each call, without what was said in it; times in milliseconds, spend in the currency. */
export function recordsCsv(records: readonly UsageRecord[]): string {
  const rows = records.map((record) => [
    new Date(record.time).toISOString(),
    ...recordFields.map((field) => record[field] ?? ""),
    record.spend / 1e6,
  ]);
  return encodeCsv([["time", ...recordFields, "spend"], ...rows]);
}

function toQuery({ from, to, by = "day,model", key, model }: ReportWords, now: number): UsageQuery {
  const today = new Date(now).toISOString().slice(0, 10);
  const last = to === undefined ? today : toDay(to, "to");
  const first = from === undefined ? `${last.slice(0, 8)}01` : toDay(from, "from");
  if (first > last) throw new ApiError("invalid_value", `from ${first} to ${last} has no day`, { param: "from" });
  return {
    from: first,
    to: last,
    by: toGroups(by),
    ...(key === undefined ? {} : { key }),
    ...(model === undefined ? {} : { model }),
  };
}

function toDay(text: string, param: string): string {
  const valid = /^\d{4}-\d\d-\d\d$/.test(text) && !Number.isNaN(Date.parse(text));
  // 2026-02-30 is read as a day of March.
  if (valid && new Date(text).toISOString().startsWith(text)) return text;
  throw new ApiError("invalid_value", `${param} wants a day such as 2026-11-22, not ${shown(text)}`, { param });
}

function toGroups(text: string): UsageGroup[] {
  const words = text.split(",").map((word) => word.trim());
  const groups = usageGroups.filter((group) => words.includes(group));
  if (groups.length === words.length) return words as UsageGroup[];
  const stranger = words.find((word, at) => !usageGroups.some((group) => group === word) || words.indexOf(word) !== at);
  throw new ApiError(
    "invalid_value",
    `by wants some of ${usageGroups.join(", ")}, each once, not ${shown(stranger ?? "")}`,
    {
      param: "by",
    },
  );
}

function shown(text: string): string {
  return JSON.stringify(text.slice(0, 40));
}

function toTotals(sums: readonly UsageSum[]): Totals {
  const total = {
    requests: 0,
    failures: 0,
    promptTokens: 0,
    cachedTokens: 0,
    completionTokens: 0,
    spend: 0,
    duration: 0,
  };
  for (const sum of sums) for (const field of Object.keys(total) as (keyof Totals)[]) total[field] += sum[field];
  return total;
}
