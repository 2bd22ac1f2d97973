import { existsSync } from "node:fs";
import { homedir } from "node:os";
import { isAbsolute, join } from "node:path";
import type { ModelSource } from "../core/model.ts";
import { cleaned } from "./environment.ts";
import { modelsFolder, type Owner } from "./folders.ts";
import { withHome } from "./home.ts";

type Place = (owner: Required<Owner>) => ModelSource[];

/** Stores of other programs, by the word that stands for each in `llama.model`. */
const stores: Readonly<Record<string, Place>> = {
  huggingface: huggingFaceCache,
  "hf-cache": huggingFaceCache,
  lmstudio: ({ home }) => [
    { kind: "files", path: join(home, ".lmstudio", "models"), optional: true },
    // Up to its version 0.3.
    { kind: "files", path: join(home, ".cache", "lm-studio", "models"), optional: true },
  ],
  ollama: ollamaStore,
};

/**
 * Where the models of `llama.model` lie: each entry a file, a folder, or a store's name (`huggingface`, `lmstudio`,
 * `ollama`). A text may hold several, separated as in PATH (`:`, on Windows `;`). The folder of `lair pull` comes last.
 */
export function modelSources(model: string | readonly string[] | undefined, owner: Owner): ModelSource[] {
  const { env, home = homedir(), platform = process.platform } = owner;
  const full = { env, home, platform };
  const entries = typeof model === "string" ? splitPaths(model, platform) : (model ?? []);
  const named = entries.flatMap((entry) => {
    const store = Object.hasOwn(stores, entry.toLowerCase()) ? stores[entry.toLowerCase()] : undefined;
    return store?.(full) ?? [{ kind: "files" as const, path: withHome(entry, home) }];
  });
  return [...named, { kind: "files", path: modelsFolder(full), optional: true }];
}

function splitPaths(text: string, platform: NodeJS.Platform): string[] {
  // A name may hold the separator itself.
  if (existsSync(text)) return [text];
  // Before a backslash the colon is that of a drive, written for another system.
  const parts = text.split(platform === "win32" ? ";" : /:(?!\\)/);
  return parts.map((part) => part.trim()).filter((part) => part !== "");
}

// The rules of huggingface_hub (constants.py).
function huggingFaceCache({ env, home }: Required<Owner>): ModelSource[] {
  const hub = cleaned(env["HF_HUB_CACHE"]) || cleaned(env["HUGGINGFACE_HUB_CACHE"]);
  const own = cleaned(env["HF_HOME"]);
  const cache = cleaned(env["XDG_CACHE_HOME"]) || join(home, ".cache");
  const path = hub || join(own || join(cache, "huggingface"), "hub");
  return [{ kind: "huggingface", path: withHome(path, home), optional: true }];
}

function ollamaStore({ env, home, platform }: Required<Owner>): ModelSource[] {
  const named = cleaned(env["OLLAMA_MODELS"]);
  const paths = named === "" ? [join(home, ".ollama", "models")] : [withHome(named, home)];
  // Ollama's installer for Linux runs it as a user of its own.
  if (named === "" && platform === "linux") paths.push("/usr/share/ollama/.ollama/models");
  return paths.filter((path) => isAbsolute(path)).map((path) => ({ kind: "ollama", path, optional: true }));
}
