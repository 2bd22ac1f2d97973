import type { FigureGoal } from "../support/goals.ts";
import { dialectNames, type DialectName, type KindName, kindNames } from "./pairs.ts";

type Way = "burst" | "paced";

export type Figure =
  | `${DialectName}_${Way}`
  | `${DialectName}_${Way}_more`
  | `${DialectName}_request`
  | "history_cpu"
  | "history_stretch"
  | "head_loading"
  | "waited";

const paths: Readonly<Record<DialectName, string>> = {
  chat: "/v1/chat/completions",
  responses: "/v1/responses",
  messages: "/v1/messages",
  ollama: "/api/chat",
};

const rows = (title: (path: string) => string, key: (name: DialectName) => Figure): [Figure, [string, number]][] =>
  dialectNames.map((name) => [key(name), [title(paths[name]), 1]]);

/** What is measured: key → how the table calls it, and its decimals. Columns are kinds of upstreams. */
export const figures = Object.fromEntries([
  ...rows(
    (path) => `CPU µs per event, burst, ${path}`,
    (name) => `${name}_burst`,
  ),
  ...rows(
    (path) => `… over passing through, ${path}`,
    (name) => `${name}_burst_more`,
  ),
  ...rows(
    (path) => `CPU µs per event, paced, ${path}`,
    (name) => `${name}_paced`,
  ),
  ...rows(
    (path) => `… over passing through, ${path}`,
    (name) => `${name}_paced_more`,
  ),
  ...rows(
    (path) => `CPU µs per request without a stream, ${path}`,
    (name) => `${name}_request`,
  ),
  ["history_cpu", ["1 MB of Claude Code's history: translated in, ms", 2]],
  ["history_stretch", ["… longest stretch without a turn of the event loop, ms", 2]],
  ["head_loading", ["first byte of a stream while its model loads, ms", 1]],
  ["waited", ["% of the time waiting for its core", 1]],
]) as Record<Figure, [title: string, decimals: number]>;

/** What the project promises of its dialects. */
export const goals: readonly FigureGoal<Figure>[] = [
  ...kindNames.flatMap((kind) =>
    dialectNames.flatMap((name): FigureGoal<Figure>[] =>
      name === "chat" && kind === "openai" ? [] : [perEvent(name, kind, "burst"), perEvent(name, kind, "paced")],
    ),
  ),
  {
    title: "1 MB of history translated",
    figure: "history_cpu",
    of: "openai",
    better: "lower",
    must: 30,
    aim: 15,
    unit: " ms",
  },
  {
    title: "longest stretch of it",
    figure: "history_stretch",
    of: "openai",
    better: "lower",
    must: 10,
    aim: 5,
    unit: " ms",
  },
  {
    title: "head of a stream while llama.cpp loads",
    figure: "head_loading",
    of: "llama_cpp",
    better: "lower",
    must: 20,
    aim: 10,
    unit: " ms",
  },
  {
    title: "head of a stream while Ollama loads",
    figure: "head_loading",
    of: "ollama",
    better: "lower",
    must: 20,
    aim: 15,
    unit: " ms",
  },
];

function perEvent(name: DialectName, kind: KindName, way: Way): FigureGoal<Figure> {
  return {
    title: `${paths[name]} over ${kind}, ${way}, per event`,
    figure: `${name}_${way}_more`,
    of: kind,
    better: "lower",
    must: 25,
    aim: 10,
    unit: " µs",
  };
}
