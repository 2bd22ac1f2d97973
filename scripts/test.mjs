#!/usr/bin/env node
// `npm test [-- file …]`: installs and builds what is missing, runs vitest, and ends with a line for each failure and one
// of counts.
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
const { passed, skipped, failures } = readReport(code);
for (const failure of failures) process.stdout.write(`failed: ${failure}\n`);
const skippedToo = skipped > 0 ? `, ${skipped} skipped` : "";
process.stdout.write(`${passed} passed, ${failures.length} failed${skippedToo}\n`);
process.exitCode = failures.length > 0 ? 1 : code;

// A file that cannot be loaded and an error outside of any test are failures too, though no test says so.
function readReport(exitCode) {
  const counts = { passed: 0, skipped: 0, failures: /** @type {string[]} */ ([]) };
  if (!existsSync(report)) return { ...counts, failures: ["vitest left no report"] };
  for (const file of JSON.parse(readFileSync(report, "utf8")).testResults) {
    const name = path.relative(root, file.name).split(path.sep).join("/");
    const failed = file.assertionResults.filter(({ status }) => status === "failed");
    const passing = file.assertionResults.filter(({ status }) => status === "passed").length;
    counts.passed += passing;
    counts.skipped += file.assertionResults.length - passing - failed.length;
    for (const { fullName, failureMessages } of failed)
      counts.failures.push(`${name}: ${fullName}: ${beginning(failureMessages?.[0])}`);
    if (file.status === "failed" && failed.length === 0) counts.failures.push(`${name}: ${beginning(file.message)}`);
  }
  rmSync(report);
  if (counts.failures.length === 0 && exitCode !== 0)
    counts.failures.push(`vitest ended with code ${exitCode}, though no test failed`);
  if (counts.failures.length === 0 && counts.passed === 0) counts.failures.push("no test passed");
  return counts;
}

/** Of a message as much as a line holds. */
function beginning(message = "") {
  return message.trim().split("\n", 1)[0].slice(0, 300);
}
