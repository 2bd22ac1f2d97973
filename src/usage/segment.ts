import { closeSync, ftruncateSync, mkdirSync, openSync, unlinkSync, writeSync } from "node:fs";
import { readFile, rename, unlink } from "node:fs/promises";
import { dirname } from "node:path";
import type { UsageRecord } from "../state/state.ts";
import { decodeLine, encodeRecord, encodeReplacement } from "./record-line.ts";

/** One file of a journal: what is carried into the state as one batch, under its sequence, however often it takes. */
export class Segment {
  readonly path: string;
  readonly sequence: number;
  /** Records, and bytes of the file. */
  count = 0;
  bytes = 0;
  /** Why the file does not hold all of it; undefined while it does. */
  problem: Error | undefined;
  #records: UsageRecord[] | undefined = [];
  #file: number | undefined;
  /** Lines that are not written yet. */
  #waiting = "";

  /** Creates its file when the first record comes. */
  constructor(path: string, sequence: number) {
    this.path = path;
    this.sequence = sequence;
  }

  /** To be written by `write`. */
  append(record: UsageRecord): void {
    this.#records?.push(record);
    this.count++;
    if (this.problem === undefined) this.#waiting += encodeRecord(record);
  }

  /** Puts all lines into the file. Never throws: what the disk does not take stays in memory, and `problem` says why. */
  write(): void {
    if (this.#waiting === "" || this.problem !== undefined) return;
    const bytes = Buffer.from(this.#waiting);
    this.#waiting = "";
    try {
      this.#file ??= create(this.path);
      // A disk that is full may take a part.
      for (let at = 0; at < bytes.length;) at += writeSync(this.#file, bytes, at);
      this.bytes += bytes.length;
    } catch (error) {
      this.problem = error as Error;
      this.#cut();
    }
  }

  /** Puts a record in another's place; false when that is not in memory here. */
  replace(old: UsageRecord, record: UsageRecord): boolean {
    const index = this.#records?.lastIndexOf(old) ?? -1;
    if (this.#records === undefined || index === -1) return false;
    this.#records[index] = record;
    this.#waiting += encodeReplacement(index, record);
    this.write();
    return true;
  }

  /** No record comes any more. */
  seal(): void {
    this.write();
    if (this.#file !== undefined) closeSync(this.#file);
    this.#file = undefined;
  }

  /** Forgets the records, which the file has. */
  release(): void {
    if (this.problem === undefined) this.#records = undefined;
  }

  /** Throws node's error when the file cannot be read. */
  async records(): Promise<readonly UsageRecord[]> {
    return this.#records ?? (await readSegment(this.path)).records;
  }

  async remove(): Promise<void> {
    this.seal();
    await removeSegment(this.path);
  }

  /** The same at once. */
  drop(): void {
    this.seal();
    try {
      unlinkSync(this.path);
    } catch {
      // It may never have been made.
    }
  }

  /** Leaves whole lines only. */
  #cut(): void {
    try {
      if (this.#file !== undefined) ftruncateSync(this.#file, this.bytes);
    } catch {
      // A reader takes a torn line for what it is.
    }
  }
}

function create(path: string): number {
  try {
    return openSync(path, "ax", 0o600);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
    return openSync(path, "ax", 0o600);
  }
}

/** The records of a segment's file, and how many lines of it are damaged. The last may be torn: its answer was not given. */
export async function readSegment(path: string): Promise<{ records: UsageRecord[]; damaged: number }> {
  const lines = (await readFile(path, "utf8")).split("\n");
  const records: UsageRecord[] = [];
  let damaged = 0;
  for (const [index, line] of lines.entries()) {
    if (line === "") continue;
    const read = decodeLine(line);
    if (read === undefined) {
      if (index < lines.length - 1) damaged++;
    } else if (read.index === undefined) records.push(read.record);
    else if (read.index in records) records[read.index] = read.record;
  }
  return { records, damaged };
}

/** Keeps the file where nobody looks for segments; it may never have been made. */
export async function putAside(path: string): Promise<void> {
  try {
    await rename(path, `${path}.refused`);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
  }
}

/** It may be gone already. */
export async function removeSegment(path: string): Promise<void> {
  try {
    await unlink(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
  }
}
