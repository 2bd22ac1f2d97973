/** How a table calls a figure, and its decimals. */
export type FigureTitles = Readonly<Record<string, readonly [title: string, decimals: number]>>;

/** Values of one round of one contender. */
export type Seen<Figure extends string> = Partial<Record<Figure, number>>;

/** All values seen: for each figure and contender one per round. */
export class Results<Figure extends string> {
  readonly values: Partial<Record<Figure, Record<string, number[]>>> = {};

  add(name: string, seen: Seen<Figure>): void {
    for (const [figure, value] of Object.entries(seen) as [Figure, number][]) {
      const row = (this.values[figure] ??= {});
      (row[name] ??= []).push(value);
    }
  }

  of(figure: Figure, name: string): readonly number[] {
    return this.values[figure]?.[name] ?? [];
  }
}

/** The middle value (of an even number, the mean of the two in the middle); NaN of none. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length / 2;
  return ((sorted[Math.ceil(middle) - 1] ?? Number.NaN) + (sorted[Math.floor(middle)] ?? Number.NaN)) / 2;
}
