import type { Result } from "../test/clients/results.ts";
import { type Dialect, type Way, ways } from "../test/clients/rows.ts";

/** What stands around the generated part of `docs/clients.md`. */
const marks = { begin: "<!-- compatibility: generated -->", end: "<!-- /compatibility -->" } as const;

const wayTitles: Readonly<Record<Way, string>> = {
  llama_cpp: "llama.cpp (embedded)",
  ollama: "Ollama",
  lmdeploy: "LMDeploy",
  mnn: "MNN",
  vllm: "vLLM",
  openai: "OpenAI-speaking server",
  relay: "relay",
  gateway: "gateway",
  launch: "`lair launch`",
};

/** In the order of the table. */
const dialectTitles: Readonly<Record<Dialect, string>> = {
  chat: "Chat Completions",
  responses: "Responses",
  messages: "Messages",
  ollama: "Ollama",
};

/** The page with the tables of these results in the marked place. Throws when it has no such place. */
export function withTables(page: string, results: readonly Result[]): string {
  const [begin, end] = [page.indexOf(marks.begin), page.indexOf(marks.end)];
  if (begin === -1 || end < begin) throw new Error(`docs/clients.md has no ${marks.begin} … ${marks.end}`);
  const tables = `${compatibility(results)}\n\n${troubles(results)}`;
  return `${page.slice(0, begin + marks.begin.length)}\n\n${tables}\n\n${page.slice(end)}`;
}

function compatibility(results: readonly Result[]): string {
  const rows = groupBy(
    results.filter(({ way }) => way !== undefined),
    ({ client, version, dialect }) => `${client} ${version} | ${dialectTitles[dialect]}`,
  );
  const head = ["client", "API", ...ways.map((way) => wayTitles[way])];
  const lines = [...rows].map(([title, found]) => [
    title,
    ...ways.map((way) => mark(found.find((row) => row.way === way))),
  ]);
  return toTable(head, lines);
}

function mark(row: Result | undefined): string {
  if (row === undefined) return "";
  return row.passed ? "✓" : "✗";
}

function troubles(results: readonly Result[]): string {
  const rows = groupBy(
    results.filter(({ trouble }) => trouble !== undefined),
    ({ trouble = "" }) => trouble,
  );
  const clients = [...new Set([...rows.values()].flat().map(({ client }) => client))];
  const lines = [...rows].map(([trouble, found]) => [
    trouble,
    ...clients.map((client) => {
      const row = found.find((one) => one.client === client);
      return row === undefined ? "" : `${row.passed ? "" : "✗ not: "}${row.outcome ?? ""}`;
    }),
  ]);
  return toTable(["when", ...clients], lines);
}

function groupBy(results: readonly Result[], key: (result: Result) => string): Map<string, Result[]> {
  const groups = new Map<string, Result[]>();
  for (const result of results) groups.set(key(result), [...(groups.get(key(result)) ?? []), result]);
  return groups;
}

function toTable(head: readonly string[], lines: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]): string => `| ${cells.join(" | ")} |`;
  return [line(head), line(head.map(() => "---")), ...lines.map(line)].join("\n");
}
