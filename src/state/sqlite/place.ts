import {
  chmodSync,
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  renameSync,
  rmSync,
  type Stats,
  statSync,
} from "node:fs";
import path from "node:path";
import { StateError } from "../state.ts";

/** What SQLite keeps beside its file, and what belongs to it: https://www.sqlite.org/walformat.html. */
const [log, index] = ["-wal", "-shm"];

/**
 * Makes the file and its folder where there are none, for their owner alone. Throws `StateError` when it can be no file.
 * An existing file is never opened here: closing it again would undo the locks that SQLite has on it in this process.
 */
export function prepareFile(file: string): void {
  const found = statSync(file, { throwIfNoEntry: false });
  if (found !== undefined) {
    assertFile(file, found);
    // The other two may have been made while this one was read-only, and would stay so.
    for (const each of [file, `${file}${log}`, `${file}${index}`]) setMode(each, found.mode & 0o700);
    return;
  }
  mkdirSync(path.dirname(file), { recursive: true, mode: 0o700 });
  try {
    // SQLite gives its other files the mode of this one.
    closeSync(openSync(file, "wx", 0o600));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
  }
}

/** Differs when another file has taken its place; undefined: there is none. */
export function identify(file: string): string | undefined {
  const found = statSync(file, { bigint: true, throwIfNoEntry: false });
  return found === undefined ? undefined : `${found.dev} ${found.ino}`;
}

/** Bytes; 0: there is none. */
export function sizeOf(file: string): number {
  return statSync(file, { throwIfNoEntry: false })?.size ?? 0;
}

/** Gives a damaged file another name, with what SQLite keeps beside it. Returns that name. */
export function moveAside(file: string): string {
  const aside = `${file}.corrupt-${new Date().toISOString().replaceAll(":", "-")}`;
  renameSync(file, aside);
  if (existsSync(`${file}${log}`)) renameSync(`${file}${log}`, `${aside}${log}`);
  rmSync(`${file}${index}`, { force: true });
  return aside;
}

function assertFile(file: string, found: Stats): void {
  if (found.isDirectory()) {
    throw new StateError(`${file} is a folder: name a file for the state, such as ${path.join(file, "state.db")}`);
  }
  if (!found.isFile()) throw new StateError(`${file} is no ordinary file: name another one for the state`);
}

function setMode(file: string, mode: number): void {
  const found = statSync(file, { throwIfNoEntry: false });
  if (found === undefined || (found.mode & 0o777) === mode) return;
  try {
    chmodSync(file, mode);
  } catch {
    // It is another user's, and he has let us in.
  }
}
