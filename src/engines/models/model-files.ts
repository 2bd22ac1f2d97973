import { stat } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import { setImmediate as afterEvents } from "node:timers/promises";
import type { Listing, ModelSource } from "../../core/model.ts";
import { FolderWatch } from "./folder-watch.ts";
import { type GgufHeader, readGguf } from "../gguf/gguf.ts";
import { GgufError } from "../gguf/gguf-reader.ts";
import { findInHuggingFace } from "./huggingface-cache.ts";
import { type Found, type FoundModel, findInFolder } from "./model-folder.ts";
import { shardOf } from "../../core/model-file-name.ts";
import { findInOllama } from "./ollama-store.ts";

/** A model on disk. */
export interface ModelFile {
  readonly id: string;
  /** Further names that mean it, e.g. `user/repo:Q4_K_M`. */
  readonly names: readonly string[];
  readonly source: ModelSource["kind"];
  /** The file; of several shards the first. */
  readonly path: string;
  /** Every file of it: one, or all shards in their order. */
  readonly files: readonly string[];
  /** Bytes of all its files. */
  readonly bytes: number;
  /** The file that turns images into tokens for it, where there is one beside it. */
  readonly projector: string | null;
  /** Unix seconds. */
  readonly modified: number;
  /** Of all shards together. Null when the file cannot be loaded; `problem` says why. */
  readonly header: GgufHeader | null;
  readonly problem: string | null;
  /** Of the program's own model: when it is listed. */
  readonly builtIn?: Listing;
}

/** The program's own model: its file, and when it is listed. */
export interface BuiltIn {
  readonly path: string;
  readonly listing: Listing;
}

export interface ModelFilesOptions {
  readonly sources: readonly ModelSource[];
  readonly builtIn?: BuiltIn | undefined;
}

/** A change that nobody told of (a network drive, a container's mount) is seen after this time. */
const staleMs = 10_000;
/** While a folder changes all the time (a large file is being copied), known models are not looked up more often. */
const restMs = 1000;
const mostShards = 1000;

/** The models of all sources. Headers are read again only when a file has changed; folders are watched after the first list. */
export class ModelFiles {
  readonly #options: ModelFilesOptions;
  readonly #known = new Map<string, { stamp: string; content: Content }>();
  readonly #watch: FolderWatch;
  #files: ModelFile[] = [];
  #scannedAt = -Infinity;
  #changed = true;
  #closed = false;
  #scan: Promise<void> = Promise.resolve();
  #nextScan: Promise<void> | null = null;

  constructor(options: ModelFilesOptions) {
    this.#options = options;
    this.#watch = new FolderWatch(() => (this.#changed = true));
  }

  /** Sorted by id. A source that should exist and does not counts as a broken model of its name. */
  async list(): Promise<readonly ModelFile[]> {
    // The system's word of a change that was made before this call may still lie in the event loop's queue.
    await afterEvents();
    if (this.#changed || performance.now() - this.#scannedAt > staleMs) await this.#rescan();
    return this.#files;
  }

  /**
   * The model that `isIt` finds. Looks at the disk again where it is not found, or its folders have changed and were
   * not just looked at.
   */
  async find(isIt: (files: readonly ModelFile[]) => ModelFile | undefined): Promise<ModelFile | undefined> {
    const age = performance.now() - this.#scannedAt;
    const known = age > staleMs || (this.#changed && age > restMs) ? undefined : isIt(this.#files);
    if (known !== undefined) return known;
    await this.#rescan();
    return isIt(this.#files);
  }

  close(): void {
    this.#closed = true;
    this.#watch.close();
  }

  /** Resolves after a scan that began later than this call. */
  #rescan(): Promise<void> {
    this.#nextScan ??= this.#scan.then(() => {
      this.#nextScan = null;
      this.#scan = this.#read();
      return this.#scan;
    });
    return this.#nextScan;
  }

  async #read(): Promise<void> {
    this.#changed = false;
    const files = new Map<string, ModelFile>();
    const seen = new Set<string>();
    const folders: string[] = [];
    for (const source of this.#options.sources) {
      const found = await find(source);
      folders.push(...found.folders);
      for (const model of found.models) await this.#add(files, seen, { source: source.kind, model });
    }
    await this.#addBuiltIn(files, seen);
    for (const path of this.#known.keys()) if (!seen.has(path)) this.#known.delete(path);
    this.#files = [...files.values()].toSorted((a, b) => (a.id < b.id ? -1 : 1));
    this.#scannedAt = performance.now();
    // What changed before the watch began was not told.
    if (!this.#closed && this.#watch.set(folders)) this.#changed = true;
  }

  async #addBuiltIn(files: Map<string, ModelFile>, seen: Set<string>): Promise<void> {
    const { builtIn } = this.#options;
    if (builtIn === undefined) return;
    const [model] = (await findInFolder(builtIn.path)).models;
    // Last: a model of the user's own that has the name keeps it.
    if (model !== undefined) await this.#add(files, seen, { source: "files", model, builtIn: builtIn.listing });
  }

  async #add(files: Map<string, ModelFile>, seen: Set<string>, { source, model, builtIn }: Addition): Promise<void> {
    // Two of Ollama's names may mean the same weights; of other sources it is the same model found twice.
    const place = resolve(model.path);
    if (source !== "ollama" && seen.has(place)) return;
    seen.add(place);
    const id = [model.id, model.longId].find((one) => !files.has(one)) ?? numbered(model.longId, files);
    const { names, path, projector } = model;
    const content =
      model.problem === undefined ? await this.#content(path) : { ...unreadable(path), problem: model.problem };
    files.set(id, { id, names, source, path, projector, ...content, ...(builtIn === undefined ? {} : { builtIn }) });
  }

  async #content(path: string): Promise<Content> {
    const files = shardPaths(path);
    const stats = await Promise.all(files.map((file) => stat(file).catch(() => null)));
    const [first] = stats;
    if (first === null || first === undefined)
      return { ...unreadable(path), problem: `${path} does not exist, or what it links to does not` };
    const stamp = stats.map((one) => (one === null ? "-" : `${one.size}:${one.mtimeMs}`)).join();
    const known = this.#known.get(resolve(path));
    if (known?.stamp === stamp) return known.content;
    const content = {
      files: files.filter((_, at) => stats[at] !== null),
      bytes: stats.reduce((sum, one) => sum + (one?.size ?? 0), 0),
      modified: Math.floor(first.mtimeMs / 1000),
      ...(await readHeader(files)),
    };
    this.#known.set(resolve(path), { stamp, content });
    return content;
  }
}

interface Addition {
  readonly source: ModelSource["kind"];
  readonly model: FoundModel;
  readonly builtIn?: Listing;
}

type Content = Pick<ModelFile, "files" | "bytes" | "modified" | "header" | "problem">;

function unreadable(path: string): Omit<Content, "problem"> {
  return { files: [path], bytes: 0, modified: 0, header: null };
}

async function find(source: ModelSource): Promise<Found> {
  if (source.kind === "huggingface") return findInHuggingFace(source.path);
  if (source.kind === "ollama") return findInOllama(source.path);
  const exists = source.optional !== true || (await stat(source.path).catch(() => null)) !== null;
  return exists ? findInFolder(source.path) : { models: [], folders: [] };
}

function numbered(id: string, taken: ReadonlyMap<string, unknown>): string {
  let number = 2;
  while (taken.has(`${id}-${number}`)) number += 1;
  return `${id}-${number}`;
}

/** All files of the model whose first is given. */
function shardPaths(path: string): string[] {
  const shard = shardOf(basename(path));
  const count = Number(shard?.of ?? 1);
  if (shard === null || count < 2 || count > mostShards) return [path];
  const number = (at: number): string => String(at).padStart(5, "0");
  return Array.from({ length: count }, (_, at) =>
    join(dirname(path), `${shard.stem}-${number(at + 1)}-of-${shard.of}.gguf`),
  );
}

/** The header of the first file with the weights of all. */
async function readHeader(paths: readonly string[]): Promise<Pick<Content, "header" | "problem">> {
  const [path = "", ...others] = paths;
  let header: GgufHeader;
  let at = path;
  try {
    header = await readGguf(path);
    // A name with the number of a shard does not make a whole file one.
    if (header.shards > 1) {
      for (at of others) header = { ...header, parameters: header.parameters + (await readGguf(at)).parameters };
    }
  } catch (error) {
    const reason =
      error instanceof GgufError
        ? error.message
        : `the file cannot be read (${(error as NodeJS.ErrnoException).code ?? "unknown"})`;
    return { header: null, problem: at === path ? reason : `the shard ${basename(at)}: ${reason}` };
  }
  return { header, problem: problemOf(header) };
}

function problemOf(header: GgufHeader): string | null {
  if (header.type === "adapter") return "it is an adapter (LoRA) for another model, not a model";
  if (header.type === "mmproj") return "it is a projector for images, not a model";
  return header.type === "imatrix" ? "it is an importance matrix, not a model" : null;
}
