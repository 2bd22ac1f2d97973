import { createHash } from "node:crypto";
import { mkdir, open, readdir, rename, rm, stat, statfs, utimes } from "node:fs/promises";
import { join } from "node:path";
import { type PrefixHead, type StoredPrefix, encodePrefix, readPrefix, readPrefixHead } from "./prefix-file.ts";
import { commonPrefix } from "../scheduling/slots.ts";

export interface PrefixStoreOptions {
  readonly folder: string;
  /** Most bytes of all files of the folder together. */
  readonly bytes: number;
  /** 32 bytes that differ wherever a state of one could not be a state of the other: model, settings, release. */
  readonly key: Uint8Array;
  /** Whether a state can be cut anywhere, so that a longer one makes a shorter one needless. */
  readonly rewindsFreely: boolean;
  /** Told once when the folder cannot be used. */
  readonly onWarning: (message: string) => void;
}

/** Below this many tokens a prompt is read faster than its file is found. */
export const leastStored = 256;

/** Of the disk's free space the states take no more than this share. */
const freeShare = 0.1;
/** A state is covered by another one that begins with this share of its tokens. */
const covered = 0.9;
const suffix = ".kv";
const mostHeads = 256;
/** A file that was being written when its process died. */
const staleMs = 3_600_000;

/**
 * The caches of slots on disk, found again by the tokens that they begin with. Several processes may share the folder:
 * a file is written aside and renamed, never changed, and whoever finds it gone or damaged goes on without. Prompts are
 * private: the folder and its files are the user's alone.
 */
export class PrefixStore {
  readonly #options: PrefixStoreOptions;
  readonly #prefix: string;
  readonly #heads = new Map<string, PrefixHead>();
  #tail: Promise<void> = Promise.resolve();
  #working = 0;
  #warned = false;
  #written = 0;

  constructor(options: PrefixStoreOptions) {
    this.#options = options;
    this.#prefix = Buffer.from(options.key).toString("hex", 0, 8);
  }

  /** Whether files are being read or written. */
  get busy(): boolean {
    return this.#working > 0;
  }

  /** Resolves when everything given to `write` is on disk, or could not be put there. */
  async settled(): Promise<void> {
    await this.#tail;
  }

  /** The state that brings most of a prompt's first `limit` tokens, if those are at least `least`; null otherwise. */
  async find(
    tokens: readonly number[],
    { least, limit }: { least: number; limit: number },
  ): Promise<StoredPrefix | null> {
    if (limit < leastStored) return null;
    return this.#guard(async () => {
      const gain = (head: PrefixHead): number => this.#usable(head, commonPrefix(head.tokens, tokens, limit));
      const candidates = (await this.#alike(tokens))
        .map((one) => ({ ...one, gain: gain(one.head) }))
        .filter((one) => one.gain >= least)
        .sort((a, b) => b.gain - a.gain || a.head.tokens.length - b.head.tokens.length);
      for (const { name } of candidates) {
        const path = join(this.#options.folder, name);
        const found = await readPrefix(path, this.#options.key).catch(() => null);
        if (found !== null) {
          const now = new Date();
          await utimes(path, now, now).catch(() => undefined);
          return found;
        }
        await this.#discard(name);
      }
      return null;
    });
  }

  /** Puts a state on disk, one after the other, without waiting for it. */
  write(prefix: StoredPrefix): void {
    if (prefix.tokens.length < leastStored) return;
    this.#tail = this.#tail.then(() => this.#guard(() => this.#write(prefix)).then(() => undefined));
  }

  async #write(prefix: StoredPrefix): Promise<null> {
    const { folder, key } = this.#options;
    await mkdir(folder, { recursive: true, mode: 0o700 });
    const content = encodePrefix(key, prefix);
    const bytes = content.reduce((sum, part) => sum + part.length, 0);
    if (bytes > (await this.#limit())) return null;
    const name = `${this.#beginning(prefix.tokens)}-${digest(prefix.tokens)}${suffix}`;
    if ((await stat(join(folder, name)).catch(() => null)) !== null) return null;
    const aside = join(folder, `${name}.${process.pid}-${this.#written++}.tmp`);
    try {
      const file = await open(aside, "wx", 0o600);
      try {
        for (const part of content) await file.writeFile(part);
      } finally {
        await file.close();
      }
      await rename(aside, join(folder, name));
    } catch (error) {
      await rm(aside, { force: true }).catch(() => undefined);
      throw error;
    }
    if (this.#options.rewindsFreely) await this.#supersede(name, prefix.tokens);
    await this.#prune();
    return null;
  }

  /** Files of this key whose tokens begin as these do, by the hash in their names. */
  async #alike(tokens: readonly number[]): Promise<{ readonly name: string; readonly head: PrefixHead }[]> {
    const { folder, key } = this.#options;
    const beginning = `${this.#beginning(tokens)}-`;
    const names = (await readdir(folder)).filter((name) => name.startsWith(beginning) && name.endsWith(suffix));
    const alike: { name: string; head: PrefixHead }[] = [];
    for (const name of names.slice(0, mostHeads)) {
      let head = this.#heads.get(name) ?? null;
      if (head === null) {
        head = await readPrefixHead(join(folder, name), key).catch(() => null);
        if (head === null) {
          await this.#discard(name);
          continue;
        }
        if (this.#heads.size >= mostHeads) this.#heads.clear();
        this.#heads.set(name, head);
      }
      alike.push({ name, head });
    }
    return alike;
  }

  #usable({ parts }: PrefixHead, shared: number): number {
    if (this.#options.rewindsFreely) return shared;
    return parts.reduce((most, { length }) => (length <= shared ? Math.max(most, length) : most), 0);
  }

  /** Removes the shorter states that a new one covers, but for little: an answer that was not gone on with. */
  async #supersede(written: string, tokens: readonly number[]): Promise<void> {
    for (const { name, head } of await this.#alike(tokens)) {
      if (name === written || head.tokens.length >= tokens.length) continue;
      if (commonPrefix(head.tokens, tokens) >= head.tokens.length * covered) await this.#discard(name);
    }
  }

  async #discard(name: string): Promise<void> {
    this.#heads.delete(name);
    await rm(join(this.#options.folder, name), { force: true }).catch(() => undefined);
  }

  /** Removes what was unused for longest, until the rest fits. */
  async #prune(): Promise<void> {
    const files = await this.#files();
    const limit = await this.#limit(files.reduce((sum, { bytes }) => sum + bytes, 0));
    let total = 0;
    for (const { name, bytes, used } of files.sort((a, b) => b.used - a.used)) {
      const stale = !name.endsWith(suffix) && Date.now() - used > staleMs;
      total += bytes;
      if (stale || (total > limit && name.endsWith(suffix))) await this.#discard(name);
    }
  }

  async #files(): Promise<{ readonly name: string; readonly bytes: number; readonly used: number }[]> {
    const files: { name: string; bytes: number; used: number }[] = [];
    for (const name of await readdir(this.#options.folder)) {
      if (!name.endsWith(suffix) && !name.endsWith(".tmp")) continue;
      const about = await stat(join(this.#options.folder, name)).catch(() => null);
      if (about !== null) files.push({ name, bytes: about.size, used: about.mtimeMs });
    }
    return files;
  }

  /** Bytes that all files may take, of which `taken` are there already. */
  async #limit(taken = 0): Promise<number> {
    const { bavail, bsize } = await statfs(this.#options.folder);
    return Math.min(this.#options.bytes, (bavail * bsize + taken) * freeShare);
  }

  #beginning(tokens: readonly number[]): string {
    return `${this.#prefix}-${digest(tokens.slice(0, leastStored))}`;
  }

  /** The disk is a convenience: whatever fails there is told once, and nobody else has to care. */
  async #guard<Result>(work: () => Promise<Result | null>): Promise<Result | null> {
    this.#working += 1;
    try {
      return await work();
    } catch (error) {
      const code = (error as NodeJS.ErrnoException).code ?? String(error);
      if (code === "ENOENT") return null;
      if (!this.#warned) this.#options.onWarning(`prompts cannot be kept in ${this.#options.folder} (${code})`);
      this.#warned = true;
      return null;
    } finally {
      this.#working -= 1;
    }
  }
}

function digest(tokens: readonly number[]): string {
  return createHash("sha256").update(Int32Array.from(tokens)).digest("hex").slice(0, 16);
}
