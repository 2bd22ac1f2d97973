import type { FigureGoal } from "../support/goals.ts";
import type { Figure } from "./figures.ts";

/** What the project promises of its proxy path. */
export const goals: readonly FigureGoal<Figure>[] = [
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
