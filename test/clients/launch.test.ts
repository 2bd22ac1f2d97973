import { mkdirSync, readdirSync, symlinkSync, writeFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, inject } from "vitest";
import { expectCopied, type Trial, tryProgram } from "./copying.ts";
import { claude } from "./programs/claude.ts";
import { codex } from "./programs/codex.ts";
import { opencodes } from "./programs/opencode.ts";
import { type Program, type Run, runProgram } from "./programs/program.ts";
import type { Way } from "./rows.ts";
import { openWay, type Target } from "./ways.ts";

const [opencode] = opencodes as [Program];
const main = fileURLToPath(new URL("../../src/cli/main.ts", import.meta.url));
const found = inject("clients");

/** What the user gives the program itself, to do the task without questions. */
const launches: readonly { program: Program; way: Way; where: string; args: (prompt: string) => string[] }[] = [
  {
    program: opencode,
    way: "llama_cpp",
    where: "the runtime",
    args: (prompt) => ["run", "--format", "json", prompt],
  },
  {
    program: codex,
    way: "relay",
    where: "a relay",
    args: (prompt) => ["exec", "--json", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox", prompt],
  },
  {
    program: claude,
    way: "gateway",
    where: "a gateway",
    args: (prompt) => ["-p", prompt, "--allowedTools", "Read,Write", "--output-format", "stream-json", "--verbose"],
  },
];

describe("lair launch starts a program that knows nothing of lair", () => {
  for (const { program, way, where, args } of launches)
    tryProgram(program.name, `${program.name} with a model of ${where}, and touches no other file`, async (trial) => {
      const { task } = trial;
      trial.note({ dialect: program.dialect, way: "launch" });
      const part = program.part(task);
      const target = await openWay(way, part, task);
      trial.after(() => target.close());

      const run = await launch(trial, program, target, args(task.prompt));

      expectCopied({ program, task, part, target }, run);
      expect(target.warnings).toEqual([]);
      expect(readdirSync(task.repository).sort()).toEqual([".git", "input.txt", "output.txt"]);
      expect(`${run.stdout}${run.stderr}`).not.toContain(target.key);
    });
});

/** `lair launch` with only the address, the model and the key given, and the program in the PATH. */
function launch({ task, signal }: Trial, { name }: Program, target: Target, args: string[]): Promise<Run> {
  const folder = path.join(task.home, "programs");
  mkdirSync(folder);
  put(folder, name);
  const own = ["launch", name, "--url", target.url, "--model", target.model, "--"];
  const start = {
    args: ["--import", import.meta.resolve("tsx"), main, ...own, ...args],
    env: { PATH: [folder, process.env["PATH"]].join(path.delimiter), LAIR_KEY: target.key },
  };
  return runProgram(process.execPath, start, task, AbortSignal.any([signal, target.looping]));
}

/** As npm would put it there. */
function put(folder: string, name: Program["name"]): void {
  const client = found[name];
  if ("missing" in client) throw new Error(client.missing);
  if (process.platform !== "win32") return symlinkSync(client.path, path.join(folder, name));
  const program = client.path.endsWith(".js") ? `node "${client.path}"` : `"${client.path}"`;
  writeFileSync(path.join(folder, `${name}.cmd`), `@ECHO off\r\n${program} %*\r\n`);
}
