import type { ModelFile } from "./model-files.ts";
import { quantizationOf } from "../../core/model-file-name.ts";
import type { LlamaSettings } from "../llama/settings.ts";

/** The name that stands for whichever model is the default one. */
const defaultName = "default";

/** Of a repository's quantisations the one that is meant where none is named, as Ollama and llama.cpp have it. */
const usualQuantization = "Q4_K_M";

/**
 * The model that a name means: its id, an alias, `default`, or a forgiving spelling of these (`.gguf` at the end,
 * other capitals, `user/repo:Q4_K_M`, `user/repo`). Never a model that is not named.
 */
export function findModel(
  files: readonly ModelFile[],
  name: string,
  settings: Pick<LlamaSettings, "aliases" | "defaultModel"> = {},
): ModelFile | undefined {
  const exact = files.find(({ id }) => id === name);
  if (exact !== undefined) return exact;
  const { aliases = {}, defaultModel } = settings;
  if (Object.hasOwn(aliases, name)) return findSpelling(files, aliases[name] ?? "");
  if (name === defaultName) return findDefault(files, defaultModel);
  return findSpelling(files, name);
}

/** The configured one; else the first that can be asked, of those that chat if there are any. The built-in one only where it is offered, and nothing else is here. */
function findDefault(files: readonly ModelFile[], configured: string | undefined): ModelFile | undefined {
  if (configured !== undefined) return findSpelling(files, configured);
  const offered = files.filter(({ problem, builtIn }) => problem === null && builtIn !== "never");
  const own = offered.filter(({ builtIn }) => builtIn === undefined);
  const sound = own.length > 0 ? own : offered;
  return sound.find(({ header }) => header?.pooling === null) ?? sound[0];
}

function findSpelling(files: readonly ModelFile[], name: string): ModelFile | undefined {
  const wanted = normal(name);
  const named = files.find(({ id, names }) => [id, ...names].some((one) => normal(one) === wanted));
  if (named !== undefined) return named;
  const ofRepository = files.filter(({ names }) => names.some((one) => normal(one).startsWith(`${wanted}/`)));
  if (!/^[^/:]+\/[^/:]+$/.test(wanted)) return undefined;
  const usual = ofRepository.find(({ path, header }) => {
    const quantization = quantizationOf(path.replace(/\.gguf$/i, "")) ?? header?.quantization;
    return quantization === usualQuantization;
  });
  return usual ?? ofRepository[0];
}

function normal(name: string): string {
  return name.toLowerCase().replace(/\.gguf$/, "");
}
