import type { Device } from "../native/binding.ts";
import { forkEntry } from "../fork.ts";
import { LibraryError } from "../native/library-error.ts";
import { type Backend, installedPackages, type LibraryPackage, missingPackage } from "./packages.ts";
import { ProcessLog } from "../process/process-log.ts";

/** Which build of llama.cpp is wanted. */
export interface BackendSettings {
  /** `auto`: the first whose GPU answers, else the processor. `off`: the processor alone. Default `auto`. */
  readonly gpu?: GpuChoice | undefined;
  /** A folder with a build of the user's own, which is taken whatever `gpu` names. */
  readonly library?: string | undefined;
  /** Where `lair engine install` puts packages. */
  readonly dataFolder?: string | undefined;
}

export type GpuChoice = "auto" | "off" | Exclude<Backend, "cpu">;

/** The build that a model's process loads. */
export interface ChosenLibrary {
  readonly folder: string;
  readonly fallback: string | null;
  /** `own`: the folder that the settings name. */
  readonly backend: Backend | "own";
  /** Why a better one was passed over. */
  readonly warnings: readonly string[];
}

/** What a build of llama.cpp found on this machine. */
export interface LibraryReport {
  readonly release: string;
  /** Why the GPU that the build is for is not used; null where one is, or where the build is for none. */
  readonly gpuProblem: string | null;
  /** Version of the package that calls the library. */
  readonly koffi: string;
  readonly devices: readonly Device[];
  /** e.g. `cpu-zen4`, `cuda`. */
  readonly backends: readonly string[];
}

/** What the probing process says. */
export type ProbeMessage =
  | { readonly ok: true; readonly report: LibraryReport }
  | { readonly ok: false; readonly problem: string };

/** A driver that takes longer to show its devices has hung. */
const longestProbeMs = 60_000;

/**
 * The build to be loaded: the settings' own folder, or the best installed package whose GPU answers when it is tried in
 * a process of its own. Where there is no GPU package nothing is tried. Throws `LibraryError`.
 */
export async function chooseLibrary(
  settings: BackendSettings,
  tryOut: typeof probeLibrary = probeLibrary,
): Promise<ChosenLibrary> {
  const { gpu = "auto", library, dataFolder } = settings;
  if (library !== undefined) return { folder: library, fallback: null, backend: "own", warnings: [] };
  const packages = installedPackages(dataFolder);
  if (gpu !== "auto" && gpu !== "off") return requireGpu(gpu, packages, tryOut);
  const [basic] = packages.slice(-1);
  if (basic === undefined) throw missingPackage();
  const warnings: string[] = [];
  for (const entry of gpu === "off" ? [] : packages.slice(0, -1)) {
    const problem = await gpuProblem(entry, tryOut);
    if (problem === null) return chosen(entry, warnings);
    warnings.push(`${entry.name} is installed but not used: ${problem}`);
  }
  return chosen(basic, warnings);
}

/** Loads a build in a process of its own and tells what it found. Never throws; a crash is a problem too. */
export function probeLibrary(folder: string, fallback: string | null): Promise<ProbeMessage> {
  const child = forkEntry("probe", fallback === null ? [folder] : [folder, fallback]);
  const stderr = new ProcessLog();
  child.stderr?.setEncoding("utf8").on("data", (text: string) => stderr.add(text));
  return new Promise((resolve) => {
    let told: ProbeMessage | null = null;
    let late = false;
    const timer = setTimeout(() => {
      late = true;
      child.kill("SIGKILL");
    }, longestProbeMs);
    child.once("message", (message) => (told = message as ProbeMessage));
    child.once("error", (error) => (told ??= { ok: false, problem: error.message }));
    child.once("close", (code, signal) => {
      clearTimeout(timer);
      const how = late
        ? `did not answer within ${longestProbeMs / 1000} s`
        : `ended ${signal === null ? `with exit code ${code}` : `by ${signal}`}`;
      const cause = stderr.cause();
      resolve(told ?? { ok: false, problem: `loading it ${how}${cause === "" ? "" : `: ${cause}`}` });
    });
  });
}

async function requireGpu(
  gpu: Exclude<Backend, "cpu">,
  packages: readonly LibraryPackage[],
  tryOut: typeof probeLibrary,
): Promise<ChosenLibrary> {
  const entry = packages.find(({ backend }) => backend === gpu);
  if (entry === undefined) {
    throw new LibraryError(`the setting gpu is ${gpu}, which is not installed; run lair engine install ${gpu}`);
  }
  const problem = await gpuProblem(entry, tryOut);
  if (problem === null) return chosen(entry, []);
  throw new LibraryError(
    `the setting gpu is ${gpu}, but no such GPU can be used: ${problem}; gpu: auto falls back to the processor`,
  );
}

async function gpuProblem(entry: LibraryPackage, tryOut: typeof probeLibrary): Promise<string | null> {
  const tried = await tryOut(entry.folder, entry.fallback);
  return tried.ok ? tried.report.gpuProblem : tried.problem;
}

function chosen({ folder, fallback, backend }: LibraryPackage, warnings: readonly string[]): ChosenLibrary {
  return { folder, fallback, backend, warnings };
}
