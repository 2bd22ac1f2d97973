import { randomUUID } from "node:crypto";
import { open, readFile, rename, stat, unlink } from "node:fs/promises";
import { hostname } from "node:os";
import { setTimeout as delay } from "node:timers/promises";

/** A lock that this process holds. */
export interface HeldLock {
  /** False once somebody took it for the lock of a dead process. To be asked before what it protects is changed. */
  isHeld(): Promise<boolean>;
  release(): Promise<void>;
}

/** Whoever holds it does so for milliseconds; what is older was left behind, or its holder sleeps. */
const longestHeld = 30_000;
const longestWait = 10_000;
/** Between the file's creation and the holder's mark in it lie microseconds. */
const longestUnmarked = 2000;

/**
 * Takes the lock that the file stands for: it is created, and deleted on release. Waits while another process has it;
 * one that died with it, on this machine, is noticed at once. Throws when it stays taken for 10 s.
 */
export async function takeLock(path: string): Promise<HeldLock> {
  const mark = `${process.pid} ${hostname()} ${randomUUID()}`;
  const until = Date.now() + longestWait;
  while (!(await create(path, mark))) {
    await removeIfLeft(path);
    if (Date.now() > until) throw new Error(`${path} is held by another lair; delete it if none is running`);
    // Unequal steps, so that two who wait do not meet again and again.
    await delay(5 + Math.random() * 30);
  }
  return {
    isHeld: async () => (await readMark(path)) === mark,
    release: async () => {
      if ((await readMark(path)) === mark) await unlink(path).catch(() => undefined);
    },
  };
}

async function create(path: string, mark: string): Promise<boolean> {
  try {
    const file = await open(path, "wx", 0o600);
    try {
      await file.writeFile(mark);
    } finally {
      await file.close();
    }
    return true;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    // Windows says EPERM or EBUSY of a file that is just being deleted.
    if (code === "EEXIST" || (process.platform === "win32" && ["EPERM", "EBUSY", "EACCES"].includes(code ?? "")))
      return false;
    throw error;
  }
}

/** Removes the lock of a process that is dead. What was moved aside by mistake, because it changed hands, is put back. */
async function removeIfLeft(path: string): Promise<void> {
  const mark = await readMark(path);
  if (mark === undefined || !(await isLeft(path, mark))) return;
  const aside = `${path}.${randomUUID()}`;
  try {
    // Of several who saw it, one moves it; the others find nothing, or the lock of the next holder.
    await rename(path, aside);
  } catch {
    return;
  }
  const moved = await readMark(aside);
  if (moved !== undefined && moved !== mark) await create(path, moved);
  await unlink(aside).catch(() => undefined);
}

async function isLeft(path: string, mark: string): Promise<boolean> {
  const [pid = "", host] = mark.split(" ");
  if (host === hostname() && /^\d+$/.test(pid) && !isAlive(Number(pid))) return true;
  const since = await stat(path).then(
    ({ mtimeMs }) => Date.now() - mtimeMs,
    () => 0,
  );
  return since > (mark === "" ? longestUnmarked : longestHeld);
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    // EPERM: it is there, and another user's.
    return (error as NodeJS.ErrnoException).code !== "ESRCH";
  }
}

/** Undefined: there is no such file, or it cannot be read. */
function readMark(path: string): Promise<string | undefined> {
  return readFile(path, "utf8").catch(() => undefined);
}
