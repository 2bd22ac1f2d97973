#!/usr/bin/env node
// `npm run test:clients [-- file …]`: the real programs and SDKs against whole servers. Where Linux lets us, everything
// runs in a network namespace with nothing but loopback: a client that needs the internet fails.
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import path from "node:path";
import { ensureBuilt, ensureInstalled, requireNode, root, runToEnd } from "./bootstrap.mjs";

requireNode();
await ensureInstalled();
await ensureBuilt();
await installClients();
const flags = ["--config", "vitest.clients.config.ts", "--reporter=./test/clients/results.ts"];
const test = [process.execPath, path.join(root, "scripts/test.mjs"), ...flags, ...process.argv.slice(2)];
const [command, ...args] = [...alone(), ...test];
process.exitCode = await runToEnd(command, args);

/** While the package registry can be reached. What fails here is told by the tests, which ask for each client again. */
async function installClients() {
  const { programs, libraries } = JSON.parse(readFileSync(path.join(root, "test/clients/releases.json"), "utf8"));
  const installer = path.join(root, "scripts/install-client.mjs");
  const stdio = ["ignore", "ignore", "inherit"];
  for (const releases of [...Object.values(programs).map((release) => [release]), libraries])
    await runToEnd(process.execPath, [installer, ...releases], { stdio });
}

/** What puts a command into a namespace of its own; nothing where that cannot be done. */
function alone() {
  if (process.platform !== "linux") return [];
  const inside = ["sh", "-c", 'ip link set lo up && exec "$@"', "sh"];
  const ways = [
    ["unshare", "--net", ...inside],
    ["unshare", "--user", "--map-root-user", "--net", ...inside],
  ];
  return ways.find(([program, ...rest]) => spawnSync(program, [...rest, "true"]).status === 0) ?? [];
}
