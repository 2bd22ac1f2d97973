import { copyFile, mkdir, readFile, realpath } from "node:fs/promises";
import { constants } from "node:fs";
import { dirname } from "node:path";
import { replaceFile } from "../../state/replace-file.ts";
import { ClientError, type OwnFile, type Saving } from "./client.ts";
import { differenceLines } from "./difference.ts";

/** Writes files of ours, for their owner only; one that is as it should be stays untouched. Throws `ClientError`. */
export async function writeFiles(files: readonly OwnFile[]): Promise<void> {
  for (const { path, text } of files) await write(path, text, await read(path));
}

/**
 * Changes a program's own files, each with a copy of what it was beside it, and says each line that changes. Nothing is
 * written before every change is known to work. Throws `ClientError`.
 */
export async function saveFiles({ edits, files }: Saving, print: (line: string) => void): Promise<void> {
  const plans = await Promise.all(
    edits.map(async ({ path, change }) => {
      // Whoever keeps such files elsewhere has links in their place, which stay.
      const real = await realpath(path).catch(() => path);
      const old = await read(real);
      return { path: real, old, next: change(old ?? "") };
    }),
  );
  await writeFiles(files);
  for (const { path, old, next } of plans) {
    if (old === next) {
      print(`${path} is as it should be`);
      continue;
    }
    if (old !== undefined) print(`${await copyAside(path)} keeps what was in ${path}`);
    await write(path, next, old);
    print(`written: ${path}`);
    for (const line of differenceLines(old ?? "", next)) print(`  ${withoutSecrets(line)}`);
  }
}

/** A line of what was there, with the values of its user's keys hidden; what comes new is ours, and holds none. */
function withoutSecrets(line: string): string {
  return line.startsWith("+")
    ? line
    : line.replace(/("[^"]*(?:key|token|secret|password|headers)[^"]*"\s*:\s*)"(?:[^"\\]|\\.)*"/gi, '$1"…"');
}

async function write(path: string, text: string, old: string | undefined): Promise<void> {
  if (text === old) return;
  try {
    await mkdir(dirname(path), { recursive: true, mode: 0o700 });
    await replaceFile(path, text, async () => (await read(path)) === old);
  } catch (error) {
    throw new ClientError(`${path} cannot be written: ${error instanceof Error ? error.message : String(error)}`);
  }
}

async function read(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code === "ENOENT") return undefined;
    throw new ClientError(`${path} cannot be read: ${message}`);
  }
}

/** Copies of one file that are kept. */
const mostCopies = 100;

/** The first of `file.bak`, `file.bak2` … that there is not yet. */
async function copyAside(path: string): Promise<string> {
  for (let count = 1; count <= mostCopies; count++) {
    const copy = `${path}.bak${count === 1 ? "" : count}`;
    try {
      await copyFile(path, copy, constants.COPYFILE_EXCL);
      return copy;
    } catch (error) {
      const { code, message } = error as NodeJS.ErrnoException;
      if (code !== "EEXIST") throw new ClientError(`${copy} cannot be written: ${message}`);
    }
  }
  throw new ClientError(`there are ${mostCopies} copies of ${path} already; remove some`);
}
