import { closeSync, existsSync, openSync, readFileSync, readSync } from "node:fs";
import { setImmediate as yieldToOthers } from "node:timers/promises";
import type { Log } from "../../core/log.ts";
import { takeLock } from "../file-lock.ts";
import { decodeKey, encodeKey } from "../key-text.ts";
import { replaceFile } from "../replace-file.ts";
import type { KeyRecord } from "../state.ts";

/** All keys, as they were at one time. */
export interface KeyCopy {
  /** Milliseconds since 1970. */
  readonly time: number;
  readonly revision: number;
  readonly keys: readonly KeyRecord[];
}

/** The first line of the file; each further one is a key. */
interface Head {
  readonly version: 1;
  readonly time: number;
  readonly revision: number;
  readonly count: number;
}

/** Milliseconds after a change until the copy is written; longer where writing takes long. */
const delayAfterChange = 2000;
const longestShareOfTime = 1 / 50;
/** Bytes in which the first line has its place. */
const mostOfHead = 200;
/** Keys made into text at a time, before others get their turn. */
const step = 1000;

function backupPath(file: string): string {
  return `${file}.keys.bak`;
}

/** The copy of the keys beside a state file. Undefined: there is none, or it is damaged too. */
export function readKeyCopy(file: string): KeyCopy | undefined {
  try {
    const lines = readFileSync(backupPath(file), "utf8").split("\n");
    const head = JSON.parse(lines[0]!) as Head;
    const keys = lines.slice(1, -1).map(decodeKey);
    if (head.version !== 1 || keys.length !== head.count || !Number.isSafeInteger(head.revision)) return undefined;
    return { time: head.time, revision: head.revision, keys };
  } catch {
    return undefined;
  }
}

/** Keeps a copy of all keys (their digests, never their texts) beside the file that holds them, soon after each change. */
export class KeyBackup {
  readonly #file: string;
  readonly #read: () => Promise<{ readonly keys: readonly KeyRecord[]; readonly revision: number }>;
  readonly #log: Log;
  #timer: NodeJS.Timeout | undefined;
  #writing: Promise<void> | undefined;
  #delay = delayAfterChange;

  /** `read` gives all keys as they are now. */
  constructor(
    file: string,
    read: () => Promise<{ readonly keys: readonly KeyRecord[]; readonly revision: number }>,
    log: Log,
  ) {
    this.#file = file;
    this.#read = read;
    this.#log = log;
  }

  exists(): boolean {
    return existsSync(backupPath(this.#file));
  }

  /** Something has changed. */
  changed(): void {
    this.#timer ??= setTimeout(() => void this.flush(), this.#delay).unref();
  }

  /** Writes what has changed since the last copy. Never fails: says so in the log. */
  async flush(): Promise<void> {
    await this.#writing;
    if (this.#timer === undefined) return;
    clearTimeout(this.#timer);
    this.#timer = undefined;
    await (this.#writing = this.#write().finally(() => (this.#writing = undefined)));
  }

  async #write(): Promise<void> {
    const start = performance.now();
    const path = backupPath(this.#file);
    try {
      const lock = await takeLock(`${path}.lock`);
      try {
        const { keys, revision } = await this.#read();
        // Another process has written it already.
        if (readHead(path)?.revision === revision) return;
        await replaceFile(path, await toText(keys, revision), () => lock.isHeld());
      } finally {
        await lock.release();
      }
    } catch (error) {
      const fields = { file: path, error: String(error) };
      this.#log.warn(
        fields,
        `the copy of the keys ${path} could not be written; they are safe in ${this.#file} as long as that is`,
      );
    }
    this.#delay = Math.max(delayAfterChange, (performance.now() - start) / longestShareOfTime);
  }
}

function readHead(path: string): Head | undefined {
  const start = Buffer.alloc(mostOfHead);
  try {
    const descriptor = openSync(path, "r");
    try {
      const length = readSync(descriptor, start);
      return JSON.parse(start.toString("utf8", 0, length).split("\n")[0]!) as Head;
    } finally {
      closeSync(descriptor);
    }
  } catch {
    return undefined;
  }
}

async function toText(keys: readonly KeyRecord[], revision: number): Promise<string> {
  const head: Head = { version: 1, time: Date.now(), revision, count: keys.length };
  const pieces = [`${JSON.stringify(head)}\n`];
  for (let from = 0; from < keys.length; from += step) {
    pieces.push(...keys.slice(from, from + step).map((key) => `${encodeKey(key)}\n`));
    await yieldToOthers();
  }
  return pieces.join("");
}
