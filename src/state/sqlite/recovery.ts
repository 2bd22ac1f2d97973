import type { Log } from "../../core/log.ts";
import { takeLock } from "../file-lock.ts";
import { StateError } from "../state.ts";
import type { Database, OpenDatabase } from "./database.ts";
import { type KeyCopy, readKeyCopy } from "./key-backup.ts";
import { readKeys } from "./key-rows.ts";
import { identify, moveAside } from "./place.ts";

/**
 * Keeps a damaged state file under another name. Returns the newest keys that there are: its own, where they can still be
 * read, or those of the copy beside it. Throws `StateError` when it never was a state: then it is as it was.
 */
export async function setAside(
  file: string,
  { driver, log }: { readonly driver: OpenDatabase; readonly log: Log },
): Promise<KeyCopy | undefined> {
  const damaged = identify(file);
  const lock = await takeLock(`${file}.lock`);
  try {
    // Another process was faster.
    if (damaged === undefined || identify(file) !== damaged) return undefined;
    const copy = readKeyCopy(file);
    if (copy === undefined) {
      throw new StateError(
        `${file} is damaged, or no state file of lair, and no copy of its keys is beside it: move it away, or name another file; nothing was changed`,
      );
    }
    const salvaged = salvage(file, driver);
    const aside = moveAside(file);
    log.error(
      { file, kept: aside },
      `the state file ${file} is damaged: it is kept as ${aside}, with the usage up to now, and a new one takes its place`,
    );
    return salvaged !== undefined && salvaged.revision >= copy.revision ? salvaged : copy;
  } finally {
    await lock.release();
  }
}

/** Mostly it is the usage that is damaged, as nearly all of the file is. */
function salvage(file: string, driver: OpenDatabase): KeyCopy | undefined {
  let db: Database | undefined;
  try {
    db = driver(file);
    return { ...readKeys(db, 0, Number.MAX_SAFE_INTEGER), time: Date.now() };
  } catch {
    return undefined;
  } finally {
    db?.close();
  }
}
