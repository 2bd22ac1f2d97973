import { figures as proxyFigures } from "../proxy/figures.ts";
import type { FigureGoal } from "../support/goals.ts";

/** What is measured: key → how the table calls it, and its decimals. */
export const figures = {
  ...proxyFigures,
  redis_cpu: ["CPU µs of Redis per request, 0.6 KB", 1],
  start: ["start to the first answer, s", 2],
  full_start: ["the same with 100,000 keys and 10 million records, s", 2],
  full_cpu: ["CPU µs per request with them, 0.6 KB", 1],
  report: ["`lair usage` of a month of them, s", 2],
  soak_requests: ["requests in the soak", 0],
  soak_begin: ["RSS after its warm-up, MB", 1],
  soak_end: ["RSS at its end, MB", 1],
  soak_slope: ["slope of RSS, MB a minute", 3],
} as const satisfies Record<string, readonly [title: string, decimals: number]>;

export type Figure = keyof typeof figures;

/** What the project promises of its gateway. `bare` is the same program with no key asked for, no limit and no record. */
export const goals: readonly FigureGoal<Figure>[] = [
  {
    title: "keys, limits and usage over the bare path, SQLite",
    figure: "small_cpu",
    against: "bare",
    difference: true,
    better: "lower",
    must: 25,
    aim: 15,
    unit: " µs",
  },
  {
    title: "the same, Redis",
    figure: "small_cpu",
    of: "lair redis",
    against: "bare",
    difference: true,
    better: "lower",
    must: 35,
    aim: 20,
    unit: " µs",
  },
  {
    title: "CPU per request against Portkey",
    figure: "small_cpu",
    against: "portkey",
    better: "lower",
    must: 0.25,
    aim: 0.1,
    unit: "×",
  },
  {
    title: "start with 100,000 keys and 10 million records",
    figure: "full_start",
    better: "lower",
    must: 2,
    aim: 1,
    unit: " s",
  },
  {
    title: "CPU per request with them, against without",
    figure: "full_cpu",
    against: "lair small",
    better: "lower",
    must: 1.1,
    aim: 1.03,
    unit: "×",
  },
  { title: "`lair usage` of a month of them", figure: "report", better: "lower", must: 2, aim: 0.5, unit: " s" },
  { title: "slope of memory at full load", figure: "soak_slope", better: "lower", must: 1, aim: 0.1, unit: " MB/min" },
];
