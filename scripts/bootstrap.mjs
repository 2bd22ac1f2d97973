// What `npm start` and `npm test` do first on a fresh clone. No dependencies: it runs before any is installed.
import { spawn, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, utimesSync, writeFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";

/** Folder of the package, with its package.json. */
export const root = path.resolve(fileURLToPath(import.meta.url), "../..");
/** The program after a build. */
export const program = path.join(root, "dist/cli/main.js");

const stampFile = path.join(root, "node_modules/.cache/lair/build.stamp");

/** Refuses a Node that is too old, with a sentence instead of a syntax error from the depths. */
export function requireNode() {
  const [major, minor] = process.versions.node.split(".").map(Number);
  if (major > 20 || (major === 20 && minor >= 19)) return;
  process.stderr.write(
    `Local AI Runtime needs Node 20.19 or newer; this is ${process.versions.node}. See https://nodejs.org\n`,
  );
  process.exit(1);
}

/** Installs the packages when they are missing or are not those of package-lock.json. */
export async function ensureInstalled() {
  if (isInstalled()) return;
  const code = await withProgress("installing packages (about 260 MB on disk, only this once)", (stdio) =>
    // --include=dev: NODE_ENV=production would leave the compiler out.
    spawnNpm(["ci", "--include=dev", "--no-fund", "--no-audit", "--loglevel=error"], stdio),
  );
  if (code === 0) return;
  process.stderr.write("npm ci failed; the lines above say why. Behind a proxy, set HTTPS_PROXY and try once more.\n");
  process.exit(code);
}

/** Builds dist when it is missing or older than what it is made of. */
export async function ensureBuilt() {
  if (isBuilt()) return;
  const script = path.join(root, "scripts/build.mjs");
  const code = await withProgress("building", (stdio) => spawn(process.execPath, [script], { cwd: root, stdio }));
  if (code !== 0) process.exit(code);
}

/** Whether dist is there and belongs to the sources as they are now. */
export function isBuilt() {
  return existsSync(program) && existsSync(stampFile) && readFileSync(stampFile, "utf8") === sourceStamp();
}

/** Notes that dist belongs to the sources as they are now. Called by the build. */
export function writeBuildStamp(stamp) {
  mkdirSync(path.dirname(stampFile), { recursive: true });
  writeFileSync(stampFile, stamp);
}

/** A fingerprint of everything that the build reads: names, sizes and times, no contents. */
export function sourceStamp() {
  const hash = createHash("sha256");
  hash.update(process.versions.node.split(".")[0]);
  for (const name of [
    "package.json",
    "package-lock.json",
    "tsconfig.json",
    "tsconfig.build.json",
    "src",
    "assets",
    "scripts",
  ]) {
    addToStamp(hash, path.join(root, name));
  }
  return hash.digest("hex");
}

/** Runs a command to its end, its output shown; resolves to its exit code. */
export function runToEnd(command, args, options = {}) {
  const child = spawn(command, args, { cwd: root, stdio: "inherit", ...options });
  return exitCode(child);
}

/** Runs npm to its end and gives its output: `{ status, stdout, stderr }`. */
export function npmSync(args, options = {}) {
  const { command, before, shell } = npmCommand();
  return spawnSync(command, [...before, ...args], { cwd: root, encoding: "utf8", shell, ...options });
}

function isInstalled() {
  const wanted = path.join(root, "package-lock.json");
  const present = path.join(root, "node_modules/.package-lock.json");
  if (!existsSync(present)) return false;
  if (statSync(present).mtimeMs >= statSync(wanted).mtimeMs) return true;
  if (!sameVersions(wanted, present)) return false;
  utimesSync(present, new Date(), new Date());
  return true;
}

// git gives every checkout new times: what counts is whether the versions differ.
function sameVersions(wantedFile, presentFile) {
  const wanted = JSON.parse(readFileSync(wantedFile, "utf8")).packages;
  const present = JSON.parse(readFileSync(presentFile, "utf8")).packages;
  return Object.entries(wanted).every(([name, entry]) => {
    if (name === "") return true;
    const found = present[name];
    return found === undefined
      ? entry.optional === true || entry.devOptional === true
      : found.version === entry.version;
  });
}

function addToStamp(hash, file) {
  const stat = statSync(file, { throwIfNoEntry: false });
  if (stat === undefined) return;
  if (stat.isDirectory()) {
    for (const name of readdirSync(file).sort()) addToStamp(hash, path.join(file, name));
    return;
  }
  hash.update(`${path.relative(root, file)} ${stat.size} ${stat.mtimeMs}\n`);
}

function spawnNpm(args, stdio) {
  const { command, before, shell } = npmCommand();
  return spawn(command, [...before, ...args], { cwd: root, stdio, shell });
}

// Node refuses to spawn npm.cmd without a shell (CVE-2024-27980); under npm its own script's path is known.
function npmCommand() {
  const script = process.env.npm_execpath;
  if (script !== undefined && /npm-cli\.c?js$/.test(script))
    return { command: process.execPath, before: [script], shell: false };
  return { command: "npm", before: [], shell: process.platform === "win32" };
}

async function withProgress(what, start) {
  const begun = Date.now();
  const seconds = () => `${Math.round((Date.now() - begun) / 1000)} s`;
  process.stderr.write(`lair: ${what} …\n`);
  const beat = setInterval(() => process.stderr.write(`lair: … ${seconds()}\n`), 10_000);
  // The program's own output is what goes to stdout.
  const code = await exitCode(start(["ignore", process.stderr, process.stderr]));
  clearInterval(beat);
  if (code === 0) process.stderr.write(`lair: done in ${seconds()}\n`);
  return code;
}

function exitCode(child) {
  return new Promise((resolve) => {
    child.on("error", (error) => {
      process.stderr.write(`${error.message}\n`);
      resolve(127);
    });
    child.on("exit", (code, signal) => resolve(code ?? (signal === "SIGINT" ? 130 : 1)));
  });
}
