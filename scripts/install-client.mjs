#!/usr/bin/env node
// `node scripts/install-client.mjs opencode-ai@1.18.33`: installs a client program that the tests drive, once, into
// .cache/clients, and prints the path of its executable. Several packages are libraries: they get one folder together,
// and that folder's path is printed. Exit code 3: the package registry cannot be reached.
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import path from "node:path";
import { requireNode, root } from "./bootstrap.mjs";

const shelf = path.join(root, ".cache/clients");
const unreachable = /\b(ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT|ENETUNREACH|EHOSTUNREACH|E50[0234])\b/;
// Long enough for 350 MB over a slow line; an installation that hangs ends all the same.
const patience = 15 * 60_000;
const leftoverAge = 60 * 60_000;

requireNode();
const releases = process.argv.slice(2).map(parseRelease);
if (releases.length === 0 || releases.includes(undefined)) {
  process.stderr.write(
    "usage: node scripts/install-client.mjs NAME@VERSION …, each version exact, e.g. opencode-ai@1.18.33\n",
  );
  process.exit(2);
}
const folder = path.join(shelf, folderName(releases));
if (!existsSync(folder)) process.exitCode = await install(releases, folder);
if (existsSync(folder))
  process.stdout.write(`${releases.length > 1 ? folder : executable(folder, releases[0].name)}\n`);

function parseRelease(text) {
  const [, name, version] = /^((?:@[\w.-]+\/)?[\w.-]+)@(\d+\.\d+\.\d+[\w.+-]*)$/.exec(text) ?? [];
  return name === undefined ? undefined : { name, version, text };
}

function folderName(wanted) {
  if (wanted.length === 1) return `${wanted[0].name.replace("/", "+")}-${wanted[0].version}`;
  const texts = wanted.map(({ text }) => text).sort();
  return `libraries-${createHash("sha256").update(texts.join(" ")).digest("hex").slice(0, 12)}`;
}

// Everything happens in a folder beside the final one; only a complete installation gets its name.
async function install(wanted, target) {
  const names = wanted.map(({ text }) => text).join(", ");
  mkdirSync(shelf, { recursive: true });
  removeLeftovers();
  const draft = mkdtempSync(path.join(shelf, ".draft-"));
  try {
    writeFileSync(path.join(draft, "package.json"), '{ "private": true }\n');
    const begun = Date.now();
    const seconds = () => `${Math.round((Date.now() - begun) / 1000)} s`;
    process.stderr.write(`lair: installing ${names} for the tests (up to 400 MB, only this once) …\n`);
    const beat = setInterval(() => process.stderr.write(`lair: … ${seconds()}\n`), 10_000);
    const failure = await fill(draft, wanted).finally(() => clearInterval(beat));
    if (failure !== undefined) {
      process.stderr.write(`${failure}\nlair: ${names} could not be installed\n`);
      return unreachable.test(failure) ? 3 : 1;
    }
    moveInto(draft, target);
    process.stderr.write(`lair: done in ${seconds()}\n`);
    return 0;
  } finally {
    rmSync(draft, { recursive: true, force: true });
  }
}

/** Resolves to what went wrong, in words; undefined when all is there and the program runs. */
async function fill(draft, wanted) {
  const quiet = ["--no-audit", "--no-fund", "--no-save", "--loglevel=error"];
  const brief = ["--fetch-retries=2", "--fetch-retry-mintimeout=1000", "--fetch-retry-maxtimeout=5000"];
  const [npm, before, shell] = npmCommand();
  const args = ["install", ...wanted.map(({ text }) => text), "--ignore-scripts", ...quiet, ...brief];
  const installed = await run(npm, [...before, ...args], { cwd: draft, shell });
  if (installed.code !== 0) return installed.output;
  return wanted.length === 1 ? prepareProgram(draft, wanted[0].name) : undefined;
}

/** The same for a program, which may have a binary to put in place. */
async function prepareProgram(draft, client) {
  // Of all install scripts, which npm may be told to block, only the client's own is run: it puts its binary in place.
  const home = path.join(draft, "node_modules", client);
  const [, script] = /^node (\S+)$/.exec(manifest(draft, client).scripts?.postinstall ?? "") ?? [];
  if (script !== undefined) {
    const placed = await run(process.execPath, [script], { cwd: home });
    if (placed.code !== 0) return placed.output;
  }
  const program = executable(draft, client);
  const [command, first] = /\.[cm]?js$/.test(program) ? [process.execPath, [program]] : [program, []];
  const started = await run(command, [...first, "--version"], { cwd: draft });
  return started.code === 0 ? undefined : `${program} --version failed: ${started.output}`;
}

function moveInto(draft, target) {
  try {
    renameSync(draft, target);
  } catch (error) {
    // Another process may have been faster.
    if (!existsSync(target)) throw error;
  }
}

function executable(place, client) {
  const { bin } = manifest(place, client);
  const file = typeof bin === "string" ? bin : Object.values(bin)[0];
  return path.join(place, "node_modules", client, file);
}

function manifest(place, client) {
  return JSON.parse(readFileSync(path.join(place, "node_modules", client, "package.json"), "utf8"));
}

/** Drafts of installations that were killed. */
function removeLeftovers() {
  for (const entry of readdirSync(shelf)) {
    const draft = path.join(shelf, entry);
    if (!entry.startsWith(".draft-") || Date.now() - statSync(draft).mtimeMs < leftoverAge) continue;
    rmSync(draft, { recursive: true, force: true });
  }
}

// Node refuses to spawn npm.cmd without a shell (CVE-2024-27980); under npm its own script's path is known.
function npmCommand() {
  const script = process.env.npm_execpath;
  if (script !== undefined && /npm-cli\.c?js$/.test(script)) return [process.execPath, [script], false];
  return ["npm", [], process.platform === "win32"];
}

function run(command, args, options) {
  return new Promise((resolve) => {
    const child = spawn(command, args, { ...options, stdio: ["ignore", "pipe", "pipe"], timeout: patience });
    let output = "";
    const read = (chunk) => (output += chunk.toString());
    child.stdout.on("data", read);
    child.stderr.on("data", read);
    child.on("error", (error) => resolve({ code: 127, output: error.message }));
    child.on("close", (code) =>
      resolve({ code, output: code === null ? `${output}ended after ${patience / 60_000} min` : output }),
    );
  });
}
