import { constants } from "node:fs";
import { access, readFile, stat } from "node:fs/promises";
import { delimiter, dirname, isAbsolute, join } from "node:path";
import type { Environment } from "../../config/environment.ts";
import { ClientError } from "./client.ts";
import { escapeForBatch, quoteForBatch } from "./quoting.ts";

/** A program as it can be started without a shell that would read its arguments. */
export interface Program {
  readonly file: string;
  /** What comes before the program's own arguments. */
  readonly before: readonly string[];
  /** Whether it is a batch file, whose arguments go through cmd.exe. */
  readonly batch: boolean;
}

/** The first program of that name in the folders of PATH; undefined: there is none. */
export async function findProgram(
  name: string,
  env: Environment,
  platform: NodeJS.Platform = process.platform,
): Promise<Program | undefined> {
  const windows = platform === "win32";
  const folders = (variable(env, "PATH", windows) ?? "").split(delimiter).map((folder) => folder.trim());
  const endings = windows ? (variable(env, "PATHEXT", windows) || ".COM;.EXE;.BAT;.CMD").split(";") : [""];
  // A relative folder would find a program of the project that is worked on.
  for (const folder of folders.filter((one) => isAbsolute(one))) {
    for (const ending of endings) {
      const file = join(folder, name + ending.toLowerCase());
      if (!(await isProgram(file, windows))) continue;
      return /\.(cmd|bat)$/i.test(file) ? await behindShim(file) : { file, before: [], batch: false };
    }
  }
  return undefined;
}

/** The command line of a program, for `spawn`. Throws `ClientError` for what cannot be handed to a batch file safely. */
export function commandOf(
  { file, before, batch }: Program,
  args: readonly string[],
  env: Environment,
): { file: string; args: string[]; verbatim: boolean } {
  if (!batch) return { file, args: [...before, ...args], verbatim: false };
  if (args.some((one) => /[\r\n\0]/.test(one)))
    throw new ClientError(`${file} is a batch file, to which no argument of several lines can be given`);
  // Node refuses to start batch files without a shell (CVE-2024-27980), and its own way to start a shell quotes nothing.
  const line = [escapeForBatch(file), ...args.map(quoteForBatch)].join(" ");
  const shell = variable(env, "ComSpec", true) ?? "cmd.exe";
  return { file: shell, args: ["/d", "/s", "/c", `"${line}"`], verbatim: true };
}

/** A variable by its name; Windows makes no difference between `PATH` and `Path`. */
function variable(env: Environment, name: string, windows: boolean): string | undefined {
  if (!windows) return env[name];
  const found = Object.keys(env).find((one) => one.toLowerCase() === name.toLowerCase());
  return found === undefined ? undefined : env[found];
}

async function isProgram(file: string, windows: boolean): Promise<boolean> {
  try {
    if (!(await stat(file)).isFile()) return false;
    if (!windows) await access(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/** What the shims of npm, pnpm and yarn start: the script or program that stands before `%*` in them; so no cmd.exe is needed. */
async function behindShim(shim: string): Promise<Program> {
  const asItIs = { file: shim, before: [], batch: true };
  const text = await readFile(shim, "latin1");
  const [, beside] = /"%(?:~dp0|dp0%)\\?([^"%]+)"\s+%\*/i.exec(text) ?? [];
  if (beside === undefined) return asItIs;
  const target = join(dirname(shim), beside.replaceAll("\\", "/"));
  if (!(await isProgram(target, true))) return asItIs;
  if (/\.exe$/i.test(target)) return { file: target, before: [], batch: false };
  return /\bnode(\.exe)?"/i.test(text) ? { file: process.execPath, before: [target], batch: false } : asItIs;
}
