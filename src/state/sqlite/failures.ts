import { StateError } from "../state.ts";
import { sqliteCode } from "./database.ts";

/** SQLite's result codes (https://www.sqlite.org/rescode.html) of which the state knows what they mean for it. */
export const busy = 5;
export const corrupt = 11;
export const full = 13;
const noDatabase = 26;

/** What is wrong, and what to do, by SQLite's code. */
const remedies: Readonly<Record<number, string>> = {
  3: "its permissions do not let lair use it; make it and its folder writable for the user who runs lair",
  [busy]: "another process keeps it locked; end that process, or look for one that hangs",
  6: "another process keeps it locked; end that process, or look for one that hangs",
  8: "it is read-only; make the file and its folder writable for the user who runs lair",
  10: "the disk reports an error; look into the system's log, and name a file on another disk",
  [corrupt]: "it is damaged",
  [full]: "the disk is full; make room, and it goes on by itself",
  14: "it cannot be opened or its -wal and -shm files cannot be made beside it; make the file and its folder writable for the user who runs lair",
  [noDatabase]: "it is damaged, or no state file of lair",
};

/** What a driver or the file system has thrown, as a `StateError` that names the file; other things as they are. */
export function toStateError(error: unknown, place: string): unknown {
  if (error instanceof StateError) return error;
  const code = sqliteCode(error);
  const remedy =
    code === undefined ? fileRemedy(error) : (remedies[code] ?? `SQLite says: ${(error as Error).message}`);
  if (remedy === undefined) return error;
  return new StateError(`the state file ${place} cannot be used: ${remedy}`, { cause: error });
}

/** Whether it says that the state itself does not work, and not that somebody asked for the impossible. */
export function isOutage(error: unknown): boolean {
  const cause = error instanceof StateError ? error.cause : error;
  const code = sqliteCode(cause);
  return code === undefined ? fileRemedy(cause) !== undefined : code in remedies;
}

/** Whether the content of the file is not what SQLite has written. */
export function isCorrupt(error: unknown): boolean {
  const code = sqliteCode(error);
  return code === corrupt || code === noDatabase;
}

const fileRemedies: Readonly<Record<string, string>> = {
  EACCES: remedies[3]!,
  EPERM: remedies[3]!,
  EROFS: remedies[8]!,
  ENOSPC: remedies[full]!,
  EDQUOT: remedies[full]!,
  EIO: remedies[10]!,
  ENOTDIR: "a part of its path is a file and no folder; name another place",
  EEXIST: "a part of its path is a file and no folder; name another place",
  ENOENT: "its folder is gone; make it again",
  ENAMETOOLONG: "its name is too long; name another place",
  ELOOP: "its path is a loop of links; name another place",
  EBUSY: "another program uses it; end that program",
};

function fileRemedy(error: unknown): string | undefined {
  if (!(error instanceof Error)) return undefined;
  const { code } = error as NodeJS.ErrnoException;
  return typeof code === "string" ? fileRemedies[code] : undefined;
}
