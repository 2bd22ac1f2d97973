import { type FSWatcher, statSync, watch } from "node:fs";
import { basename, dirname } from "node:path";

export interface FileWatch {
  /** Looks now, and calls back before it returns if there was a change. */
  look(): void;
  close(): void;
}

/** Network folders and some containers tell nothing of changes; there, this is how long one may go unnoticed. */
const pollInterval = 2000;
/** Several events belong to one change, and some programs write a file in pieces. */
const settleTime = 20;

/**
 * Calls back after the file was changed, replaced, created or deleted; it need not exist yet. Never keeps the process
 * alive.
 */
export function watchFile(path: string, onChange: () => void): FileWatch {
  let known = fingerprint(path);
  let settling: NodeJS.Timeout | undefined;
  const look = (): void => {
    clearTimeout(settling);
    settling = undefined;
    const found = fingerprint(path);
    if (found === known) return;
    known = found;
    onChange();
  };
  const begin = (): FSWatcher | undefined =>
    watchFolder(path, () => void (settling ??= setTimeout(look, settleTime).unref()));
  let watcher = begin();
  const poll = setInterval(() => {
    // Its folder may have come to be.
    watcher ??= begin();
    look();
  }, pollInterval).unref();
  return {
    look,
    close() {
      clearInterval(poll);
      clearTimeout(settling);
      watcher?.close();
    },
  };
}

function watchFolder(path: string, onEvent: () => void): FSWatcher | undefined {
  try {
    const name = basename(path);
    const watcher = watch(dirname(path), { persistent: false }, (_, changed) => {
      if (changed === null || changed === name) onEvent();
    });
    // The folder was deleted, or the system has no more watches: the poll goes on.
    watcher.on("error", () => watcher.close());
    return watcher;
  } catch {
    return undefined;
  }
}

/** Differs whenever the file does: one that was replaced has another inode, even within the clock's tick. */
function fingerprint(path: string): string {
  try {
    const { ino, size, mtimeNs } = statSync(path, { bigint: true });
    return `${ino} ${size} ${mtimeNs}`;
  } catch {
    return "";
  }
}
