// `npm run llama:releases`: which versions of node-llama-cpp's platform packages the registry has, beside the pinned
// ones; they appear on different days. `npm run llama:releases -- --pin` writes the newest of each into package.json.
import { readFileSync, writeFileSync } from "node:fs";
import { execFileSync } from "node:child_process";

const packageFile = new URL("../package.json", import.meta.url);
const text = readFileSync(packageFile, "utf8");
const pinned = (JSON.parse(text) as { optionalDependencies: Record<string, string> }).optionalDependencies;
const scope = "@node-llama-cpp/";
// GPU packages follow the processor's package of their platform, so these too must exist in its version.
const onDemand = ["linux-x64-cuda", "linux-x64-cuda-ext", "linux-x64-vulkan", "win-x64-cuda", "win-x64-vulkan"];

const names = [
  ...Object.keys(pinned).filter((name) => name.startsWith(scope)),
  ...onDemand.map((name) => scope + name),
];
const rows = names.map((name) => ({ name, pinned: pinned[name] ?? basis(name), versions: versionsOf(name) }));
const say = (line: string): void => void process.stdout.write(`${line}\n`);
for (const row of rows) {
  const newest = row.versions.at(-1) ?? "none";
  const lacking = row.versions.includes(row.pinned) ? "" : "   the pinned one is not there";
  say(`${row.name.padEnd(36)} pinned ${row.pinned.padEnd(8)} newest ${newest.padEnd(8)}${lacking}`);
}
const everywhere = rows
  .map(({ versions }) => versions)
  .reduce((common, versions) => common.filter((version) => versions.includes(version)));
say(`newest for all: ${everywhere.at(-1) ?? "none"}`);
if (process.argv.includes("--pin")) pin();

function pin(): void {
  let changed = text;
  for (const { name, pinned: old, versions } of rows) {
    const newest = versions.at(-1);
    if (name in pinned && newest !== undefined)
      changed = changed.replace(`"${name}": "${old}"`, `"${name}": "${newest}"`);
  }
  writeFileSync(packageFile, changed);
  say(
    changed === text
      ? "package.json is up to date"
      : "package.json was changed; run npm install, then docs/llama-cpp-upgrade.md",
  );
}

/** The pinned version of the processor's package: `win-x64-cuda` → that of `win-x64`. */
function basis(name: string): string {
  return pinned[name.replace(/-(cuda|vulkan)(-ext)?$/, "")] ?? "none";
}

/** Released versions, oldest first. */
function versionsOf(name: string): string[] {
  const shell = process.platform === "win32";
  const said = execFileSync("npm", ["view", name, "versions", "--json"], { encoding: "utf8", shell });
  const versions = JSON.parse(said) as string | string[];
  return [versions].flat().filter((version) => /^\d+\.\d+\.\d+$/.test(version));
}
