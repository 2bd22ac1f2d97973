import { statSync } from "node:fs";
import type { Log } from "../../core/log.ts";
import { estimateMemory, type MemoryEstimate } from "../llama/memory/memory-estimate.ts";
import type { ModelFile } from "../models/model-files.ts";
import { physicalCores } from "../llama/memory/processor-cores.ts";
import type { Residency, Resident } from "../llama/memory/residency.ts";
import { type LlamaSettings, type ModelSettings, settingsOf, toWorkerSettings } from "../llama/settings.ts";
import { serverFlags } from "./flags.ts";
import { ServerProcess } from "./server-process.ts";

/** A model's llama-server, kept running until `release`. */
export interface ServerLease {
  readonly process: Pick<ServerProcess, "ensureReady" | "failure">;
  readonly release: () => void;
}

interface Served extends Resident {
  readonly file: ModelFile;
  readonly supervisor: ServerProcess;
}

/** The models that a llama-server of the user's serves; they share the memory with those in our own processes. */
export class ServerModels {
  readonly #settings: LlamaSettings;
  readonly #residency: Residency;
  readonly #log: Log;
  readonly #served = new Map<string, Served>();

  constructor(settings: LlamaSettings, residency: Residency, log: Log) {
    this.#settings = settings;
    this.#residency = residency;
    this.#log = log;
  }

  /** Whether a model is served there: all of them, or those with a projector, which the embedded engine has no use for. */
  serves(file: ModelFile): boolean {
    const { server, serverModels = "images" } = this.#settings;
    return server !== undefined && file.problem === null && (serverModels === "all" || file.projector !== null);
  }

  /** Makes room for the model, and starts its server. `keepAlive`: seconds; negative for ever. Throws `ApiError`. */
  async hold(file: ModelFile, signal: AbortSignal, keepAlive: number | undefined): Promise<ServerLease> {
    const served = this.#serve(file);
    const stay = keepAlive === undefined ? served.keepAlive : keepAlive < 0 ? null : keepAlive * 1000;
    return { process: served.supervisor, release: await this.#residency.hold(served, signal, stay) };
  }

  /** The model as it is in memory, or was last; undefined: never. */
  get(id: string): Resident | undefined {
    return this.#served.get(id);
  }

  #serve(file: ModelFile): Served {
    const known = this.#served.get(file.id);
    if (known !== undefined && known.file.path === file.path && known.file.modified === file.modified) return known;
    if (known !== undefined) void this.#residency.unload(known, "its file has changed");
    const settings = settingsOf(this.#settings, file.id);
    const supervisor = new ServerProcess({
      id: file.id,
      program: this.#settings.server ?? "",
      flags: serverFlags(file, settings, physicalCores()),
      log: this.#log,
      onIdle: () => this.#residency.onIdle(served),
    });
    const served: Served = {
      file,
      supervisor,
      needs: estimate(file, settings),
      pinned: settings.pinned ?? false,
      keepAlive: settings.keepAlive ?? (settings.unloadAfterChat === true ? 0 : null),
    };
    this.#served.set(file.id, served);
    return served;
  }
}

/** With the projector, which is a model of its own. */
function estimate(file: ModelFile, settings: ModelSettings): MemoryEstimate {
  const needs = estimateMemory(file, toWorkerSettings(settings, file.path, 1));
  const projector = file.projector === null ? 0 : (statSync(file.projector, { throwIfNoEntry: false })?.size ?? 0);
  return { ...needs, total: settings.memory ?? needs.total + projector };
}
