/** Rows of a table, the first its heads, as lines with cells below one another; numbers stand at the right of theirs. */
export function toColumns(rows: readonly (readonly string[])[], numbers: ReadonlySet<string> = new Set()): string[] {
  const heads = rows[0] ?? [];
  const widths = heads.map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
  const pad = (cell: string, column: number): string =>
    numbers.has(heads[column] ?? "") ? cell.padStart(widths[column] ?? 0) : cell.padEnd(widths[column] ?? 0);
  return rows.map((row) => row.map(pad).join("  ").trimEnd());
}
