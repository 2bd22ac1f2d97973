import {
  type BackendSettings,
  type ChosenLibrary,
  chooseLibrary,
  type LibraryReport,
  type ProbeMessage,
  probeLibrary,
} from "./backends.ts";
import { LibraryError } from "../native/library-error.ts";
import {
  type Backend,
  installedPackages,
  type LibraryPackage,
  pinnedVersion,
  platformName,
  publishedBackends,
} from "./packages.ts";

/** What the embedded engine would run on. */
export interface EngineReport {
  /** e.g. `linux-x64` */
  readonly platform: string;
  /** The version of the platform packages that this program was tested with; null where there is none. */
  readonly wanted: string | null;
  readonly packages: readonly LibraryPackage[];
  /** Backends that `lair engine install` could add. */
  readonly installable: readonly Backend[];
  /** The build that a model's process would load; null when there is none. */
  readonly chosen: ChosenLibrary | null;
  /** What it found; null when it could not be loaded. */
  readonly loaded: LibraryReport | null;
  /** Why there is no build, or why it cannot be loaded. */
  readonly problem: string | null;
}

/** Tries the builds of llama.cpp as the loading of a model would, each in a process of its own. */
export async function describeEngine(settings: BackendSettings): Promise<EngineReport> {
  const packages = installedPackages(settings.dataFolder);
  const present = new Set(packages.map(({ backend }) => backend));
  const about = {
    platform: platformName(),
    wanted: pinnedVersion(),
    packages,
    installable: publishedBackends().filter((backend) => !present.has(backend)),
  };
  const tryOut = rememberingProbe();
  try {
    const chosen = await chooseLibrary(settings, tryOut);
    const tried = await tryOut(chosen.folder, chosen.fallback);
    return { ...about, chosen, loaded: tried.ok ? tried.report : null, problem: tried.ok ? null : tried.problem };
  } catch (error) {
    if (!(error instanceof LibraryError)) throw error;
    return { ...about, chosen: null, loaded: null, problem: error.message };
  }
}

function rememberingProbe(): typeof probeLibrary {
  const tried = new Map<string, Promise<ProbeMessage>>();
  return (folder, fallback) => {
    const known = tried.get(folder) ?? probeLibrary(folder, fallback);
    tried.set(folder, known);
    return known;
  };
}
