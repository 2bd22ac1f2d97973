import { median, type Results } from "./results.ts";

/** Something that the project promises of itself. */
export interface Goal {
  readonly title: string;
  readonly better: "higher" | "lower";
  readonly must: number;
  readonly aim: number;
  readonly unit: string;
  /** Every round has to reach it: the worst counts, and not the median. */
  readonly always?: true;
}

/** A goal for one of a bench's figures. */
export interface FigureGoal<Figure extends string> extends Goal {
  readonly figure: Figure;
  /** Whose figure is meant; absent: lair's. */
  readonly of?: string;
  /** That figure divided by this rival's, or less it where `difference` is set; absent: by itself. */
  readonly against?: string;
  readonly difference?: true;
}

export interface Verdict extends Goal {
  /** Of the medians; null where it was not measured. */
  readonly value: number | null;
  /** The smallest and the largest of any one round. */
  readonly range: readonly [number, number] | null;
  readonly result: "aim" | "pass" | "MISS" | "not measured";
}

/** Judges figures. */
export function judge<Figure extends string>(
  goals: readonly FigureGoal<Figure>[],
  results: Results<Figure>,
): Verdict[] {
  return goals.map((goal) =>
    judgeOne(
      goal,
      results.of(goal.figure, goal.of ?? "lair"),
      goal.against === undefined ? null : results.of(goal.figure, goal.against),
    ),
  );
}

/** Judges the medians of a figure, one value per round: beside the rival's, or by itself where `rival` is null. */
function judgeOne(goal: FigureGoal<string>, own: readonly number[], rival: readonly number[] | null): Verdict {
  const difference = goal.difference === true;
  const others = rival ?? own.map(() => (difference ? 0 : 1));
  if (own.length === 0 || others.length === 0) return { ...goal, value: null, range: null, result: "not measured" };
  const beside = (one: number, other: number): number => (difference ? one - other : one / other);
  const rounds = own.map((one, round) => beside(one, others[round] ?? Number.NaN));
  const [least, most] = [Math.min(...rounds), Math.max(...rounds)];
  const worst = goal.better === "higher" ? least : most;
  const value = goal.always === true ? worst : beside(median(own), median(others));
  return { ...goal, value, range: [least, most], result: resultOf(goal, value) };
}

function resultOf(goal: Goal, value: number): Verdict["result"] {
  const reaches = (bound: number) => (goal.better === "higher" ? value >= bound : value <= bound);
  if (reaches(goal.aim)) return "aim";
  return reaches(goal.must) ? "pass" : "MISS";
}
