import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { mkdtempSync, openSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { CannotRun } from "./options.ts";

export interface Start {
  readonly command: string;
  readonly args: readonly string[];
  /** The core that the process and its children are pinned to. */
  readonly core: string;
  readonly env?: Record<string, string>;
  /** File that gets stdout and stderr; without it stdin and stdout are pipes, and stderr is the bench's own. */
  readonly log?: string;
}

const running = new Set<ChildProcess>();
const folders: string[] = [];

/** Starts a program pinned to one core, as the leader of a process group of its own. */
export function startPinned(start: Start): ChildProcess {
  return startFree({ ...start, command: "taskset", args: ["-c", start.core, start.command, ...start.args] });
}

/** The same on all cores. */
export function startFree(start: Omit<Start, "core">): ChildProcess {
  // "a": the log can be cut to zero while it is written.
  const log = start.log === undefined ? undefined : openSync(start.log, "a");
  const child = spawn(start.command, start.args, {
    detached: true,
    env: { ...plainEnvironment(), ...start.env },
    stdio: log === undefined ? ["pipe", "pipe", "inherit"] : ["ignore", log, log],
  });
  child.on("error", (error) => console.error(`${start.command}: ${error.message}`));
  child.once("exit", () => running.delete(child));
  running.add(child);
  return child;
}

/** No settings or HTTP proxies of this shell. */
function plainEnvironment(): Record<string, string> {
  return { PATH: process.env["PATH"] ?? "", HOME: process.env["HOME"] ?? "" };
}

/** Asks a program to end, kills it with its children after some seconds, and waits until it is gone. */
export async function stop(child: ChildProcess, seconds = 1): Promise<void> {
  const late = setTimeout(() => killGroup(child), seconds * 1000);
  child.kill("SIGTERM");
  await gone(child);
  clearTimeout(late);
}

/** Ends a program and its children at once, and waits until it is gone. */
export async function kill(child: ChildProcess): Promise<void> {
  killGroup(child);
  await gone(child);
}

async function gone(child: ChildProcess): Promise<void> {
  if (child.exitCode === null && child.signalCode === null) await new Promise((resolve) => child.once("exit", resolve));
}

/** What a program started without a log prints, line by line. */
export function linesOf(child: ChildProcess): AsyncIterator<string> {
  return createInterface({ input: child.stdout! })[Symbol.asyncIterator]();
}

/** The next of them. Throws where the program has ended. */
export async function nextLine(lines: AsyncIterator<string>): Promise<string> {
  const line = await lines.next();
  if (line.done === true) throw new Error("a program of the bench ended unexpectedly; see above");
  return line.value;
}

/** A fresh folder that is gone when the bench is. */
export function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "lair-bench-"));
  folders.push(folder);
  return folder;
}

/** Ends everything that was started and removes its files; for the bench's own end. */
export function cleanUp(): void {
  for (const child of running) killGroup(child);
  for (const folder of folders) rmSync(folder, { recursive: true, force: true });
}

function killGroup(child: ChildProcess): void {
  try {
    process.kill(-child.pid!, "SIGKILL");
  } catch {
    // It is gone already.
  }
}

/** A process and all that it and its children started, e.g. what sshd starts for each connection in a session of its own. */
export function familyOf(ancestor: number): number[] {
  const parents = new Map<number, number>();
  for (const name of readdirSync("/proc")) if (/^\d+$/.test(name)) parents.set(Number(name), parentOf(name));
  const family = [ancestor];
  for (const member of family) for (const [pid, parent] of parents) if (parent === member) family.push(pid);
  return family;
}

function parentOf(pid: string): number {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    return Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]);
  } catch {
    return 0;
  }
}

/** Resident memory of processes together, in MB of 2^20 bytes. Pages that they share count once for each. */
export function residentMegabytes(pids: readonly number[]): number {
  const kilobytes = pids.map((pid) =>
    Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1] ?? 0),
  );
  return kilobytes.reduce((sum, next) => sum + next, 0) / 1024;
}

/** A port of the loopback interface that was free a moment ago. */
export function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer().once("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const address = server.address();
      server.close(() => resolve(typeof address === "object" && address !== null ? address.port : 0));
    });
  });
}

/** Waits until `check` holds; says what did not come about after `seconds`. */
export async function until(what: string, seconds: number, check: () => Promise<boolean> | boolean): Promise<void> {
  const deadline = performance.now() + seconds * 1000;
  while (!(await check())) {
    if (performance.now() > deadline) throw new Error(`${what}: not within ${seconds} s`);
    await sleep(20);
  }
}

/** The path of a program, or undefined. Debian keeps servers in `/usr/sbin`, which is not on everyone's PATH. */
export function findProgram(name: string): string | undefined {
  const found = spawnSync("sh", ["-c", `PATH="$PATH:/usr/sbin:/usr/local/sbin"; command -v ${name}`], {
    encoding: "utf8",
  });
  return found.status === 0 ? found.stdout.trim() : undefined;
}

/** Throws `CannotRun` elsewhere. */
export function requireLinux(): void {
  if (process.platform !== "linux") throw new CannotRun("the bench needs Linux: it reads /proc");
}

/** Throws `CannotRun` where the machine lacks what a bench with pinned processes needs. */
export function requireTools(): void {
  requireLinux();
  if (findProgram("taskset") === undefined)
    throw new CannotRun("taskset is missing; install util-linux (Debian: apt-get install util-linux)");
  if (findProgram("cc") === undefined)
    throw new CannotRun(
      "no C compiler: the mock upstream and the clients are C; Debian: apt-get install gcc libc6-dev",
    );
}
