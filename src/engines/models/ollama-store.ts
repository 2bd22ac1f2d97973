import { open, stat } from "node:fs/promises";
import { join } from "node:path";
import { type Found, type FoundModel, list } from "./model-folder.ts";

// A manifest names a handful of layers; a store has some hundred models at most.
const largestManifest = 1024 * 1024;
const mostManifests = 2000;

/** The host of names that are written without one, and the namespace left out there. */
const library = ["registry.ollama.ai", "library"] as const;

interface Manifest {
  /** host, namespace, …, model, tag */
  readonly parts: readonly string[];
  readonly path: string;
}

/**
 * The models of Ollama's store, where they lie: `manifests/<host>/<namespace>/<name>/<tag>` names the blob of the
 * weights, a GGUF file, by its digest. Ids are as Ollama writes them: `qwen3:8b`, `user/model:tag`, `hf.co/user/repo:Q4_K_M`.
 */
export async function findInOllama(root: string): Promise<Found> {
  const folders: string[] = [];
  const manifests: Manifest[] = [];
  const visit = async (folder: string, parts: readonly string[]): Promise<void> => {
    folders.push(folder);
    for (const entry of await list(folder)) {
      if (manifests.length >= mostManifests || entry.name.startsWith(".")) continue;
      const [path, below] = [join(folder, entry.name), [...parts, entry.name]];
      // Deepest: host/namespace/…/model/tag.
      if (entry.isDirectory() && below.length < 6) await visit(path, below);
      else if (entry.isFile() && below.length >= 3) manifests.push({ parts: below, path });
    }
  };
  await visit(join(root, "manifests"), []);
  const models = await Promise.all(manifests.map((manifest) => toModel(root, manifest)));
  return { models: models.filter((model) => model !== null), folders: [...folders, join(root, "blobs")] };
}

async function toModel(root: string, manifest: Manifest): Promise<FoundModel | null> {
  const tag = manifest.parts.at(-1) ?? "";
  const isLibrary = library.every((part, at) => manifest.parts[at] === part);
  const isOfficial = manifest.parts[0] === library[0];
  const name = manifest.parts.slice(isLibrary ? 2 : isOfficial ? 1 : 0, -1).join("/");
  const about = { id: `${name}:${tag}`, longId: `ollama/${name}:${tag}`, names: tag === "latest" ? [name] : [] };
  const broken = (problem: string): FoundModel => ({ ...about, path: manifest.path, projector: null, problem });
  const layers = await readLayers(manifest.path);
  if (layers === null) return broken("Ollama's manifest of the model cannot be read");
  const blob = (kind: string): string | null => {
    const digest = layers.find(({ mediaType }) => mediaType === `application/vnd.ollama.image.${kind}`)?.digest;
    return digest === undefined ? null : join(root, "blobs", digest.replace(":", "-"));
  };
  const path = blob("model");
  // Models of Ollama's cloud and of other formats have no weights here.
  if (path === null) return null;
  // Without its adapter it would be another model.
  if (blob("adapter") !== null)
    return broken("it has an adapter (LoRA), which the embedded llama.cpp does not apply; use it through Ollama");
  const missing = await stat(path).then(
    () => false,
    () => true,
  );
  if (missing) return broken("its weights are missing in Ollama's store; pull it again with Ollama");
  return { ...about, path, projector: blob("projector") };
}

interface Layer {
  readonly mediaType: string;
  readonly digest: string;
}

/** The layers whose digest is one, so that no manifest leads out of the store; null for what is no manifest. */
async function readLayers(path: string): Promise<Layer[] | null> {
  try {
    const file = await open(path, "r");
    try {
      const { size } = await file.stat();
      if (size > largestManifest) return null;
      const manifest = JSON.parse(await file.readFile("utf8")) as { layers?: unknown } | null;
      if (manifest === null || !Array.isArray(manifest.layers)) return null;
      return manifest.layers.filter(isLayer);
    } finally {
      await file.close();
    }
  } catch {
    return null;
  }
}

function isLayer(layer: unknown): layer is Layer {
  if (typeof layer !== "object" || layer === null) return false;
  const { mediaType, digest } = layer as Record<string, unknown>;
  return typeof mediaType === "string" && typeof digest === "string" && /^sha256:[0-9a-f]{64}$/.test(digest);
}
