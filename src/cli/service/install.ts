import { execFile } from "node:child_process";
import { chmodSync, chownSync, existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import type { Terminal } from "../command.ts";
import { mark, type Registration, type Site, type Step } from "./definition.ts";

/** The key of a program, and the file that is to hold it. */
export interface KeyFile {
  readonly path: string;
  /** Undefined: the file is there already, and stays. */
  readonly key: string | undefined;
}

/** What is to be installed. */
export interface Installation {
  readonly site: Site;
  readonly registration: Registration;
  readonly definition: string;
  readonly keyFile: KeyFile | undefined;
}

/** What cannot be done, as one line for a person. */
export class ServiceError extends Error {
  override readonly name = "ServiceError";
}

/** Shows what `install` would write and run. */
export function preview({ site, registration, definition, keyFile }: Installation, terminal: Terminal): void {
  terminal.print(`${registration.file}:\n\n${definition}`);
  if (keyFile?.key !== undefined) terminal.print(`${keyFile.path}: the agent's key, for ${site.user} alone\n`);
  terminal.print("commands:");
  for (const step of registration.start) terminal.print(`  ${commandLine(step)}`);
}

/** Writes the definition and starts it. False: it is written, but the system could not be told. Throws `ServiceError`. */
export async function install(installation: Installation, terminal: Terminal): Promise<boolean> {
  const { site, registration, definition, keyFile } = installation;
  if (existsSync(registration.file) && !isOurs(registration))
    throw new ServiceError(`${registration.file} was not written by lair, and stays as it is; choose a --service-name`);
  if (keyFile?.key !== undefined) await writeKey(site, keyFile.path, keyFile.key, terminal);
  const bytes =
    registration.encoding === "utf16le"
      ? Buffer.from(`\ufeff${definition.replaceAll("\n", "\r\n")}`, "utf16le")
      : Buffer.from(definition);
  writeWhole(registration.file, bytes, 0o644);
  terminal.print(`written: ${registration.file}\n\n${definition}`);
  return runSteps(registration.start, terminal);
}

/** Stops the service and removes what `install` wrote; what was removed. Throws `ServiceError` for a definition of others. */
export async function uninstall(
  registration: Registration,
  keyFile: string,
  terminal: Terminal,
): Promise<readonly string[]> {
  const there = existsSync(registration.file);
  if (there && !isOurs(registration))
    throw new ServiceError(`${registration.file} was not written by lair, and stays as it is`);
  if (there) await runSteps(registration.stop, terminal);
  const removed = [registration.file, keyFile].filter((path) => existsSync(path));
  for (const path of removed) attempt(`cannot remove ${path}`, () => rmSync(path));
  if (there) await runSteps(registration.forget, terminal);
  return removed;
}

/** What the system says of the service, and whether it knows it. */
export function ask(registration: Registration): Promise<Ran> {
  return run(registration.status);
}

/** What a command of the system's has said. */
interface Ran {
  /** Undefined: there is no such command, or it did not end by itself. */
  readonly code: number | undefined;
  readonly output: string;
}

/** Runs the steps, each shown, up to the first that fails. */
async function runSteps(steps: readonly Step[], terminal: Terminal): Promise<boolean> {
  for (const [at, step] of steps.entries()) {
    const { code, output } = await run(step);
    if (code === 0 || step.optional === true) {
      if (code === 0) terminal.print(`done: ${commandLine(step)}`);
      continue;
    }
    terminal.complain(`failed: ${commandLine(step)}${output === "" ? "" : `\n${output}`}`);
    terminal.complain("when the system can be reached, run:");
    for (const left of steps.slice(at)) terminal.complain(`  ${commandLine(left)}`);
    return false;
  }
  return true;
}

function run({ command: [program, ...words] }: Step): Promise<Ran> {
  return new Promise((resolve) => {
    execFile(program, words, { timeout: 60_000, windowsHide: true }, (error, stdout, stderr) => {
      const text = `${stdout}${stderr}`.trim();
      if (error === null) return resolve({ code: 0, output: text });
      const { code } = error;
      if (typeof code === "number") return resolve({ code, output: text });
      resolve({ code: undefined, output: code === "ENOENT" ? `there is no ${program} here` : text });
    });
  });
}

/** The key, for the service's user alone. */
async function writeKey(
  { platform, system, uid, user }: Site,
  path: string,
  key: string,
  terminal: Terminal,
): Promise<void> {
  writeWhole(path, Buffer.from(`${key}\n`), 0o600);
  if (platform === "win32") {
    const who = system ? "*S-1-5-19" : user;
    // Administrators and the system read everything anyway; without them a task of the system's could not be mended.
    const step: Step = {
      command: ["icacls.exe", path, "/inheritance:r", "/grant:r", `${who}:F`, "*S-1-5-18:F", "*S-1-5-32-544:F"],
    };
    const { code, output } = await run(step);
    if (code !== 0) {
      rmSync(path, { force: true });
      throw new ServiceError(`the key file cannot be closed to others: ${commandLine(step)}: ${output}`);
    }
  } else if (uid !== undefined && uid !== process.getuid?.()) {
    attempt(`cannot give ${path} to ${user}`, () => chownSync(path, uid, -1));
  }
  terminal.print(
    `written: ${path} (the agent's key, for ${system && platform === "win32" ? "the service" : user} alone)`,
  );
}

/** The file, whole or not at all, and never for a moment with wider rights than it is to have. */
function writeWhole(path: string, bytes: Buffer, mode: number): void {
  const draft = `${path}.${process.pid}.new`;
  attempt(`cannot write ${path}`, () => {
    mkdirSync(dirname(path), { recursive: true });
    rmSync(draft, { force: true });
    writeFileSync(draft, bytes, { mode, flag: "wx" });
    chmodSync(draft, mode);
    renameSync(draft, path);
  });
}

function isOurs({ file, encoding }: Registration): boolean {
  return attempt(`cannot read ${file}`, () => readFileSync(file, encoding)).includes(mark);
}

function attempt<T>(what: string, action: () => T): T {
  try {
    return action();
  } catch (error) {
    const { code = String(error) } = error as NodeJS.ErrnoException;
    const hint = code === "EACCES" || code === "EPERM" ? " (as root or administrator, it can)" : "";
    throw new ServiceError(`${what}: ${code}${hint}`);
  }
}

/** The command as a person would type it. */
function commandLine({ command }: Step): string {
  return command.map((word) => (/^[\w/.:=@*+\\-]+$/.test(word) ? word : JSON.stringify(word))).join(" ");
}
