import { median } from "./figures.ts";

/** Something that the project promises of itself. */
export interface Goal {
  readonly title: string;
  readonly better: "higher" | "lower";
  readonly must: number;
  readonly aim: number;
  readonly unit: string;
}

export interface Verdict extends Goal {
  /** Of the medians; null where it was not measured. */
  readonly value: number | null;
  /** The smallest and the largest of any one round. */
  readonly range: readonly [number, number] | null;
  readonly result: "aim" | "pass" | "MISS" | "not measured";
}

/** Judges the medians of a figure, one value per round: divided by the rival's, or by itself where `rival` is null. */
export function judge<Kind extends Goal>(
  goal: Kind,
  own: readonly number[],
  rival: readonly number[] | null,
): Kind & Verdict {
  const others = rival ?? own.map(() => 1);
  if (own.length === 0 || others.length === 0) return { ...goal, value: null, range: null, result: "not measured" };
  const value = median(own) / median(others);
  const rounds = own.map((one, round) => one / (others[round] ?? Number.NaN));
  return { ...goal, value, range: [Math.min(...rounds), Math.max(...rounds)], result: resultOf(goal, value) };
}

function resultOf(goal: Goal, value: number): Verdict["result"] {
  const reaches = (bound: number) => (goal.better === "higher" ? value >= bound : value <= bound);
  if (reaches(goal.aim)) return "aim";
  return reaches(goal.must) ? "pass" : "MISS";
}
