import { type Figure, figures, median, type Results } from "./figures.ts";
import type { Proxy } from "./proxy.ts";
import type { Verdict } from "./goals.ts";

/** A Markdown table of the machine. */
export function machineTable(machine: Record<string, string>): string {
  return toTable(["", ""], Object.entries(machine));
}

/** A Markdown table: one row per figure, one column per proxy, each cell `median (min–max)`; ratios of lair to the others. */
export function figureTable(results: Results, names: readonly Proxy["name"][]): string {
  const rivals = names.includes("lair") ? names.filter((name) => name === "nginx" || name === "portkey") : [];
  const rows = (Object.keys(figures) as Figure[])
    .filter((figure) => results.values[figure] !== undefined)
    .map((figure) => [
      figures[figure][0],
      ...names.map((name) => cell(results.of(figure, name), figures[figure][1])),
      ...rivals.map((rival) => ratio(results.of(figure, "lair"), results.of(figure, rival))),
    ]);
  return toTable(["median (min–max)", ...names, ...rivals.map((rival) => `lair / ${rival}`)], rows);
}

/** A Markdown table of what is promised and what was reached. */
export function verdictTable(verdicts: readonly Verdict[]): string {
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
export function cell(values: readonly number[], decimals: number): string {
  if (values.length === 0) return "-";
  const [low, middle, high] = [Math.min(...values), median(values), Math.max(...values)].map((value) =>
    format(value, decimals),
  );
  return low === high ? `${middle}` : `${middle} (${low}–${high})`;
}

/** The ratio of the medians, e.g. `1.05×`. */
export function ratio(own: readonly number[], rival: readonly number[]): string {
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
export function toTable(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const all = [head, ...rows];
  const widths = head.map((_, column) => Math.max(3, ...all.map((row) => row[column]?.length ?? 0)));
  const line = (cells: readonly string[]) =>
    `| ${cells.map((text, column) => text.padEnd(widths[column]!)).join(" | ")} |`;
  return [line(head), `|${widths.map((width) => "-".repeat(width + 2)).join("|")}|`, ...rows.map(line)].join("\n");
}
