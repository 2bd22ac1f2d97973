import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import path from "node:path";

const main = path.join(import.meta.dirname, "../../src/cli/main.ts");

/** A started program, whose output can be waited for. */
export interface Program {
  readonly child: ChildProcess;
  /** Everything printed so far on both streams. */
  output(): string;
  /** The first match of the output; waits for it, and rejects when the program ends without. */
  until(pattern: RegExp): Promise<RegExpExecArray>;
  readonly ended: Promise<Ended>;
}

export interface Ended {
  /** null when a signal ended it. */
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/**
 * Starts `lair` with this environment only, and no configuration of this machine: from its sources, or the built
 * program whose path `script` is.
 */
export function start(
  args: readonly string[],
  options: { env?: Record<string, string>; cwd: string; script?: string },
): Program {
  const env = {
    PATH: process.env["PATH"] ?? "",
    SystemRoot: process.env["SystemRoot"] ?? "",
    HOME: options.cwd,
    USERPROFILE: options.cwd,
    APPDATA: options.cwd,
    ...options.env,
  };
  const program = options.script === undefined ? ["--import", import.meta.resolve("tsx"), main] : [options.script];
  const child = spawn(process.execPath, [...program, ...args], {
    cwd: options.cwd,
    env,
    stdio: ["ignore", "pipe", "pipe"],
  });
  const texts = { stdout: "", stderr: "" };
  for (const name of ["stdout", "stderr"] as const)
    child[name].setEncoding("utf8").on("data", (text: string) => (texts[name] += text));
  const output = (): string => texts.stdout + texts.stderr;
  const ended = once(child, "close").then(([code]) => ({ code: code as number | null, ...texts }));
  return {
    child,
    output,
    ended,
    until: (pattern) =>
      new Promise((resolve, reject) => {
        const look = (): void => {
          const match = pattern.exec(output());
          if (match !== null) resolve(match);
        };
        child.stdout.on("data", look);
        child.stderr.on("data", look);
        child.on("close", () => reject(new Error(`ended without ${String(pattern)}:\n${output()}`)));
        look();
      }),
  };
}

/** Runs `lair` to its end. */
export function run(args: readonly string[], options: { env?: Record<string, string>; cwd: string }): Promise<Ended> {
  return start(args, options).ended;
}
