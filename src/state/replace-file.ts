import { randomUUID } from "node:crypto";
import { open, readdir, rename, rm } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";

const ending = ".aside";

/**
 * Puts the text in the place of the file's, for its owner's eyes only: readers see the old or the new one whole, and
 * what was said to be written survives a power cut. `mayReplace` is asked last. One writer at a time.
 */
export async function replaceFile(path: string, text: string, mayReplace: () => Promise<boolean>): Promise<void> {
  const folder = dirname(path);
  await removeLeftovers(folder, basename(path));
  const aside = `${path}.${randomUUID()}${ending}`;
  try {
    const file = await open(aside, "wx", 0o600);
    try {
      await file.writeFile(text);
      await file.sync();
    } finally {
      await file.close();
    }
    if (!(await mayReplace())) throw new Error(`another lair changed ${path} in between; please repeat the command`);
    await moveOver(aside, path);
  } catch (error) {
    await rm(aside, { force: true });
    throw error;
  }
  await syncFolder(folder);
}

/** On Windows a file that somebody reads just now is not replaced; virus scanners read each new one. */
async function moveOver(from: string, to: string): Promise<void> {
  for (let tries = 1; ; tries++) {
    try {
      await rename(from, to);
      return;
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (tries === 20 || !["EPERM", "EACCES", "EBUSY"].includes(code ?? "") || process.platform !== "win32")
        throw error;
      await delay(10 * tries);
    }
  }
}

/** What a writer has left that was killed. */
async function removeLeftovers(folder: string, name: string): Promise<void> {
  for (const entry of await readdir(folder)) {
    if (entry.startsWith(`${name}.`) && entry.endsWith(ending)) await rm(join(folder, entry), { force: true });
  }
}

/** Windows has no such thing. */
async function syncFolder(folder: string): Promise<void> {
  if (process.platform === "win32") return;
  const handle = await open(folder, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
