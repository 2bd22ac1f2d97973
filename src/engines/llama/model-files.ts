import type { Dirent, Stats } from "node:fs";
import { readdir, stat } from "node:fs/promises";
import { basename, join, relative, sep } from "node:path";
import { GgufError, type GgufHeader, readGguf } from "./gguf.ts";

/** A model on disk. Of a model in several shards `path` is the first. */
export interface ModelFile {
  readonly id: string;
  readonly path: string;
  /** Unix seconds. */
  readonly modified: number;
  /** Null when the file cannot be loaded; `problem` says why. */
  readonly header: GgufHeader | null;
  readonly problem: string | null;
}

// A folder tree beyond these is not one of models.
const deepest = 4;
const mostFiles = 2000;

const shardName = /^(.*)-(\d{5})-of-(\d{5})$/;

/** The models of a file or a folder. Headers are read again only when a file has changed. */
export class ModelFiles {
  readonly #roots: readonly string[];
  readonly #known = new Map<string, { stamp: string; file: ModelFile }>();

  constructor(roots: readonly string[]) {
    this.#roots = roots;
  }

  /** Sorted by id. A root that does not exist counts as a broken model of its name. */
  async list(): Promise<ModelFile[]> {
    const found = new Map<string, ModelFile>();
    for (const root of this.#roots) {
      for (const [id, path] of await findModels(root)) {
        const file = await this.#describe(found.has(id) ? `${id}-2` : id, path);
        found.set(file.id, file);
      }
    }
    return [...found.values()].toSorted((a, b) => (a.id < b.id ? -1 : 1));
  }

  async #describe(id: string, path: string): Promise<ModelFile> {
    let stats: Stats;
    try {
      stats = await stat(path);
    } catch {
      return { id, path, modified: 0, header: null, problem: `${path} does not exist` };
    }
    const stamp = `${stats.size}:${stats.mtimeMs}`;
    const known = this.#known.get(path);
    if (known?.stamp === stamp) return known.file;
    const about = { id, path, modified: Math.floor(stats.mtimeMs / 1000) };
    let file: ModelFile;
    try {
      const header = await readGguf(path);
      file = { ...about, header, problem: await missingShard(path, header) };
    } catch (error) {
      if (!(error instanceof GgufError)) throw error;
      file = { ...about, header: null, problem: error.message };
    }
    this.#known.set(path, { stamp, file });
    return file;
  }
}

/** Id → path. Ids are file names without `.gguf`; where two are alike, the later one's is its path in the folder. */
async function findModels(root: string): Promise<Map<string, string>> {
  const models = new Map<string, string>();
  let stats: Stats;
  try {
    stats = await stat(root);
  } catch {
    return models.set(toId(basename(root)), root);
  }
  if (!stats.isDirectory()) return models.set(toId(basename(root)), root);
  for (const path of await walk(root, 0)) {
    const name = basename(path);
    const shard = shardName.exec(name.slice(0, -".gguf".length));
    if (shard !== null && shard[2] !== "00001") continue;
    // A projector for images is no model of its own.
    if (name.toLowerCase().startsWith("mmproj")) continue;
    const id = toId(name);
    const unique = models.has(id) ? toId(relative(root, path).split(sep).join("/")) : id;
    models.set(unique, path);
  }
  return models;
}

async function walk(folder: string, depth: number): Promise<string[]> {
  let entries: Dirent[];
  try {
    entries = await readdir(folder, { withFileTypes: true });
  } catch {
    return [];
  }
  const paths: string[] = [];
  for (const entry of entries.toSorted((a, b) => (a.name < b.name ? -1 : 1))) {
    if (paths.length >= mostFiles) break;
    const path = join(folder, entry.name);
    if (entry.isDirectory() && depth < deepest && !entry.name.startsWith("."))
      paths.push(...(await walk(path, depth + 1)));
    else if (!entry.isDirectory() && entry.name.toLowerCase().endsWith(".gguf")) paths.push(path);
  }
  return paths;
}

function toId(name: string): string {
  const stem = name.replace(/\.gguf$/i, "");
  return shardName.exec(stem)?.[1] ?? stem;
}

async function missingShard(path: string, header: GgufHeader): Promise<string | null> {
  const shard = shardName.exec(path.replace(/\.gguf$/i, ""));
  if (shard === null || header.shards <= 1) return null;
  for (let number = 1; number <= header.shards; number++) {
    const name = `${shard[1]}-${String(number).padStart(5, "0")}-of-${shard[3]}.gguf`;
    try {
      await stat(name);
    } catch {
      return `the shard ${basename(name)} is missing`;
    }
  }
  return null;
}
