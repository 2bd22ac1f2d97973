import { type Figure, median, type Results } from "./figures.ts";

interface Goal {
  readonly title: string;
  readonly figure: Figure;
  /** The figure of lair divided by this proxy's; absent: lair's own. */
  readonly against?: "nginx" | "portkey";
  readonly better: "higher" | "lower";
  readonly must: number;
  readonly aim: number;
  readonly unit: string;
}

/** What the project promises of its proxy path. */
const goals: readonly Goal[] = [
  {
    title: "requests/s per core against nginx",
    figure: "small_per_core",
    against: "nginx",
    better: "higher",
    must: 0.35,
    aim: 0.5,
    unit: "×",
  },
  {
    title: "requests/s per core against Portkey",
    figure: "small_per_core",
    against: "portkey",
    better: "higher",
    must: 14,
    aim: 20,
    unit: "×",
  },
  {
    title: "CPU per paced SSE event against nginx",
    figure: "paced_cpu",
    against: "nginx",
    better: "lower",
    must: 2,
    aim: 1.5,
    unit: "×",
  },
  {
    title: "burst SSE events/s per core against Portkey",
    figure: "burst_per_core",
    against: "portkey",
    better: "higher",
    must: 3.5,
    aim: 5,
    unit: "×",
  },
  { title: "RSS with 1,000 open streams", figure: "rss_open", better: "lower", must: 130, aim: 85, unit: " MB" },
  {
    title: "streams alive 0.5 s after 1,000 clients left",
    figure: "left_streaming",
    better: "lower",
    must: 0,
    aim: 0,
    unit: "",
  },
  { title: "the same before the first byte", figure: "left_silent", better: "lower", must: 0, aim: 0, unit: "" },
];

export interface Verdict extends Goal {
  /** Of the medians; null where it was not measured. */
  readonly value: number | null;
  /** The smallest and the largest of any one round. */
  readonly range: readonly [number, number] | null;
  readonly result: "aim" | "pass" | "MISS" | "not measured";
}

/** Judges the medians. */
export function judge(results: Results): Verdict[] {
  return goals.map((goal) => {
    const own = results.of(goal.figure, "lair");
    const others = goal.against === undefined ? own.map(() => 1) : results.of(goal.figure, goal.against);
    if (own.length === 0 || others.length === 0) return { ...goal, value: null, range: null, result: "not measured" };
    const value = median(own) / median(others);
    const rounds = own.map((one, round) => one / (others[round] ?? Number.NaN));
    return { ...goal, value, range: [Math.min(...rounds), Math.max(...rounds)], result: resultOf(goal, value) };
  });
}

function resultOf(goal: Goal, value: number): Verdict["result"] {
  const reaches = (bound: number) => (goal.better === "higher" ? value >= bound : value <= bound);
  if (reaches(goal.aim)) return "aim";
  return reaches(goal.must) ? "pass" : "MISS";
}
