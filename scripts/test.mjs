#!/usr/bin/env node
// `npm test [-- file …]`: installs and builds what is missing, runs vitest, and ends with one plain line of counts.
import { existsSync, mkdirSync, readFileSync, rmSync } from "node:fs";
import path from "node:path";
import { ensureBuilt, ensureInstalled, requireNode, root, runToEnd } from "./bootstrap.mjs";

requireNode();
await ensureInstalled();
await ensureBuilt();

const vitest = path.join(root, "node_modules/vitest/vitest.mjs");
const report = path.join(root, `node_modules/.cache/lair/tests-${process.pid}.json`);
mkdirSync(path.dirname(report), { recursive: true });
const reporters = ["--reporter=default", "--reporter=json", `--outputFile.json=${report}`];
const code = await runToEnd(process.execPath, [vitest, "run", ...reporters, ...process.argv.slice(2)]);
const counts = countTests(code);
process.stdout.write(`${line(counts)}\n`);
process.exitCode = counts.failed > 0 ? 1 : code;

// A file that cannot be loaded and an error outside of any test are failures too, though no test says so.
function countTests(exitCode) {
  const counts = { passed: 0, failed: 0, skipped: 0 };
  if (!existsSync(report)) return { ...counts, failed: 1 };
  for (const file of JSON.parse(readFileSync(report, "utf8")).testResults) {
    for (const { status } of file.assertionResults) {
      if (status === "passed") counts.passed++;
      else if (status === "failed") counts.failed++;
      else counts.skipped++;
    }
    if (file.status === "failed" && !file.assertionResults.some(({ status }) => status === "failed")) counts.failed++;
  }
  rmSync(report);
  if (exitCode !== 0 && counts.failed === 0) counts.failed = 1;
  if (counts.passed === 0) counts.failed = Math.max(1, counts.failed);
  return counts;
}

function line({ passed, failed, skipped }) {
  return `${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ""}`;
}
