import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { type FileHandle, mkdir, open, readFile, rename, rm, stat, statfs, writeFile } from "node:fs/promises";
import { basename, dirname } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { type Get, HubError, follow, readText } from "./transport.ts";

/** One file to fetch. */
export interface Wanted {
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  /** Where it comes to lie. Until it is whole and verified it is `<path>.part`, with its progress in `<path>.part.json`. */
  readonly path: string;
  /** Bytes. */
  readonly size: number;
  readonly sha256: string | null;
}

export interface DownloadOptions {
  readonly get: Get;
  readonly signal: AbortSignal;
  /** Bytes of the file that are there, or verified. */
  readonly onProgress: (phase: "download" | "verify", done: number) => void;
  /** Milliseconds before the first retry; each next one waits twice as long. Default 500. */
  readonly retryDelay?: number;
}

/** What is asked for at once; also what a broken connection costs at most. */
const pieceSize = 16 * 1024 * 1024;
/** More connections are no faster on the hubs' networks and may be throttled. */
const mostConnections = 4;
const mostTries = 6;
/** Left on the disk beside the file. */
const spareBytes = 256 * 1024 * 1024;

/** Where a download stands; belongs to the very file that `size` and `sha256` name. */
interface Ledger {
  readonly size: number;
  readonly sha256: string | null;
  readonly pieceSize: number;
  readonly done: number[];
}

/**
 * Fetches a file in parallel pieces, goes on where an earlier try was broken off, and verifies it. Returns false when
 * it was there already. Throws `HubError`; what has been fetched stays for the next try, unless it proved wrong.
 */
export async function download(wanted: Wanted, options: DownloadOptions): Promise<boolean> {
  const { path, size } = wanted;
  const present = await stat(path).catch(() => null);
  if (present?.size === size) return false;
  await mkdir(dirname(path), { recursive: true });
  const ledger = await openLedger(wanted);
  await checkSpace(dirname(path), size - ledger.done.length * pieceSize);
  const part = `${path}.part`;
  const file = await open(part, ledger.done.length > 0 ? "r+" : "w");
  try {
    await new Pieces(wanted, { file, ledger, options }).fetchAll();
  } finally {
    await file.close();
  }
  await verify(wanted, options);
  await rename(part, path);
  await rm(`${part}.json`, { force: true });
  return true;
}

/** Throws `HubError` when the folder's disk has not this many bytes, and some to spare. */
export async function checkSpace(folder: string, bytes: number): Promise<void> {
  const { bavail, bsize } = await statfs(folder);
  const free = bavail * bsize;
  if (free >= bytes + spareBytes) return;
  const missing = bytes + spareBytes - free;
  throw new HubError(
    `the disk of ${folder} has ${gigabytes(free)} free, and ${gigabytes(bytes)} are to come: free ${gigabytes(missing)} more, or name another folder`,
  );
}

class Pieces {
  readonly #wanted: Wanted;
  readonly #file: FileHandle;
  readonly #ledger: Ledger;
  readonly #options: DownloadOptions;
  readonly #waiting: number[];
  #bytes: number;
  #writing: Promise<void> = Promise.resolve();
  /** The server knows no ranges: everything comes in one piece. */
  #whole = false;

  constructor(wanted: Wanted, work: { file: FileHandle; ledger: Ledger; options: DownloadOptions }) {
    this.#wanted = wanted;
    this.#file = work.file;
    this.#ledger = work.ledger;
    this.#options = work.options;
    const done = new Set(work.ledger.done);
    const count = Math.ceil(wanted.size / pieceSize);
    this.#waiting = Array.from({ length: count }, (_, index) => index).filter((index) => !done.has(index));
    this.#bytes = wanted.size - this.#waiting.reduce((sum, index) => sum + this.#lengthOf(index), 0);
  }

  async fetchAll(): Promise<void> {
    this.#options.onProgress("download", this.#bytes);
    // The first alone: it tells whether the server knows ranges.
    await this.#fetchNext();
    if (this.#whole) return;
    const lane = async (): Promise<void> => {
      while (this.#waiting.length > 0) await this.#fetchNext();
    };
    const lanes = await Promise.allSettled(Array.from({ length: mostConnections }, lane));
    await this.#writing;
    const failed = lanes.find((result) => result.status === "rejected");
    if (failed !== undefined) throw failed.reason;
  }

  async #fetchNext(): Promise<void> {
    const index = this.#waiting.shift();
    if (index === undefined) return;
    const start = index * pieceSize;
    const end = start + this.#lengthOf(index);
    let at = start;
    for (let tries = 1; at < end; tries++) {
      try {
        await this.#read(at, end, (bytes) => {
          at += bytes;
        });
        if (this.#whole) return;
      } catch (error) {
        this.#options.signal.throwIfAborted();
        if (error instanceof HubError) throw error;
        if (this.#whole) {
          at = start;
          this.#bytes = 0;
        }
        if (tries >= mostTries) {
          // The others must not go on for long, only to fail as well.
          this.#waiting.length = 0;
          const reason = error instanceof Error ? error.message : String(error);
          throw new HubError(
            `${new URL(this.#wanted.url).host} broke the download off again and again (${reason}); run it again to go on`,
            { cause: error },
          );
        }
        await delay((this.#options.retryDelay ?? 500) * 2 ** (tries - 1), undefined, { signal: this.#options.signal });
      }
    }
    this.#ledger.done.push(index);
    this.#writing = this.#writing.then(() => writeLedger(this.#wanted.path, this.#ledger));
    await this.#writing;
  }

  async #read(at: number, end: number, onBytes: (count: number) => void): Promise<void> {
    const { url, headers, size } = this.#wanted;
    const { get, signal, onProgress } = this.#options;
    const range = { range: `bytes=${at}-${end - 1}` };
    const reply = await follow(get, url, { headers: { ...headers, ...range, "accept-encoding": "identity" }, signal });
    const ignored = reply.status === 200;
    if (!ignored && reply.status !== 206) await refuse(reply, url);
    if (ignored && at !== 0) throw new HubError(`${new URL(reply.url).host} forgot how to send parts of a file`);
    const found = reply.headers["content-range"];
    if (!ignored && !new RegExp(`^bytes ${at}-${end - 1}/(${size}|\\*)$`).test(found ?? ""))
      throw new HubError(`${new URL(reply.url).host} sent another part than was asked for (${found ?? "unnamed"})`);
    if (ignored && end < size) {
      this.#whole = true;
      this.#waiting.length = 0;
    }
    const limit = ignored ? size : end;
    let position = at;
    for await (const chunk of reply.body) {
      if (position + chunk.length > limit)
        throw new HubError(`${new URL(reply.url).host} sent more than the file holds`);
      for (let from = 0; from < chunk.length;) {
        const { bytesWritten } = await this.#file.write(chunk, from, chunk.length - from, position + from);
        from += bytesWritten;
      }
      position += chunk.length;
      this.#bytes += chunk.length;
      onBytes(chunk.length);
      onProgress("download", this.#bytes);
    }
    if (position < limit) throw new Error(`it ended ${limit - position} bytes early`);
  }

  #lengthOf(index: number): number {
    return Math.min(pieceSize, this.#wanted.size - index * pieceSize);
  }
}

/** A status that another try may mend is thrown as a plain error. */
async function refuse(reply: Awaited<ReturnType<typeof follow>>, url: string): Promise<never> {
  const { host } = new URL(url);
  const text = (await readText(reply, 65_536).catch(() => "")).replaceAll(/\s+/g, " ").slice(0, 200);
  // 403: the signed address has expired; the next try asks for a new one.
  if (reply.status >= 500 || [403, 408, 429].includes(reply.status))
    throw new Error(`${host} answered ${reply.status}`);
  if (reply.status === 401) throw new HubError(`${host} wants a token for this file: set HF_TOKEN`);
  throw new HubError(`${host} answered ${reply.status} to the file${text === "" ? "" : `: ${text}`}`);
}

async function verify({ path, size, sha256 }: Wanted, { onProgress, signal }: DownloadOptions): Promise<void> {
  const part = `${path}.part`;
  const hash = createHash("sha256");
  let done = 0;
  for await (const chunk of createReadStream(part, { highWaterMark: 1 << 20, signal })) {
    hash.update(chunk as Buffer);
    done += (chunk as Buffer).length;
    onProgress("verify", done);
  }
  const found = hash.digest("hex");
  if (done === size && (sha256 === null || found === sha256)) return;
  await rm(part, { force: true });
  await rm(`${part}.json`, { force: true });
  const problem =
    done === size ? `its SHA-256 is ${found} instead of ${sha256}` : `it has ${done} bytes instead of ${size}`;
  throw new HubError(`${basename(path)} arrived wrong and was thrown away: ${problem}; run it again`);
}

/** The state of an earlier try, if it was for the same content; else a new one. */
async function openLedger({ path, size, sha256 }: Wanted): Promise<Ledger> {
  const fresh: Ledger = { size, sha256, pieceSize, done: [] };
  try {
    await stat(`${path}.part`);
    const found = JSON.parse(await readFile(`${path}.part.json`, "utf8")) as Partial<Ledger>;
    const same = found.size === size && found.sha256 === sha256 && found.pieceSize === pieceSize;
    const count = Math.ceil(size / pieceSize);
    const valid = (index: unknown): index is number =>
      Number.isInteger(index) && Number(index) >= 0 && Number(index) < count;
    if (!same || !Array.isArray(found.done)) return fresh;
    return { ...fresh, done: [...new Set(found.done.filter(valid))] };
  } catch {
    return fresh;
  }
}

function writeLedger(path: string, ledger: Ledger): Promise<void> {
  return writeFile(`${path}.part.json`, JSON.stringify(ledger));
}

function gigabytes(bytes: number): string {
  return `${(Math.max(0, bytes) / 1e9).toFixed(1)} GB`;
}
