/** Longest file, in lines, whose lines are compared; a longer one counts as changed as a whole. */
const mostLines = 2000;

/** What changes from one text to another: `- old`, `+ new`, and `  same` for the line before and after a change. */
export function differenceLines(from: string, to: string): string[] {
  const [old, next] = [linesOf(from), linesOf(to)];
  const steps =
    Math.max(old.length, next.length) > mostLines
      ? [...old.map((line) => `- ${line}`), ...next.map((line) => `+ ${line}`)]
      : compare(old, next);
  const changed = (at: number): boolean => steps[at] !== undefined && !steps[at].startsWith("  ");
  return steps.filter((_, at) => changed(at) || changed(at - 1) || changed(at + 1));
}

function linesOf(text: string): string[] {
  return text === "" ? [] : text.replace(/\r?\n$/, "").split(/\r?\n/);
}

/** By the longest common subsequence, found from the end. */
function compare(old: readonly string[], next: readonly string[]): string[] {
  const width = next.length + 1;
  const common = new Uint16Array((old.length + 1) * width);
  const at = (row: number, column: number): number => common[row * width + column] ?? 0;
  for (let row = old.length - 1; row >= 0; row--)
    for (let column = next.length - 1; column >= 0; column--)
      common[row * width + column] =
        old[row] === next[column] ? at(row + 1, column + 1) + 1 : Math.max(at(row + 1, column), at(row, column + 1));
  const steps: string[] = [];
  let [row, column] = [0, 0];
  while (row < old.length || column < next.length) {
    if (row < old.length && column < next.length && old[row] === next[column]) {
      steps.push(`  ${old[row]}`);
      [row, column] = [row + 1, column + 1];
    } else if (row < old.length && (column === next.length || at(row + 1, column) >= at(row, column + 1)))
      steps.push(`- ${old[row++]}`);
    else steps.push(`+ ${next[column++]}`);
  }
  return steps;
}
