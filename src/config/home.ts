import { homedir } from "node:os";
import { join } from "node:path";

/** `~/models`, as YAML files and PowerShell hand it on, with the folder of the user in its place. */
export function withHome(path: string, home: string = homedir()): string {
  return /^~[/\\]/.test(path) ? join(home, path.slice(2)) : path;
}
