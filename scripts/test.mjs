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
const counts = countTests(code);
for (const name of counts.names) process.stdout.write(`failed: ${name}\n`);
process.stdout.write(`${line(counts)}\n`);
process.exitCode = counts.failed > 0 ? 1 : code;

// A file that cannot be loaded and an error outside of any test are failures too, though no test says so.
function countTests(exitCode) {
  const counts = { passed: 0, failed: 0, skipped: 0, names: /** @type {string[]} */ ([]) };
  if (!existsSync(report)) return { ...counts, failed: 1 };
  for (const file of JSON.parse(readFileSync(report, "utf8")).testResults) {
    const name = path.relative(root, file.name).split(path.sep).join("/");
    const passed = file.assertionResults.filter(({ status }) => status === "passed");
    const failed = file.assertionResults.filter(({ status }) => status === "failed");
    counts.passed += passed.length;
    counts.failed += failed.length;
    counts.skipped += file.assertionResults.length - passed.length - failed.length;
    for (const { fullName, failureMessages } of failed)
      counts.names.push(`${name}: ${fullName}: ${beginning(failureMessages?.[0])}`);
    if (file.status === "failed" && failed.length === 0) {
      counts.failed++;
      counts.names.push(`${name}: ${beginning(file.message)}`);
    }
  }
  rmSync(report);
  if (exitCode !== 0 && counts.failed === 0) counts.failed = 1;
  if (counts.passed === 0) counts.failed = Math.max(1, counts.failed);
  return counts;
}

/** Of a message as much as a line holds. */
function beginning(message = "") {
  return message.trim().split("\n", 1)[0].slice(0, 300);
}

function line({ passed, failed, skipped }) {
  return `${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ""}`;
}
