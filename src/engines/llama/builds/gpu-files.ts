import { readdirSync } from "node:fs";
import { join } from "node:path";

/** The file of a folder's GPU backend, e.g. `libggml-cuda.so`; null where it has none. */
export function gpuBackendFile(folder: string): string | null {
  return list(folder).find((name) => /^(lib)?ggml-(cuda|vulkan|metal|hip)\.(so|dylib|dll)$/.test(name)) ?? null;
}

/** Places where CUDA's and the distributions' installers put the libraries that a backend needs besides the driver. */
const cudaFolders = ["/usr/local", "/opt"];

/** CUDA's run-time libraries on this Linux machine, in the order in which they need one another; [] where there are none. */
export function cudaLibraries(folder: string, roots: readonly string[] = cudaFolders): string[] {
  // node-llama-cpp builds its CUDA package against 13, and the fallback of the `-ext` package against 12.
  const major = /[\\/]fallback[\\/]?$/.test(folder) ? 12 : 13;
  const installations = roots.flatMap((root) =>
    list(root)
      .filter((name) => /^cuda(-\d+(\.\d+)?)?$/.test(name))
      .map((name) => join(root, name)),
  );
  const places = installations.flatMap((path) => [join(path, "lib64"), join(path, "lib"), ...targets(path)]);
  const place = places.find((path) => list(path).includes(`libcudart.so.${major}`));
  if (place === undefined) return [];
  const names = ["cudart", "cublasLt", "cublas"].map((stem) => `lib${stem}.so.${major}`);
  return names.filter((name) => list(place).includes(name)).map((name) => join(place, name));
}

function targets(installation: string): string[] {
  return list(join(installation, "targets")).map((name) => join(installation, "targets", name, "lib"));
}

function list(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}
