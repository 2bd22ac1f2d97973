import type { Dirent, Stats } from "node:fs";
import { readdir, realpath, stat } from "node:fs/promises";
import { basename, dirname, join, relative, sep } from "node:path";
import { baseNameOf, isProjector, quantizationOf, shardOf, stemOf } from "../../core/model-file-name.ts";

/** A model as it lies on disk, before its file is read. */
export interface FoundModel {
  readonly id: string;
  /** The id where another model has `id` already. */
  readonly longId: string;
  /** Further names that mean it, e.g. `user/repo:Q4_K_M`. */
  readonly names: readonly string[];
  /** The file; of several shards the first. */
  readonly path: string;
  readonly projector: string | null;
  /** Why it cannot be loaded, where that shows without reading the file. */
  readonly problem?: string;
}

/** What a source holds now. */
export interface Found {
  readonly models: readonly FoundModel[];
  /** Folders whose changes may change the models. */
  readonly folders: readonly string[];
}

// A folder tree beyond these is not one of models.
const deepest = 4;
const mostFiles = 2000;

/** The models of a file or of a folder and those below it. Ids are file names without `.gguf`. */
export async function findInFolder(root: string): Promise<Found> {
  let stats: Stats;
  try {
    stats = await stat(root);
  } catch {
    return { models: [single(root, null)], folders: [] };
  }
  if (!stats.isDirectory()) {
    const siblings = (await list(dirname(root))).filter((entry) => isGguf(entry.name)).map((entry) => entry.name);
    const projectors = siblings.filter((name) => isProjector(name));
    // Of a file that was named alone the others around it need not be models at all: only a like name pairs.
    const projector = matchingProjector(basename(root), projectors, false);
    return { models: [single(root, projector && join(dirname(root), projector))], folders: [dirname(root)] };
  }
  const { files, folders } = await walk(root);
  return { models: [...groupByFolder(files).values()].flatMap((group) => inOneFolder(root, group)), folders };
}

/** Names that a file below `user/repo` goes by. */
export function repositoryNames(repository: string, file: string): string[] {
  const stem = stemOf(file);
  const quantization = quantizationOf(stem);
  return [`${repository}/${stem}`, ...(quantization === null ? [] : [`${repository}:${quantization}`])];
}

function single(path: string, projector: string | null): FoundModel {
  const id = stemOf(basename(path));
  return { id, longId: id, names: [], path, projector };
}

function groupByFolder(files: readonly string[]): Map<string, string[]> {
  const groups = new Map<string, string[]>();
  for (const path of files) groups.set(dirname(path), [...(groups.get(dirname(path)) ?? []), path]);
  return groups;
}

function inOneFolder(root: string, paths: readonly string[]): FoundModel[] {
  const [projectors, models] = [true, false].map((projector) =>
    paths.filter((path) => isProjector(basename(path)) === projector),
  ) as [string[], string[]];
  const firsts = firstShards(models);
  const alone = new Set(firsts.map((path) => baseNameOf(basename(path)))).size === 1;
  return firsts.map((path) => {
    const name = basename(path);
    const from = relative(root, path).split(sep);
    const projector = matchingProjector(
      name,
      projectors.map((one) => basename(one)),
      alone,
    );
    return {
      id: stemOf(name),
      longId: stemOf(from.join("/")),
      // The layout of LM Studio and of `lair pull`: publisher/repository/file.
      names: from.length >= 3 ? repositoryNames(from.slice(0, 2).join("/"), name) : [],
      path,
      projector: projector && join(dirname(path), projector),
      ...(shardOf(name)?.number === 1 || shardOf(name) === null ? {} : { problem: "its first shard is missing" }),
    };
  });
}

/** Of every model in shards the first one that is there, and all whole files. */
function firstShards(paths: readonly string[]): string[] {
  const models = new Map<string, string>();
  for (const path of paths.toSorted()) {
    const shard = shardOf(path);
    const key = shard === null ? path : `${shard.stem}\n${shard.of}`;
    if (!models.has(key)) models.set(key, path);
  }
  return [...models.values()];
}

/** The projector of a model among those beside it: of a like name or, where the folder holds one model, any. */
function matchingProjector(model: string, projectors: readonly string[], alone: boolean): string | null {
  const base = baseNameOf(model);
  const fitting = projectors.filter((name) => {
    const own = baseNameOf(name);
    return own !== "" && (base.startsWith(own) || own.startsWith(base));
  });
  const candidates = fitting.length > 0 ? fitting : alone ? projectors : [];
  // Projectors lose by quantisation what little they weigh.
  const rank = (name: string): number => {
    const order = ["F16", "BF16", "F32", "Q8_0"].indexOf(quantizationOf(stemOf(name)) ?? "");
    return order === -1 ? 4 : order;
  };
  return candidates.toSorted((a, b) => rank(a) - rank(b))[0] ?? null;
}

/** Every GGUF file below the folder, files before folders, links followed once. */
async function walk(root: string): Promise<{ files: string[]; folders: string[] }> {
  const files: string[] = [];
  const folders: string[] = [];
  const seen = new Set<string>();
  const visit = async (folder: string, depth: number): Promise<void> => {
    const real = await realpath(folder).catch(() => folder);
    if (seen.has(real)) return;
    seen.add(real);
    folders.push(folder);
    const below: string[] = [];
    for (const entry of await list(folder)) {
      if (files.length >= mostFiles) return;
      const path = join(folder, entry.name);
      const isFolder = entry.isDirectory() || (entry.isSymbolicLink() && (await isDirectory(path)));
      if (!isFolder && isGguf(entry.name)) files.push(path);
      if (isFolder && depth < deepest && !entry.name.startsWith(".")) below.push(path);
    }
    for (const path of below) await visit(path, depth + 1);
  };
  await visit(root, 0);
  return { files, folders };
}

function isGguf(name: string): boolean {
  return name.toLowerCase().endsWith(".gguf");
}

async function isDirectory(path: string): Promise<boolean> {
  return stat(path).then(
    (stats) => stats.isDirectory(),
    () => false,
  );
}

/** The folder's entries by name; none where it cannot be read. */
export async function list(folder: string): Promise<Dirent[]> {
  try {
    const entries = await readdir(folder, { withFileTypes: true });
    return entries.toSorted((a, b) => (a.name < b.name ? -1 : 1));
  } catch {
    return [];
  }
}
