import { mkdirSync, writeFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import type { Reporter, TestCase, TestModule } from "vitest/node";
import { versions } from "./releases.ts";
import type { Row } from "./rows.ts";

/** A row of the results: what was tested, with which version, and whether all its tests passed. */
export interface Result extends Row {
  readonly version: string;
  readonly passed: boolean;
}

/** Where each run leaves what it has seen; `npm run docs:clients` makes the table of it. */
export const resultsFile = fileURLToPath(new URL("../../.cache/clients/results.json", import.meta.url));

/** Writes the rows of all tests, sorted, each once; those of skipped tests are left out. For vitest's `--reporter`. */
class ResultsReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[]): void {
    const results = new Map<string, Result>();
    for (const test of modules.flatMap((module) => [...module.children.allTests()])) add(results, test);
    mkdirSync(path.dirname(resultsFile), { recursive: true });
    const sorted = [...results].sort(([one], [other]) => (one < other ? -1 : 1)).map(([, result]) => result);
    writeFileSync(resultsFile, `${JSON.stringify(sorted, null, 2)}\n`);
  }
}

// vitest takes a reporter of a file only as its default export.
// oxlint-disable-next-line import/no-default-export
export { ResultsReporter as default };

function add(results: Map<string, Result>, test: TestCase): void {
  const { row } = test.meta();
  const { state } = test.result();
  if (row === undefined || state === "skipped" || state === "pending") return;
  const key = JSON.stringify([row.client, row.dialect, row.way ?? "", row.trouble ?? ""]);
  const passed = state === "passed" && results.get(key)?.passed !== false;
  results.set(key, { ...row, version: versions().get(row.client) ?? "", passed });
}
