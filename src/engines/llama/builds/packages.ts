import { existsSync, readFileSync, readdirSync } from "node:fs";
import { createRequire } from "node:module";
import { basename, dirname, join } from "node:path";
import { LibraryError } from "../native/library-error.ts";

/**
 * Where builds of llama.cpp may lie: the platform packages of node-llama-cpp, as npm installed them or as
 * `lair engine install` put them into the user's data folder.
 */

/** What computes: the plain processor, or a kind of GPU. */
export type Backend = "cpu" | "cuda" | "vulkan" | "metal";

/** An installed build of llama.cpp. */
export interface LibraryPackage {
  /** e.g. `linux-x64-cuda` */
  readonly name: string;
  readonly backend: Backend;
  /** The package's, e.g. `3.22.1`; null where it cannot be read. */
  readonly version: string | null;
  /** The folder of the shared libraries. */
  readonly folder: string;
  /** A folder with the same GPU backend for older drivers (CUDA 12), tried where the first finds no GPU. */
  readonly fallback: string | null;
  /** `npm`: beside this program; `data`: in the user's data folder. */
  readonly place: "npm" | "data";
}

/** The machine whose packages are meant. */
export interface Platform {
  readonly os: string;
  readonly arch: string;
}

const thisPlatform: Platform = { os: process.platform, arch: process.arch };

/** `linux-x64`, as the packages of node-llama-cpp are named. */
export function platformName({ os, arch }: Platform = thisPlatform): string {
  const system = { linux: "linux", darwin: "mac", win32: "win" }[os] ?? os;
  return `${system}-${arch === "arm" ? "armv7l" : arch}`;
}

/** Backends for which node-llama-cpp publishes a package for this platform, best first. (npm, November 2026.) */
export function publishedBackends({ os, arch }: Platform = thisPlatform): Backend[] {
  if (os === "darwin") return arch === "arm64" ? ["metal"] : arch === "x64" ? ["cpu"] : [];
  if (os !== "linux" && os !== "win32") return [];
  if (arch === "x64") return ["cuda", "vulkan", "cpu"];
  return arch === "arm64" || (arch === "arm" && os === "linux") ? ["cpu"] : [];
}

/** The package of a backend, without its scope: `linux-x64-cuda`, `mac-arm64-metal`, `linux-x64`. */
export function packageName(backend: Backend, platform: Platform = thisPlatform): string {
  return backend === "cpu" ? platformName(platform) : `${platformName(platform)}-${backend}`;
}

/** The version of the platform packages that this program was tested with; null where it has none for the platform. */
export function pinnedVersion(platform: Platform = thisPlatform): string | null {
  const own = readJson(new URL("../../../../package.json", import.meta.url)) as {
    optionalDependencies?: Record<string, string>;
  } | null;
  const [smallest] = publishedBackends(platform).slice(-1);
  if (smallest === undefined) return null;
  return own?.optionalDependencies?.[`@node-llama-cpp/${packageName(smallest, platform)}`] ?? null;
}

/** Every installed build for this platform, best first; of one backend the data folder's wins. */
export function installedPackages(dataFolder?: string): LibraryPackage[] {
  return publishedBackends().flatMap((backend) => {
    const name = packageName(backend);
    const found = [dataFolder === undefined ? null : inData(dataFolder, backend, name), inModules(backend, name)];
    return found.filter((entry) => entry !== null).slice(0, 1);
  });
}

/** Where `lair engine install` puts its packages. */
export function engineFolder(dataFolder: string): string {
  return join(dataFolder, "engine");
}

/** Where it puts one of them. */
export function dataPlace(dataFolder: string, name: string): string {
  return join(engineFolder(dataFolder), name);
}

/** The folder of the build that needs no GPU. Throws `LibraryError` if there is none. */
export function findLibraryFolder(dataFolder?: string): string {
  const last = installedPackages(dataFolder).at(-1);
  if (last !== undefined) return last.folder;
  throw missingPackage();
}

/** There is no build of llama.cpp at all. */
export function missingPackage(): LibraryError {
  const reason =
    publishedBackends().length === 0
      ? `there is no package of it for ${platformName()}; build it and set LLAMA_CPP_LIB`
      : `no package @node-llama-cpp/${platformName()} was found`;
  return notInstalled(reason);
}

/** What to say where a part of an installation is missing. */
export function notInstalled(reason: string, cause?: unknown): LibraryError {
  const message = `llama.cpp is not installed: ${reason}; run npm install --include=optional`;
  return new LibraryError(message, { cause });
}

function inModules(backend: Backend, name: string): LibraryPackage | null {
  const require = createRequire(import.meta.url);
  const resolved = (full: string): string | null => {
    try {
      return dirname(dirname(require.resolve(`@node-llama-cpp/${full}`)));
    } catch {
      return null;
    }
  };
  const root = resolved(name);
  if (root === null) return null;
  return describe(root, { backend, name, extension: resolved(`${name}-ext`), place: "npm" });
}

function inData(dataFolder: string, backend: Backend, name: string): LibraryPackage | null {
  const extension = dataPlace(dataFolder, `${name}-ext`);
  return describe(dataPlace(dataFolder, name), { backend, name, extension, place: "data" });
}

function describe(
  root: string,
  about: { backend: Backend; name: string; extension: string | null; place: "npm" | "data" },
): LibraryPackage | null {
  const { extension, ...rest } = about;
  const folder = join(root, "bins", rest.name);
  if (!existsSync(folder)) return null;
  const version = (readJson(join(root, "package.json")) as { version?: string } | null)?.version ?? null;
  return { ...rest, version, folder, fallback: extension === null ? null : findFallback(extension) };
}

/** The folder `fallback` of an unpacked `-ext` package, e.g. `bins/linux-x64-cuda-ext/fallback`; null if it has none. */
export function findFallback(root: string): string | null {
  const bins = join(root, "bins");
  try {
    const folders = readdirSync(bins, { recursive: true, withFileTypes: true }).filter((entry) => entry.isDirectory());
    const found = folders.find((entry) => entry.name === "fallback");
    return found === undefined ? null : join(found.parentPath, basename(found.name));
  } catch {
    return null;
  }
}

function readJson(path: string | URL): unknown {
  try {
    return JSON.parse(readFileSync(path, "utf8"));
  } catch {
    return null;
  }
}
