import { spawn } from "node:child_process";
import type { Dialect } from "../rows.ts";
import type { ProgramName } from "../releases.ts";
import type { Part } from "../scenes.ts";
import type { Target } from "../ways.ts";
import { environment, type Task } from "../workplace.ts";

/** A client program, configured for one dialect. */
export interface Program {
  readonly name: ProgramName;
  readonly dialect: Dialect;
  /** What it asks for the task when all goes well. Claude Code asks everything twice where a stream is not what it wants. */
  readonly requests: number;
  /** The calls of its own tools that do the task. */
  part(task: Task): Part;
  /**
   * Writes the configuration that it needs into its home; gives its arguments and variables. `hasty`: it waits 3 s for
   * the server to say something, in place of 300 s.
   */
  configure(task: Task, target: Target, hasty?: boolean): Start;
  /** What it shows of a run in which the task was done. */
  readonly shown: { tools(run: Run): string[]; text(run: Run): string | undefined };
}

export interface Start {
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string>>;
}

/** What a program has done. */
export interface Run {
  /** Its exit code; null when it had to be ended. */
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs an executable in the task's repository to its end, or until it is told to end, cut off from the internet. */
export async function runProgram(executable: string, start: Start, task: Task, signal: AbortSignal): Promise<Run> {
  const script = /\.[cm]?js$/.test(executable) ? [executable] : [];
  const child = spawn(script.length > 0 ? process.execPath : executable, [...script, ...start.args], {
    cwd: task.repository,
    env: environment(task.home, start.env),
    stdio: ["ignore", "pipe", "pipe"],
    windowsHide: true,
    killSignal: "SIGKILL",
    signal,
  });
  const run = { stdout: "", stderr: "" };
  child.stdout.on("data", (chunk: Buffer) => (run.stdout += chunk.toString()));
  child.stderr.on("data", (chunk: Buffer) => (run.stderr += chunk.toString()));
  const code = await new Promise<number | null>((resolve, reject) => {
    child.on("close", resolve);
    child.on("error", (error) => signal.aborted || reject(error));
  });
  return { code, ...run };
}

/** The lines of an output that are JSON objects. */
export function jsonLines(text: string): Record<string, unknown>[] {
  return text
    .split("\n")
    .filter((line) => line.startsWith("{"))
    .map((line) => JSON.parse(line) as Record<string, unknown>);
}
