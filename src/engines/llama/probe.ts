import { basename } from "node:path";
import type { ProbeMessage } from "./builds/backends.ts";
import { loadLibrary } from "./native/binding.ts";
import { LibraryError } from "./native/library-error.ts";

/**
 * Entry of a process that loads a build of llama.cpp, says what it found, and ends: a GPU's driver may crash, hang or
 * leave memory behind, and nobody else shall.
 */

// Nobody is left to hear the answer.
process.on("disconnect", () => process.exit());
const [folder, fallback] = process.argv.slice(2);
const answer = await probe();
process.send?.(answer, () => process.exit(0));

async function probe(): Promise<ProbeMessage> {
  try {
    const library = await loadLibrary(folder, fallback ?? null);
    const { release, gpuProblem, koffi } = library;
    return {
      ok: true,
      report: { release, gpuProblem, koffi, devices: library.devices(), backends: loadedBackends() },
    };
  } catch (error) {
    if (!(error instanceof LibraryError)) throw error;
    return { ok: false, problem: error.message };
  }
}

/** Names of the backends that are in memory, e.g. `cpu-zen4`, `cuda`; ggml itself tells no CPU variant. */
function loadedBackends(): string[] {
  const { sharedObjects } = process.report.getReport() as { sharedObjects: string[] };
  const names = sharedObjects.map((path) => /^(?:lib)?ggml-([^.]+)\./.exec(basename(path))?.[1] ?? "");
  return [...new Set(names.filter((name) => name !== "" && name !== "base"))];
}
