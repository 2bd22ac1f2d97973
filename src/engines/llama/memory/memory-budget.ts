import { chooseLibrary, probeLibrary } from "../builds/backends.ts";
import { LibraryError } from "../native/library-error.ts";
import { readMachineMemory } from "./machine-memory.ts";
import type { LlamaSettings } from "../settings.ts";

/** How much memory models may take together. */
export interface MemoryBudget {
  readonly bytes: number;
  /** It is that of GPUs with memory of their own: what the machine has free besides does not matter. */
  readonly ofGpu: boolean;
}

/** Of the machine's memory models may have this part: the rest is for the system and the user's other programs. */
const partOfMachine = 0.8;
/** Of a GPU's: its driver and llama.cpp's buffers take a little that no file tells of. */
const partOfGpu = 0.92;

/**
 * What the settings say; else a part of the GPUs' memory that is free now, where models are computed there, and of the
 * machine's where they are not. Which build computes is found out as for a model, in a process of its own.
 */
export async function readMemoryBudget(
  settings: LlamaSettings,
  machineBytes: number = readMachineMemory().total,
  tryOut: typeof probeLibrary = probeLibrary,
): Promise<MemoryBudget> {
  const { memoryBudget } = settings;
  if (memoryBudget !== undefined)
    return { bytes: memoryBudget === "unlimited" ? Infinity : memoryBudget, ofGpu: false };
  const ofMachine = { bytes: machineBytes * partOfMachine, ofGpu: false };
  if (settings.gpuLayers === 0) return ofMachine;
  const gpuBytes = (await readGpuMemory(settings, tryOut)) * partOfGpu;
  if (gpuBytes === 0) return ofMachine;
  // Of some layers on the GPU, the others are in the machine's memory.
  const all = settings.gpuLayers === "all" || settings.gpuLayers === undefined;
  return all ? { bytes: gpuBytes, ofGpu: true } : { bytes: gpuBytes + ofMachine.bytes, ofGpu: true };
}

/** Free bytes of the GPUs that have memory of their own; 0 where none computes. Nothing is tried where no GPU package is. */
async function readGpuMemory(settings: LlamaSettings, tryOut: typeof probeLibrary): Promise<number> {
  try {
    const { folder, fallback, backend } = await chooseLibrary(settings, tryOut);
    // Apple's GPUs compute in the machine's memory.
    if (backend === "cpu" || backend === "metal") return 0;
    const told = await tryOut(folder, fallback);
    const devices = told.ok ? told.report.devices : [];
    return devices.reduce((sum, { type, freeBytes }) => sum + (type === "gpu" ? freeBytes : 0), 0);
  } catch (error) {
    // Without a library nothing will be loaded, and whoever asks learns why.
    if (error instanceof LibraryError) return 0;
    throw error;
  }
}
