import { mkdirSync, readdirSync, writeFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import type { Reporter, TestCase, TestModule } from "vitest/node";
import { versionOf } from "./releases.ts";
import type { Row } from "./rows.ts";

/** A row of the results: what was tested, with which version, and whether all its tests passed. */
export interface Result extends Row {
  readonly version: string;
  readonly passed: boolean;
}

export interface Results {
  /** Whether all tests of the suite have run. */
  readonly complete: boolean;
  /** Sorted. */
  readonly rows: readonly Result[];
}

/** Where each run leaves what it has seen; `npm run docs:clients` makes the table of it. */
export const resultsFile = fileURLToPath(new URL("../../.cache/clients/results.json", import.meta.url));

/** Writes the rows of all tests, each once. For vitest's `--reporter`. */
class ResultsReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[]): void {
    const tests = modules.flatMap((module) => [...module.children.allTests()]);
    const files = readdirSync(import.meta.dirname).filter((name) => name.endsWith(".test.ts"));
    const results: Results = {
      complete: modules.length === files.length && tests.every((test) => test.result().state !== "skipped"),
      rows: toRows(tests),
    };
    mkdirSync(path.dirname(resultsFile), { recursive: true });
    writeFileSync(resultsFile, `${JSON.stringify(results, null, 2)}\n`);
  }
}

// vitest takes a reporter of a file only as its default export.
// oxlint-disable-next-line import/no-default-export
export { ResultsReporter as default };

function toRows(tests: readonly TestCase[]): Result[] {
  const rows = new Map<string, Result>();
  for (const test of tests) {
    const { row } = test.meta();
    if (row === undefined) continue;
    const key = [row.client, row.dialect, row.way ?? "", row.trouble ?? ""].join(" ");
    const passed = test.result().state === "passed" && rows.get(key)?.passed !== false;
    rows.set(key, { ...row, version: versionOf(row.client), passed });
  }
  return [...rows].sort(([one], [other]) => (one < other ? -1 : 1)).map(([, row]) => row);
}
