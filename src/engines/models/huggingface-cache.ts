import type { Dirent } from "node:fs";
import { readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { type Found, type FoundModel, findInFolder, list, repositoryNames } from "./model-folder.ts";
import { stemOf } from "../../core/model-file-name.ts";

const mostRepositories = 2000;

/**
 * The GGUF files in Hugging Face's cache: `models--user--repo/snapshots/<revision>/…`, links to blobs or (on Windows)
 * files. The revision of `refs/main` goes before older ones, which add only what it does not have.
 */
export async function findInHuggingFace(root: string): Promise<Found> {
  const models: FoundModel[] = [];
  const folders = [root];
  const repositories = (await list(root)).filter((entry) => /^models--./.test(entry.name));
  for (const entry of repositories.slice(0, mostRepositories)) {
    const repository = entry.name.split("--").slice(1).join("/");
    const snapshots = join(root, entry.name, "snapshots");
    folders.push(snapshots);
    const known = new Set<string>();
    for (const revision of await revisions(join(root, entry.name), await list(snapshots))) {
      const found = await findInFolder(join(snapshots, revision));
      folders.push(...found.folders);
      for (const model of found.models) {
        if (known.has(model.longId)) continue;
        known.add(model.longId);
        models.push(fromRepository(model, repository));
      }
    }
  }
  return { models, folders };
}

/** Names of the snapshots, the one of `refs/main` first, then the newest. */
async function revisions(repository: string, entries: readonly Dirent[]): Promise<string[]> {
  const names = entries.filter((entry) => entry.isDirectory()).map((entry) => entry.name);
  const main = await readFile(join(repository, "refs", "main"), "utf8").catch(() => "");
  const dated = await Promise.all(
    names.map(async (name) => {
      const time = await stat(join(repository, "snapshots", name)).then(
        ({ mtimeMs }) => mtimeMs,
        () => 0,
      );
      return { name, time: name === main.trim() ? Infinity : time };
    }),
  );
  return dated.toSorted((a, b) => b.time - a.time).map(({ name }) => name);
}

function fromRepository(model: FoundModel, repository: string): FoundModel {
  return {
    ...model,
    longId: `${repository}/${stemOf(model.longId)}`,
    names: repositoryNames(repository, model.longId),
  };
}
