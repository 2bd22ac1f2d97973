import { once } from "node:events";
import { existsSync } from "node:fs";
import { mkdir, readdir, rename, rm, stat, statfs } from "node:fs/promises";
import { dirname, join } from "node:path";
import { type LibraryReport, probeLibrary } from "./backends.ts";
import { LibraryError } from "../native/library-error.ts";
import { findNpm, type Npm, startNpm } from "./npm.ts";
import {
  type Backend,
  dataPlace,
  engineFolder,
  findFallback,
  installedPackages,
  packageName,
  pinnedVersion,
  platformName,
  publishedBackends,
} from "./packages.ts";

/** What can be added to the processor's package: `cuda12` is CUDA with the backend for its release 12. */
export type Addition = "cuda" | "cuda12" | "vulkan";

export interface InstallOptions {
  readonly dataFolder: string;
  readonly addition: Addition;
  /** The variable PATH, to find npm. */
  readonly searchPath: string;
  /** Called now and then with the bytes downloaded so far. */
  readonly onProgress: (bytes: number) => void;
}

export interface Installed {
  readonly names: readonly string[];
  readonly version: string;
  readonly report: LibraryReport;
}

/**
 * Room for a download and what it unpacks to. The `vulkan` package of 3.22.1 has 24 and 71 MB; CUDA's backend has 159 MB,
 * the one for CUDA 12 another 374 MB.
 */
const roomBytes: Readonly<Record<Addition, number>> = { vulkan: 200e6, cuda: 600e6, cuda12: 1500e6 };

/**
 * Downloads a package with the user's npm, which checks it against the registry's SHA-512, tries it out in a process of
 * its own, and only then puts it in its place. Throws `LibraryError` with what to do.
 */
export async function installPackage(options: InstallOptions): Promise<Installed> {
  const { dataFolder, addition } = options;
  const names = packagesOf(addition);
  const version = pinnedVersion();
  if (version === null) throw new LibraryError(`there is no package of llama.cpp for ${platformName()}`);
  const npm = findNpm(options.searchPath);
  if (npm === null) {
    throw new LibraryError(
      `npm is needed for the download, and none was found; it comes with Node.js from nodejs.org. Without it: unpack @node-llama-cpp/${names[0]}@${version} yourself, and set LLAMA_CPP_LIB to its folder bins/${names[0]}`,
    );
  }
  const engine = engineFolder(dataFolder);
  const staging = join(engine, `.new-${process.pid}`);
  await prepare(engine, staging, roomBytes[addition]);
  try {
    await download(
      { npm, specs: names.map((name) => `@node-llama-cpp/${name}@${version}`), staging },
      options.onProgress,
    );
    const unpacked = join(staging, "node_modules", "@node-llama-cpp");
    const report = await tryOut(unpacked, names);
    for (const name of names) await replace(join(unpacked, name), dataPlace(dataFolder, name));
    return { names, version, report };
  } finally {
    await rm(staging, { recursive: true, force: true, maxRetries: 3 });
  }
}

/** Removes what `installPackage` has put there; false when there was nothing. Throws `LibraryError`. */
export async function removePackage(dataFolder: string, addition: Addition): Promise<boolean> {
  const backend = backendOf(addition);
  const name = packageName(backend);
  // Without its main package the extension is of no use.
  const places = addition === "cuda12" ? [`${name}-ext`] : [name, `${name}-ext`];
  const present = places.map((place) => dataPlace(dataFolder, place)).filter((place) => existsSync(place));
  for (const place of present) await removeFolder(place);
  if (present.length > 0) return true;
  const other = installedPackages().find((entry) => entry.backend === backend);
  if (other === undefined) return false;
  throw new LibraryError(
    `@node-llama-cpp/${name} was installed by npm, beside this program; npm uninstall @node-llama-cpp/${name} removes it`,
  );
}

function backendOf(addition: Addition): Exclude<Backend, "cpu"> {
  return addition === "vulkan" ? "vulkan" : "cuda";
}

function packagesOf(addition: Addition): string[] {
  const backend = backendOf(addition);
  if (!publishedBackends().includes(backend)) {
    const there = publishedBackends().join(", ");
    const which = there === "" ? "none at all" : `only ${there}`;
    throw new LibraryError(`there is no package for ${addition} on ${platformName()}: ${which}`);
  }
  const name = packageName(backend);
  return addition === "cuda12" ? [name, `${name}-ext`] : [name];
}

/** An empty folder for the download, what broken-off downloads left removed, and room for it on the disk. */
async function prepare(engine: string, staging: string, needed: number): Promise<void> {
  try {
    await mkdir(engine, { recursive: true });
    for (const name of await readdir(engine)) {
      const owner = Number(/^\.(?:new|old)-(\d+)/.exec(name)?.[1] ?? NaN);
      if (owner === process.pid || (Number.isInteger(owner) && !isRunning(owner)))
        await rm(join(engine, name), { recursive: true, force: true, maxRetries: 3 });
    }
    await mkdir(staging);
  } catch (error) {
    throw new LibraryError(`the folder ${engine} cannot be written: ${(error as Error).message}`, { cause: error });
  }
  const { bavail, bsize } = await statfs(staging);
  if (bavail * bsize >= needed) return;
  await rm(staging, { recursive: true, force: true });
  const [has, wants] = [bavail * bsize, needed].map((bytes) => `${Math.ceil(bytes / 1e6)} MB`);
  throw new LibraryError(`the disk of ${engine} has ${has} free, and the download takes ${wants} for a while`);
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}

async function download(
  { npm, specs, staging }: { npm: Npm; specs: readonly string[]; staging: string },
  onProgress: (bytes: number) => void,
): Promise<void> {
  // A cache of its own: it shows how far the download is, and leaves nothing behind.
  const cache = join(staging, ".cache");
  const flags = ["--no-save", "--no-package-lock", "--ignore-scripts", "--no-audit", "--no-fund", "--no-progress"];
  const args = ["install", "--prefix", staging, "--cache", cache, "--loglevel", "error", ...flags, ...specs];
  const child = startNpm(npm, args, staging);
  let said = "";
  child.stderr?.setEncoding("utf8").on("data", (text: string) => (said = (said + text).slice(-4000)));
  const timer = setInterval(() => void sizeOf(cache).then(onProgress), 500);
  try {
    const [code] = (await once(child, "close")) as [number | null];
    if (code !== 0) throw new LibraryError(`npm could not download ${specs.join(" and ")}: ${npmReason(said)}`);
  } finally {
    clearInterval(timer);
  }
}

/** npm's own words, without its prefix and the note about its log file. */
function npmReason(said: string): string {
  const lines = said
    .split(/\r?\n/)
    .map((line) => line.replace(/^npm (?:error|ERR!) ?/, "").trim())
    .filter((line) => line !== "" && !/complete log of this run|^npm warn|_logs/i.test(line));
  return lines.slice(0, 4).join("; ") || "it said nothing; try npm ping";
}

async function sizeOf(folder: string): Promise<number> {
  try {
    const entries = await readdir(folder, { recursive: true, withFileTypes: true });
    const files = entries.filter((entry) => entry.isFile());
    const sizes = await Promise.all(
      files.map((entry) =>
        stat(join(entry.parentPath, entry.name)).then(
          ({ size }) => size,
          () => 0,
        ),
      ),
    );
    return sizes.reduce((sum, size) => sum + size, 0);
  } catch {
    return 0;
  }
}

/** Whether the package can be loaded here, GPU or not. Throws `LibraryError` otherwise. */
async function tryOut(unpacked: string, names: readonly string[]): Promise<LibraryReport> {
  const [name = "", extension] = names;
  const folder = join(unpacked, name, "bins", name);
  const fallback = extension === undefined ? null : findFallback(join(unpacked, extension));
  if (!existsSync(folder)) throw new LibraryError(`the package ${name} has no folder bins/${name}: it was not kept`);
  const tried = await probeLibrary(folder, fallback);
  if (tried.ok) return tried.report;
  throw new LibraryError(`the package ${name} was downloaded, but cannot be used, and was not kept: ${tried.problem}`);
}

async function replace(from: string, to: string): Promise<void> {
  if (existsSync(to)) await removeFolder(to);
  await rename(from, to);
}

/** Moved aside first: a folder that is half removed must not look like a package. */
async function removeFolder(folder: string): Promise<void> {
  const aside = join(dirname(folder), `.old-${process.pid}-${Date.now()}`);
  try {
    await rename(folder, aside);
    await rm(aside, { recursive: true, force: true, maxRetries: 3 });
  } catch (error) {
    throw new LibraryError(
      `${folder} cannot be removed (${(error as Error).message}); stop every lair that uses it first`,
      { cause: error },
    );
  }
}
