import { writeFileSync } from "node:fs";
import type { Verdict } from "./goals.ts";
import type { BenchOptions } from "./options.ts";
import { type FigureTitles, median, type Results } from "./results.ts";

/** What a bench has found. */
export interface Report {
  readonly machine: Record<string, string>;
  /** As `figureTable` makes it. */
  readonly table: string;
  readonly values: Results<string>["values"];
  readonly verdicts: readonly Verdict[];
  /** How it was run, for the JSON. */
  readonly settings: Record<string, unknown>;
}

/** Prints a report, writes it as JSON where that was asked for, and returns the bench's exit status. */
export function publish(report: Report, options: BenchOptions<string>): number {
  const { machine, table, values, verdicts } = report;
  console.log(`\n${machineTable(machine)}\n\n${table}\n`);
  if (verdicts.length > 0) console.log(`${verdictTable(verdicts)}\n`);
  if (options.quick) console.log("--quick: one short round, a look and not a result.\n");
  if (options.json !== undefined) {
    const settings = {
      quick: options.quick,
      rounds: options.rounds,
      measures: options.measures,
      ...report.settings,
    };
    writeFileSync(options.json, `${JSON.stringify({ machine, settings, values, verdicts }, null, 2)}\n`);
  }
  return verdicts.some((verdict) => verdict.result === "MISS") ? 1 : 0;
}

/** A Markdown table of the machine. */
function machineTable(machine: Record<string, string>): string {
  return toTable(["", ""], Object.entries(machine));
}

/** A Markdown table: one row per figure, one column per contender, each cell `median (min–max)`; ratios of lair to its rivals. */
export function figureTable<Figure extends string>(
  titles: FigureTitles & Record<Figure, unknown>,
  results: Results<Figure>,
  names: readonly string[],
): string {
  const seen = (Object.keys(titles) as Figure[]).filter((figure) => results.values[figure] !== undefined);
  const columns = names.filter((name) => seen.some((figure) => results.of(figure, name).length > 0));
  const rivals = columns.includes("lair") ? columns.filter((name) => name !== "lair" && name !== "direct") : [];
  const rows = seen.map((figure) => {
    const [title, decimals] = titles[figure];
    return [
      title,
      ...columns.map((name) => cell(results.of(figure, name), decimals)),
      ...rivals.map((rival) => ratio(results.of(figure, "lair"), results.of(figure, rival))),
    ];
  });
  return toTable(["median (min–max)", ...columns, ...rivals.map((rival) => `lair / ${rival}`)], rows);
}

/** A Markdown table of what is promised and what was reached. */
function verdictTable(verdicts: readonly Verdict[]): string {
  const rows = verdicts.map(({ title, value, range, better, must, aim, unit, result }) => {
    const sign = better === "higher" ? "≥" : "≤";
    const spread = range === null || range[0] === range[1] ? "" : ` (${round(range[0])}–${round(range[1])})`;
    return [
      title,
      value === null ? "-" : `${round(value)}${unit}${spread}`,
      `${sign} ${must}${unit}`,
      `${sign} ${aim}${unit}`,
      result,
    ];
  });
  return toTable(["goal", "reached", "must", "aim", "result"], rows);
}

/** `median (min–max)`. */
function cell(values: readonly number[], decimals: number): string {
  if (values.length === 0) return "-";
  const [low, middle, high] = [Math.min(...values), median(values), Math.max(...values)].map((value) =>
    format(value, decimals),
  );
  return low === high ? `${middle}` : `${middle} (${low}–${high})`;
}

/** The ratio of the medians, e.g. `1.05×`. */
function ratio(own: readonly number[], rival: readonly number[]): string {
  const value = median(own) / median(rival);
  return Number.isFinite(value) ? `${round(value)}×` : "-";
}

function round(value: number): string {
  return value >= 100 ? value.toFixed(0) : value.toFixed(value >= 10 ? 1 : 2);
}

function format(value: number, decimals: number): string {
  return value.toLocaleString("en-US", { minimumFractionDigits: decimals, maximumFractionDigits: decimals });
}

/** A Markdown table. */
function toTable(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const all = [head, ...rows];
  const widths = head.map((_, column) => Math.max(3, ...all.map((row) => row[column]?.length ?? 0)));
  const line = (cells: readonly string[]) =>
    `| ${cells.map((text, column) => text.padEnd(widths[column]!)).join(" | ")} |`;
  return [line(head), `|${widths.map((width) => "-".repeat(width + 2)).join("|")}|`, ...rows.map(line)].join("\n");
}
