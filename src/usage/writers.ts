import { createHash, randomBytes } from "node:crypto";
import { readlinkSync } from "node:fs";
import { readdir, stat } from "node:fs/promises";
import { hostname } from "node:os";
import { join } from "node:path";

/** A file that a writer has left. */
export interface AbandonedSegment {
  readonly writer: string;
  readonly sequence: number;
  readonly path: string;
}

/** Writers whose process cannot be asked for are dead when none of their files has changed for so many milliseconds; living ones begin a new file sooner. */
const longestQuiet = 180_000;

/** Journals of this process that are open. */
const own = new Set<string>();

/** A name for the journal of one start of a process: where, which process, and 8 characters of chance. */
export function newWriter(): string {
  const writer = `${place()}-${process.pid}-${randomBytes(4).toString("hex")}`;
  own.add(writer);
  return writer;
}

/** The journal is closed; what it has left, another may carry. */
export function forgetWriter(writer: string): void {
  own.delete(writer);
}

export function segmentPath(folder: string, writer: string, sequence: number): string {
  return join(folder, `${writer}.${sequence}.jsonl`);
}

/** What writers that are gone have left in the folder, each one's in the order of its sequence. Throws node's error when the folder cannot be read. */
export async function findAbandoned(folder: string): Promise<AbandonedSegment[]> {
  const byWriter = new Map<string, AbandonedSegment[]>();
  for (const name of await list(folder)) {
    const [, writer, digits] = /^([0-9a-f]{8}-\d{1,10}-[0-9a-f]{8})\.(\d{1,15})\.jsonl$/.exec(name) ?? [];
    if (writer === undefined || own.has(writer)) continue;
    const segment = { writer, sequence: Number(digits), path: join(folder, name) };
    byWriter.set(writer, [...(byWriter.get(writer) ?? []), segment]);
  }
  const found: AbandonedSegment[] = [];
  for (const [writer, segments] of byWriter) {
    if (!(await isDead(writer, segments))) continue;
    found.push(...segments.sort((one, other) => one.sequence - other.sequence));
  }
  return found;
}

async function list(folder: string): Promise<string[]> {
  try {
    return await readdir(folder);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
    throw error;
  }
}

async function isDead(writer: string, segments: readonly AbandonedSegment[]): Promise<boolean> {
  const [where, pid] = writer.split("-");
  // Of this process, and none of its open ones: of one before it that had the same number.
  if (where === place() && (Number(pid) === process.pid || !isAlive(Number(pid)))) return true;
  const times = await Promise.all(
    segments.map(({ path }) =>
      stat(path).then(
        ({ mtimeMs }) => mtimeMs,
        () => 0,
      ),
    ),
  );
  return Date.now() - Math.max(...times) > longestQuiet;
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== "ESRCH";
  }
}

/** Names the machine, or the container: elsewhere the numbers of processes mean others. */
function place(): string {
  let namespace = "";
  try {
    namespace = readlinkSync("/proc/self/ns/pid");
  } catch {
    // Only Linux has several.
  }
  return createHash("sha256").update(`${hostname()} ${namespace}`).digest("hex").slice(0, 8);
}
