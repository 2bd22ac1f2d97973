import { readdirSync } from "node:fs";
import { join } from "node:path";
import type Koffi from "koffi";
import type { LlamaFunctions, ThreadPoolHandle } from "./declarations.ts";
import { cudaLibraries, gpuBackendFile } from "../builds/gpu-files.ts";
import { structLayouts, structSizes } from "./layouts.ts";
import { LibraryError } from "./library-error.ts";
import { findLibraryFolder, notInstalled } from "../builds/packages.ts";
import { type Library, prototypes } from "./prototypes.ts";
import { verifyLayout, verifyRelease, verifySamplers } from "./verification.ts";

/**
 * Opens llama.cpp's shared libraries. The only file that knows koffi. Nothing here checks arguments: a wrong one ends
 * the process. `native-model.ts` and `native-context.ts` do.
 */

/** Memory of C that JavaScript reads and writes in place, zeroed. Never freed: made once for each context. */
export interface NativeMemory {
  readonly address: bigint;
  readonly buffer: ArrayBuffer;
}

export interface Device {
  readonly name: string;
  readonly description: string;
  readonly type: "cpu" | "gpu" | "igpu" | "accelerator" | "meta";
  readonly freeBytes: number;
  readonly totalBytes: number;
}

/** A loaded and verified llama.cpp. One for each thread of JavaScript that calls it. */
export interface LlamaLibrary {
  readonly functions: LlamaFunctions;
  /** e.g. `0.5.0-dev (0ad4a86)` */
  readonly release: string;
  readonly folder: string;
  /** Why the GPU that this build is for is not used; null where one is, or where the build is for none. */
  readonly gpuProblem: string | null;
  /** Version of koffi. */
  readonly koffi: string;
  devices(): Device[];
  allocate(bytes: number): NativeMemory;
  /** Gives memory back; nobody may hold its buffer any more. */
  free(memory: NativeMemory): void;
  /** `length` floats at an address; valid until the next decode. */
  floats(address: bigint, length: number): Float32Array;
  /** Address of shared memory, which V8 never moves, and frees when nothing refers to the array's buffer any more. */
  addressOf(shared: Uint8Array<SharedArrayBuffer>): bigint;
  /** Address of a C function `bool(void *)` that says whether the byte at its argument is not 0; null if there is none. */
  readonly byteIsSet: bigint | null;
  /** Calls back during `llama_model_load_from_file`, 0 … 1; false breaks the load off. Release it afterwards. */
  onProgress(callback: (progress: number) => boolean): { readonly address: bigint; release(): void };
  /** A persistent pool of compute threads, which narrows the spread of step times; null where the CPU backend has none. */
  createThreadPool(threads: number): ThreadPoolHandle | null;
}

/**
 * Loads llama.cpp from `folder`, or from the platform package that npm installed; `fallback` is a folder with the GPU
 * backend for older drivers. Throws `LibraryError` when it is not installed, is of an unknown release, or does not keep
 * to the declarations. One build for each process: two would mix up their backends.
 */
export async function loadLibrary(
  folder: string = findLibraryFolder(),
  fallback: string | null = null,
): Promise<LlamaLibrary> {
  const koffi = await importKoffi();
  // The default stack of 2 MiB is small for deep grammars and regular expressions.
  koffi.config({ sync_stack_size: 8 << 20, async_stack_size: 8 << 20 });
  const files = libraryFiles(folder);
  const loaded = { base: load(koffi, files.base), ggml: load(koffi, files.ggml), llama: load(koffi, files.llama) };
  for (const [name, layout] of Object.entries(structLayouts)) koffi.struct(name, { ...layout });
  const version = {
    llama_version: bind(loaded, folder, "llama_version"),
    ggml_commit: bind(loaded, folder, "ggml_commit"),
  };
  const release = verifyRelease(version as Pick<LlamaFunctions, keyof typeof version>, folder);
  const names = Object.keys(prototypes) as (keyof LlamaFunctions)[];
  const functions = Object.fromEntries(
    names.map((name) => [name, bind(loaded, folder, name)]),
  ) as unknown as LlamaFunctions;
  verifyLayout(functions, release, (struct) => koffi.sizeof(struct));
  const allocate = (bytes: number): NativeMemory => allocateMemory(koffi, bytes);
  verifySamplers(functions, release, allocate);
  functions.llama_backend_init();
  const gpuProblem = loadBackends(koffi, functions, { folder, fallback });
  return describeLibrary(koffi, functions, { release, folder, gpuProblem, allocate });
}

type LoadedLibraries = Record<Library, ReturnType<typeof Koffi.load>>;

function bind(loaded: LoadedLibraries, folder: string, name: keyof LlamaFunctions): unknown {
  const [library, prototype] = prototypes[name];
  try {
    return loaded[library].func(prototype);
  } catch (error) {
    const message = `llama.cpp in ${folder} has no function ${name}: it is a release unknown to this runtime`;
    throw new LibraryError(message, { cause: error });
  }
}

/** Size of each declared struct and offset of each of its fields, as calls lay them out. For `npm run llama:check`. */
export async function measureStructs(): Promise<Record<string, { size: number; offsets: Record<string, number> }>> {
  const koffi = await importKoffi();
  const measured = Object.entries(structLayouts).map(([name, layout]) => {
    const type = koffi.struct({ ...layout });
    const offsets = Object.keys(layout).map((field) => [field, koffi.offsetof(type, field)] as const);
    return [name, { size: koffi.sizeof(type), offsets: Object.fromEntries(offsets) }] as const;
  });
  return Object.fromEntries(measured);
}

async function importKoffi(): Promise<typeof Koffi> {
  try {
    return (await import("koffi")).default;
  } catch (error) {
    throw notInstalled("the package koffi cannot be loaded", error);
  }
}

function load(koffi: typeof Koffi, path: string): ReturnType<typeof Koffi.load> {
  try {
    return koffi.load(path);
  } catch (error) {
    throw new LibraryError(
      `llama.cpp cannot be loaded from ${path}: ${error instanceof Error ? error.message : String(error)}`,
    );
  }
}

/** The file names carry backend and version (`libllama.cuda.v0.5.0.so`), so they are found by pattern. */
function libraryFiles(folder: string): Record<Library, string> {
  let names: string[];
  try {
    names = readdirSync(folder);
  } catch (error) {
    throw new LibraryError(`the folder of llama.cpp cannot be read: ${folder}`, { cause: error });
  }
  const find = (stem: string): string => {
    // A build that was installed may have `libllama.so.0` or `libllama.0.dylib` only.
    const pattern = new RegExp(String.raw`^(lib)?${stem}((\.[a-z]+)?\.v[\d.]+)?(\.so(\.\d+)*|(\.\d+)*\.dylib|\.dll)$`);
    const [name] = names.filter((candidate) => pattern.test(candidate)).toSorted((a, b) => a.length - b.length);
    if (name === undefined) throw new LibraryError(`${folder} has no library ${stem} of llama.cpp`);
    return join(folder, name);
  };
  return { base: find("ggml-base"), ggml: find("ggml"), llama: find("llama") };
}

function describeLibrary(
  koffi: typeof Koffi,
  functions: LlamaFunctions,
  about: Pick<LlamaLibrary, "release" | "folder" | "gpuProblem" | "allocate">,
): LlamaLibrary {
  const progress = koffi.pointer(koffi.proto("bool llama_progress_callback(float progress, void *user_data)"));
  return {
    ...about,
    koffi: koffi.version,
    functions,
    devices: () => listDevices(functions),
    floats: (address, length) => new Float32Array(koffi.view(address, length * 4)),
    free: (memory) => koffi.free(memory.address),
    addressOf: (shared) => koffi.address(shared),
    byteIsSet: findByteTest(koffi),
    onProgress(callback) {
      const address = koffi.register((fraction: number) => callback(fraction), progress);
      return { address, release: () => koffi.unregister(address) };
    },
    createThreadPool: (threads) => createThreadPool(koffi, functions, threads),
  };
}

function allocateMemory(koffi: typeof Koffi, bytes: number): NativeMemory {
  const address = koffi.alloc("uint8_t", bytes) as bigint;
  const buffer = koffi.view(address, bytes);
  new Uint8Array(buffer).fill(0);
  return { address, buffer };
}

/** Loads the backends of a folder, then those of the fallback if no GPU has shown. Returns why none has. */
function loadBackends(
  koffi: typeof Koffi,
  functions: LlamaFunctions,
  { folder, fallback }: { folder: string; fallback: string | null },
): string | null {
  const hasGpu = (): boolean => listDevices(functions).some(({ type }) => type === "gpu" || type === "igpu");
  preloadCuda(koffi, folder);
  functions.ggml_backend_load_all_from_path(folder);
  if (hasGpu()) return null;
  const reason = gpuFailure(koffi, folder);
  if (reason === null || fallback === null) return reason;
  preloadCuda(koffi, fallback);
  functions.ggml_backend_load_all_from_path(fallback);
  return hasGpu() ? null : `${reason}; ${gpuFailure(koffi, fallback) ?? "the fallback has no backend"}`;
}

/** ggml's release builds say nothing where a backend cannot be loaded: the loader's own message is the reason. */
function gpuFailure(koffi: typeof Koffi, folder: string): string | null {
  const name = gpuBackendFile(folder);
  if (name === null) return null;
  try {
    koffi.load(join(folder, name));
    return `${name} was loaded, but found no GPU: is there one, and is its driver installed?`;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

/**
 * CUDA's own libraries, which no package ships, from where its installers put them: then nobody has to set
 * LD_LIBRARY_PATH. What is not found here is left to the system's loader.
 */
function preloadCuda(koffi: typeof Koffi, folder: string): void {
  if (process.platform !== "linux" || gpuBackendFile(folder)?.includes("cuda") !== true) return;
  for (const path of cudaLibraries(folder)) {
    try {
      koffi.load(path, { global: true });
    } catch {
      // The backend's own message will say what is missing.
    }
  }
}

function listDevices(functions: LlamaFunctions): Device[] {
  const types = ["cpu", "gpu", "igpu", "accelerator", "meta"] as const;
  return Array.from({ length: Number(functions.ggml_backend_dev_count()) }, (_, index) => {
    const device = functions.ggml_backend_dev_get(index);
    const free = new BigUint64Array(1);
    const total = new BigUint64Array(1);
    functions.ggml_backend_dev_memory(device, free, total);
    const type = types[functions.ggml_backend_dev_type(device)] ?? "accelerator";
    return {
      name: functions.ggml_backend_dev_name(device),
      description: functions.ggml_backend_dev_description(device),
      type,
      // Of the processor's memory ggml says that all of it is free.
      freeBytes: type === "cpu" ? process.availableMemory() : Number(free[0]),
      totalBytes: Number(total[0]),
    };
  });
}

/**
 * `strlen` of a byte followed by a 0 is 1 or 0: as a `bool(void *)` it tells whether the byte is set, from any thread
 * and without entering JavaScript (measured: a prefill stops 4 ms after the byte is set).
 */
function findByteTest(koffi: typeof Koffi): bigint | null {
  const names = { linux: "libc.so.6", darwin: "/usr/lib/libSystem.B.dylib", win32: "ucrtbase.dll" };
  const name = names[process.platform as keyof typeof names];
  try {
    return name === undefined ? null : (koffi.load(name).symbol("strlen") as bigint);
  } catch {
    return null;
  }
}

function createThreadPool(koffi: typeof Koffi, functions: LlamaFunctions, threads: number): ThreadPoolHandle | null {
  for (let index = 0; index < Number(functions.ggml_backend_dev_count()); index++) {
    const device = functions.ggml_backend_dev_get(index);
    if (functions.ggml_backend_dev_type(device) !== 0) continue;
    const registry = functions.ggml_backend_dev_backend_reg(device);
    // The function lives in the CPU variant that was chosen at load, not in a library linked by name.
    const create = functions.ggml_backend_reg_get_proc_address(registry, "ggml_threadpool_new");
    if (create === null) return null;
    const params = Buffer.alloc(structSizes["ggml_threadpool_params"] ?? 0);
    functions.ggml_threadpool_params_init(params, threads);
    if (params.readInt32LE(512) !== threads) return null;
    return koffi.call(
      create,
      // Without a name, for a name can be given only once.
      koffi.proto("void *", ["uint8_t *"]),
      params,
    ) as ThreadPoolHandle | null;
  }
  return null;
}
