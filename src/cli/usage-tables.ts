import type { UsageRecord } from "../state/state.ts";
import type { Report, Totals } from "../usage/report.ts";
import { toColumns } from "./columns.ts";

const countHeads = ["REQUESTS", "FAILED", "PROMPT", "CACHED", "ANSWER"] as const;
const numbers: ReadonlySet<string> = new Set([...countHeads, "SPEND", "FIRST", "SECONDS", "STATUS"]);

/** A report as a table with its total, or the one thing to know when there is nothing to show. */
export function reportLines({ query, sums, total, names }: Report): string[] {
  const span = query.from === query.to ? query.from : `${query.from} to ${query.to}`;
  if (sums.length === 0) return [`Nothing was used on ${span} (UTC).`];
  const priced = total.spend > 0;
  const groups = query.by.map((group) => group.toUpperCase());
  const rows = sums.map((sum) => [
    ...query.by.map((group) => {
      const value = sum.group[group] ?? "";
      return group === "key" ? keyText(value, names) : value || "-";
    }),
    ...countCells(sum, priced),
  ]);
  const last = [...query.by.map((_, at) => (at === 0 ? "total" : "")), ...countCells(total, priced)];
  const heads = [...groups, ...countHeads, ...(priced ? ["SPEND"] : [])];
  const lines = toColumns([heads, ...rows, last], numbers);
  return [`${span}, days of UTC`, "", ...lines.slice(0, -1), "", ...lines.slice(-1)];
}

/** Single calls as a table. */
export function recordLines(records: readonly UsageRecord[], names: ReadonlyMap<string, string>): string[] {
  if (records.length === 0) return ["No call is on record."];
  const priced = records.some(({ spend }) => spend > 0);
  const heads = ["TIME (UTC)", "KEY", "MODEL", "BY", "PROMPT", "CACHED", "ANSWER", "FIRST", "SECONDS", "STATUS", "END"];
  const rows = records.map((record) => [
    new Date(record.time).toISOString().slice(0, 19).replace("T", " "),
    keyText(record.key, names),
    record.model || "-",
    [record.provider, record.agent].filter((name) => name !== "").join(" ") || "-",
    formatNumber(record.promptTokens),
    formatNumber(record.cachedTokens),
    `${record.counted === "estimated" ? "~" : ""}${formatNumber(record.completionTokens)}`,
    record.firstToken === null ? "-" : seconds(record.firstToken),
    seconds(record.duration),
    String(record.status),
    record.outcome,
    ...(priced ? [formatMoney(record.spend)] : []),
  ]);
  return toColumns([[...heads, ...(priced ? ["SPEND"] : [])], ...rows], numbers);
}

function countCells(sum: Totals, priced: boolean): string[] {
  const counts = [sum.requests, sum.failures, sum.promptTokens, sum.cachedTokens, sum.completionTokens];
  return [...counts.map(formatNumber), ...(priced ? [formatMoney(sum.spend)] : [])];
}

function keyText(id: string, names: ReadonlyMap<string, string>): string {
  const name = names.get(id);
  return name === undefined ? id || "-" : `${name} (${id})`;
}

/** `1,234,567`. */
function formatNumber(value: number): string {
  return String(Math.round(value)).replace(/\B(?=(?:\d{3})+$)/g, ",");
}

/** Millionths as `1,234.5678`; what would look like nothing is said to be little. */
function formatMoney(millionths: number): string {
  if (millionths > 0 && millionths < 50) return "<0.0001";
  const [whole = "", part] = (millionths / 1e6).toFixed(4).split(".");
  return `${formatNumber(Number(whole))}.${part}`;
}

function seconds(milliseconds: number): string {
  return (milliseconds / 1000).toFixed(2);
}
