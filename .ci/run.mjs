// The tests on this machine's Node, every other check, the suite of the real clients, and the tests again on the other
// supported lines of Node where npm has them.
import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { npmSync, root } from "../scripts/bootstrap.mjs";

// What installs programs, builds packages, or computes for long, and does the same on every Node.
const onlyOnce = [
  ...["package", "demo-model", "docs", "hub", "security"].map((room) => `test/${room}/**`),
  ...["chat-templates", "constraints", "embedding-batches", "families", "hostile-files", "jinja", "llama-server"].map(
    (topic) => `test/engines/${topic}.test.ts`,
  ),
  ...["crash", "memory", "process", "residency", "schema-grammars", "soak", "speculative", "tool-calls"].map(
    (topic) => `test/engines/${topic}.test.ts`,
  ),
  ...["delay", "failures", "fronts", "frozen", "netns", "restarts"].map((topic) => `test/tunnel/${topic}.test.ts`),
  ...["chain-streams", "relays-netns", "relays-processes", "traps"].map((topic) => `test/tunnel/${topic}.test.ts`),
  ...["agent-keys", "redis-directory", "redis-outages", "redis-refusals", "sqlite-processes"].map(
    (topic) => `test/state/${topic}.test.ts`,
  ),
  ...["access/credentials", "usage/killed", "gateway/programs", "limits/replicas"].map(
    (topic) => `test/${topic}.test.ts`,
  ),
  ...[
    "agent",
    "cloud",
    "cloud-agents",
    "connect",
    "demo-model",
    "engine",
    "keys",
    "launch",
    "publish",
    "run",
    "service",
    "usage",
  ].map((topic) => `test/cli/${topic}.test.ts`),
  ...["backends", "broken-calls", "checkpoints", "embeddings", "infill", "models"].map(
    (topic) => `test/engines/${topic}.test.ts`,
  ),
  ...["gateway/websocket", "responses/replicas", "responses/killed"].map((topic) => `test/${topic}.test.ts`),
];

const place = mkdtempSync(path.join(tmpdir(), "lair-ci-"));
const runs = [await test("npm test", ["npm", ["test"]])];
const check = spawnSync(process.execPath, ["scripts/check.mjs", "--without-tests"], {
  cwd: root,
  stdio: ["ignore", "inherit", "inherit"],
});
runs.push(await test("npm run test:clients", ["npm", ["run", "--silent", "test:clients"]]));
for (const major of [20, 22, 24]) {
  if (process.versions.node.startsWith(`${major}.`)) continue;
  const node = install(major);
  if (node === undefined) {
    process.stdout.write(`Node ${major}: skipped, npm has no node-${process.platform}-${process.arch}@${major} here\n`);
    continue;
  }
  const exclude = onlyOnce.flatMap((pattern) => ["--exclude", pattern]);
  runs.push(await test(`Node ${major}`, [node, ["scripts/test.mjs", ...exclude]]));
}
rmSync(place, { recursive: true, force: true });

// The failures of all runs once more at the very end: the rest of the output is long, and often only its end is kept.
for (const { name, failures } of runs)
  for (const failure of failures) process.stdout.write(`failed: ${name}: ${failure}\n`);
if (check.status !== 0) process.stdout.write("failed: node scripts/check.mjs --without-tests\n");
const sum = (key) => runs.reduce((total, run) => total + run[key], 0);
const skipped = sum("skipped");
process.stdout.write(`${sum("passed")} passed, ${sum("failed")} failed${skipped > 0 ? `, ${skipped} skipped` : ""}\n`);
process.exitCode = check.status === 0 && runs.every((run) => run.code === 0 && run.failed === 0) ? 0 : 1;

/** Path of a Node of that line, or undefined. */
function install(major) {
  const name = `node-${process.platform}-${process.arch}`;
  const folder = path.join(place, String(major));
  const { status } = npmSync(["install", "--silent", "--no-save", "--prefix", folder, `${name}@${major}`]);
  return status === 0 ? path.join(folder, "node_modules", name, "bin/node") : undefined;
}

/** Runs a command that ends with a line `failed: …` for each failure and `N passed, N failed[, N skipped]`, its output shown. */
function test(name, [command, args]) {
  process.stdout.write(`\n== ${name} ==\n`);
  return new Promise((resolve) => {
    const child = spawn(command, args, { cwd: root, stdio: ["ignore", "pipe", "inherit"] });
    let tail = "";
    child.stdout.on("data", (chunk) => {
      process.stdout.write(chunk);
      tail = (tail + chunk).slice(-10_000);
    });
    const broken = (failure) => ({ name, passed: 0, failed: 1, skipped: 0, failures: [failure] });
    child.on("error", (error) => resolve({ ...broken(error.message), code: 127 }));
    child.on("close", (code) => {
      const lines = tail.trimEnd().split("\n");
      const counts = /^(\d+) passed, (\d+) failed(?:, (\d+) skipped)?$/.exec(lines.at(-1) ?? "");
      if (counts === null) return resolve({ ...broken("it did not end with its counts"), code: code ?? 1 });
      const [passed, failed, skipped] = counts.slice(1).map((text) => Number(text ?? 0));
      const failures = lines.filter((line) => line.startsWith("failed: ")).map((line) => line.slice("failed: ".length));
      resolve({ name, code: code ?? 1, passed, failed, skipped, failures });
    });
  });
}
