import { type ChildProcess, spawn } from "node:child_process";
import { accessSync, constants, existsSync, realpathSync } from "node:fs";
import { delimiter, dirname, join } from "node:path";

/** How to start the user's npm without a shell. */
export interface Npm {
  readonly command: string;
  readonly args: readonly string[];
}

/**
 * The npm of this machine: the one that started this program, the one beside this Node, or the first of `searchPath`
 * (the variable PATH); null where there is none. Its settings (registry, proxy, credentials) are the user's.
 */
export function findNpm(searchPath: string, execPath: string = process.execPath): Npm | null {
  const beside = [
    join(dirname(execPath), "node_modules", "npm", "bin", "npm-cli.js"),
    join(dirname(dirname(execPath)), "lib", "node_modules", "npm", "bin", "npm-cli.js"),
  ];
  const script = beside.find((path) => existsSync(path));
  if (script !== undefined) return { command: execPath, args: [script] };
  for (const folder of searchPath.split(delimiter).filter((part) => part !== "")) {
    const found = inFolder(folder, execPath);
    if (found !== null) return found;
  }
  return null;
}

/** On Windows `npm` is a batch file, which only a shell can run: the script that it would run lies beside it. */
function inFolder(folder: string, execPath: string): Npm | null {
  const script = join(folder, "node_modules", "npm", "bin", "npm-cli.js");
  if (existsSync(script)) return { command: execPath, args: [script] };
  const program = join(folder, "npm");
  if (process.platform === "win32" || !isExecutable(program)) return null;
  const real = realpathSync(program);
  return real.endsWith("npm-cli.js") ? { command: execPath, args: [real] } : { command: program, args: [] };
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/** Starts npm in a folder; its standard error is a pipe. */
export function startNpm(npm: Npm, args: readonly string[], cwd: string): ChildProcess {
  return spawn(npm.command, [...npm.args, ...args], { cwd, stdio: ["ignore", "ignore", "pipe"], windowsHide: true });
}
