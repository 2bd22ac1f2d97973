#!/usr/bin/env node
// `npm run check`: everything a change must pass, the quick things first; stops at the first failure and names it.
// `--without-tests` is for whoever has just run them.
import { readFileSync } from "node:fs";
import path from "node:path";
import { ensureInstalled, requireNode, root, runToEnd } from "./bootstrap.mjs";

requireNode();
await ensureInstalled();

const steps = [
  { name: "format", script: binary("oxfmt"), args: ["--check"] },
  { name: "lint", script: binary("oxlint"), args: ["--type-aware", "--deny-warnings"] },
  { name: "types", script: binary("typescript", "tsc"), args: ["--noEmit"] },
  { name: "dead code", script: binary("knip"), args: [] },
  { name: "tests", script: path.join(root, "scripts/test.mjs"), args: [] },
  { name: "package", script: binary("publint"), args: ["--strict"] },
].filter(({ name }) => name !== "tests" || !process.argv.includes("--without-tests"));

for (const { name, script, args } of steps) {
  const begun = Date.now();
  process.stdout.write(`check: ${name}\n`);
  const code = await runToEnd(process.execPath, [script, ...args]);
  if (code !== 0) {
    process.stdout.write(`check: ${name} failed\n`);
    process.exit(1);
  }
  process.stdout.write(`check: ${name} is fine (${((Date.now() - begun) / 1000).toFixed(1)} s)\n`);
}

// Through node itself: the scripts of node_modules/.bin are shell scripts on Windows.
function binary(name, bin = name) {
  const folder = path.join(root, "node_modules", name);
  const declared = JSON.parse(readFileSync(path.join(folder, "package.json"), "utf8")).bin;
  return path.join(folder, typeof declared === "string" ? declared : declared[bin]);
}
