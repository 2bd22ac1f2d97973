import { isProjector, quantizationOf, shardOf, stemOf } from "../core/model-file-name.ts";
import type { Reference } from "./reference.ts";
import type { RemoteFile, Repository } from "./repository.ts";
import { HubError } from "./transport.ts";

/** What is fetched for one model: its parts in order, and the projector that lets it see, if there is one. */
export interface Choice {
  /** e.g. `Q4_K_M`; "" where the name does not tell. */
  readonly quantisation: string;
  readonly files: readonly RemoteFile[];
  readonly projector: RemoteFile | null;
}

/**
 * Where none is named: Q4_K_M, as Ollama and llama.cpp take it, then what is nearest to it in quality and size.
 * Last the large ones.
 */
const preferred = (
  "Q4_K_M Q4_K_XL Q4_K_L MXFP4 Q4_K_S Q4_0 IQ4_XS IQ4_NL Q4_1 Q5_K_M Q5_K_S Q5_0 Q6_K Q8_0 " +
  "Q3_K_L Q3_K_M Q3_K_S IQ3_M Q2_K F16 BF16 F32"
).split(" ");

/** Chooses the files of one model. Throws `HubError` with what there is to choose from. */
export function pickFiles(repository: Repository, reference: Reference & { readonly kind: "repository" }): Choice {
  const models = repository.files.filter(({ path }) => !isProjector(fileName(path)));
  const projector = pickProjector(repository.files.filter(({ path }) => isProjector(fileName(path))));
  if (reference.file !== undefined) {
    const file = repository.files.find(({ path }) => path.toLowerCase() === reference.file?.toLowerCase());
    if (file === undefined)
      throw new HubError(
        `${repository.name} has no file ${reference.file}; it has ${list(models.map(({ path }) => path))}`,
      );
    return { quantisation: quantisationOf(file.path), files: partsOf(file, models), projector: null };
  }
  const byName = new Map<string, RemoteFile>();
  for (const file of models) {
    const part = shardOf(file.path);
    const name = quantisationOf(file.path);
    if ((part === null || part.number === 1) && !byName.has(name)) byName.set(name, file);
  }
  const wanted = reference.quantisation?.toUpperCase();
  const found = wanted === undefined ? bestOf(byName) : match(byName, wanted);
  if (found === undefined) {
    const there = list([...byName.keys()].filter((name) => name !== ""));
    throw new HubError(`${repository.name} has no ${reference.quantisation}; it has ${there}`);
  }
  return { quantisation: found[0], files: partsOf(found[1], models), projector };
}

function bestOf(byName: ReadonlyMap<string, RemoteFile>): [string, RemoteFile] | undefined {
  for (const name of preferred) {
    const found = match(byName, name);
    if (found !== undefined) return found;
  }
  return [...byName][0];
}

/** `UD-Q4_K_XL` (Unsloth's) goes for `Q4_K_XL` too. */
function match(byName: ReadonlyMap<string, RemoteFile>, wanted: string): [string, RemoteFile] | undefined {
  return [...byName].find(([name]) => name === wanted) ?? [...byName].find(([name]) => name === `UD-${wanted}`);
}

function quantisationOf(path: string): string {
  return quantizationOf(stemOf(fileName(path))) ?? "";
}

function fileName(path: string): string {
  return path.split("/").pop() ?? path;
}

/** All parts of the model that a file begins or is. Throws `HubError` when one is missing. */
function partsOf(file: RemoteFile, models: readonly RemoteFile[]): RemoteFile[] {
  const part = shardOf(file.path);
  if (part === null) return [file];
  return Array.from({ length: Number(part.of) }, (_, index) => {
    const path = `${part.stem}-${String(index + 1).padStart(5, "0")}-of-${part.of}.gguf`;
    const found = models.find((one) => one.path === path);
    if (found === undefined) throw new HubError(`the part ${path} is missing in the repository`);
    return found;
  });
}

/** F16 is what llama.cpp's own examples use; BF16 is slow on many machines. */
function pickProjector(files: readonly RemoteFile[]): RemoteFile | null {
  return files.find(({ path }) => /(^|[-_.])f16\.gguf$/i.test(path)) ?? files[0] ?? null;
}

function list(names: readonly string[]): string {
  const shown = names.slice(0, 30).join(", ");
  return names.length > 30 ? `${shown} and ${names.length - 30} more` : shown;
}
