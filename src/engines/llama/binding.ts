import { existsSync, readdirSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import type Koffi from "koffi";
import {
  type Library,
  type LlamaFunctions,
  type ThreadPoolHandle,
  batchLayout,
  contextParamsLayout,
  defaultContextParams,
  defaultModelParams,
  modelParamsLayout,
  prototypes,
  releases,
  structSizes,
} from "./declarations.ts";

/**
 * Opens llama.cpp's shared libraries. The only file that knows koffi. Nothing here checks arguments: a wrong one ends
 * the process. `native-model.ts` and `native-context.ts` do.
 */

/** Memory of C that JavaScript reads and writes in place. Never freed: made once for each context. */
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
  devices(): Device[];
  allocate(bytes: number): NativeMemory;
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

/** Why llama.cpp cannot be used here; the message says what to do. */
export class LibraryError extends Error {}

/**
 * Loads llama.cpp from `folder`, or from the platform package that npm installed.
 * Throws `LibraryError` when it is not installed, is of an unknown release, or its structs differ from this file's.
 */
export async function loadLibrary(folder = findLibraryFolder()): Promise<LlamaLibrary> {
  const koffi = await importKoffi();
  // The default stack of 2 MiB is small for deep grammars and regular expressions.
  koffi.config({ sync_stack_size: 8 << 20, async_stack_size: 8 << 20 });
  const files = libraryFiles(folder);
  const loaded = { base: load(koffi, files.base), ggml: load(koffi, files.ggml), llama: load(koffi, files.llama) };
  koffi.struct("llama_model_params", modelParamsLayout);
  koffi.struct("llama_context_params", contextParamsLayout);
  koffi.struct("llama_batch", batchLayout);
  koffi.struct("llama_sampler_chain_params", { no_perf: "bool" });
  const functions = {} as Record<keyof LlamaFunctions, unknown>;
  for (const [name, [library, prototype]] of Object.entries(prototypes) as [
    keyof LlamaFunctions,
    readonly [Library, string],
  ][]) {
    try {
      functions[name] = loaded[library].func(prototype);
    } catch (error) {
      throw new LibraryError(
        `llama.cpp in ${folder} has no function ${name}: it is a release unknown to this runtime`,
        {
          cause: error,
        },
      );
    }
  }
  const api = functions as unknown as LlamaFunctions;
  const release = verifyRelease(api, folder);
  verifyLayout(koffi, api, release);
  api.llama_backend_init();
  api.ggml_backend_load_all_from_path(folder);
  return describeLibrary(koffi, api, { release, folder });
}

/** Folder of the native files of the best installed `@node-llama-cpp` package. Throws `LibraryError` if there is none. */
export function findLibraryFolder(): string {
  const require = createRequire(import.meta.url);
  const platform = { linux: "linux", darwin: "mac", win32: "win" }[process.platform as string] ?? process.platform;
  const variants = process.platform === "darwin" ? ["-metal", ""] : ["-cuda", "-vulkan", ""];
  for (const variant of variants) {
    const name = `${platform}-${process.arch === "arm" ? "armv7l" : process.arch}${variant}`;
    try {
      const folder = join(dirname(dirname(require.resolve(`@node-llama-cpp/${name}`))), "bins", name);
      if (existsSync(folder)) return folder;
    } catch {
      // Not installed: the next one may be.
    }
  }
  throw notInstalled(`no package @node-llama-cpp/${platform}-${process.arch} was found`);
}

function notInstalled(reason: string, cause?: unknown): LibraryError {
  return new LibraryError(`llama.cpp is not installed: ${reason}; run npm install --include=optional`, { cause });
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
    const pattern = new RegExp(String.raw`^(lib)?${stem}((\.[a-z]+)?\.v[\d.]+)?\.(so|dylib|dll)$`);
    const name = names.find((candidate) => pattern.test(candidate));
    if (name === undefined) throw new LibraryError(`${folder} has no library ${stem} of llama.cpp`);
    return join(folder, name);
  };
  return { base: find("ggml-base"), ggml: find("ggml"), llama: find("llama") };
}

function verifyRelease(functions: LlamaFunctions, folder: string): string {
  const version = functions.llama_version();
  const commit = functions.ggml_commit();
  if (!releases.some(([knownVersion, knownCommit]) => knownVersion === version && knownCommit === commit)) {
    const known = releases.map(([knownVersion, knownCommit]) => `${knownVersion} (${knownCommit})`).join(", ");
    throw new LibraryError(
      `llama.cpp ${version} (${commit}) in ${folder} is not a release that this runtime was written for; it knows ${known}`,
    );
  }
  return `${version} (${commit})`;
}

function verifyLayout(koffi: typeof Koffi, functions: LlamaFunctions, release: string): void {
  const wrong: string[] = [];
  for (const [name, size] of Object.entries(structSizes))
    if (koffi.sizeof(name) !== size) wrong.push(`size of ${name}`);
  const compare = (found: object, expected: object): void => {
    for (const [field, value] of Object.entries(expected)) {
      const actual = (found as Record<string, unknown>)[field];
      if (typeof actual === "bigint" ? BigInt(value as number) !== actual : actual !== value) wrong.push(field);
    }
  };
  compare(functions.llama_model_default_params(), defaultModelParams);
  compare(functions.llama_context_default_params(), defaultContextParams);
  if (wrong.length > 0) {
    throw new LibraryError(`llama.cpp ${release} lays out its structs otherwise than expected (${wrong.join(", ")})`);
  }
}

function describeLibrary(
  koffi: typeof Koffi,
  functions: LlamaFunctions,
  about: { release: string; folder: string },
): LlamaLibrary {
  const progress = koffi.pointer(koffi.proto("bool llama_progress_callback(float progress, void *user_data)"));
  return {
    ...about,
    functions,
    devices: () => listDevices(functions),
    allocate(bytes) {
      const address = koffi.alloc("uint8_t", bytes) as bigint;
      return { address, buffer: koffi.view(address, bytes) };
    },
    floats: (address, length) => new Float32Array(koffi.view(address, length * 4)),
    addressOf: (shared) => koffi.address(shared),
    byteIsSet: findByteTest(koffi),
    onProgress(callback) {
      const address = koffi.register((fraction: number) => callback(fraction), progress);
      return { address, release: () => koffi.unregister(address) };
    },
    createThreadPool: (threads) => createThreadPool(koffi, functions, threads),
  };
}

function listDevices(functions: LlamaFunctions): Device[] {
  const types = ["cpu", "gpu", "igpu", "accelerator", "meta"] as const;
  return Array.from({ length: Number(functions.ggml_backend_dev_count()) }, (_, index) => {
    const device = functions.ggml_backend_dev_get(index);
    const free = new BigUint64Array(1);
    const total = new BigUint64Array(1);
    functions.ggml_backend_dev_memory(device, free, total);
    return {
      name: functions.ggml_backend_dev_name(device),
      description: functions.ggml_backend_dev_description(device),
      type: types[functions.ggml_backend_dev_type(device)] ?? "accelerator",
      freeBytes: Number(free[0]),
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

/** ggml_threadpool_params: bool cpumask[512], int n_threads, enum prio, uint32 poll, bool strict_cpu, bool paused. */
const threadPoolParamsBytes = 528;

function createThreadPool(koffi: typeof Koffi, functions: LlamaFunctions, threads: number): ThreadPoolHandle | null {
  for (let index = 0; index < Number(functions.ggml_backend_dev_count()); index++) {
    const device = functions.ggml_backend_dev_get(index);
    if (functions.ggml_backend_dev_type(device) !== 0) continue;
    const registry = functions.ggml_backend_dev_backend_reg(device);
    // The function lives in the CPU variant that was chosen at load, not in a library linked by name.
    const create = functions.ggml_backend_reg_get_proc_address(registry, "ggml_threadpool_new");
    if (create === null) return null;
    const params = Buffer.alloc(threadPoolParamsBytes);
    functions.ggml_threadpool_params_init(params, threads);
    if (params.readInt32LE(512) !== threads) return null;
    return koffi.call(
      create,
      koffi.proto("void *ggml_threadpool_new(uint8_t *params)"),
      params,
    ) as ThreadPoolHandle | null;
  }
  return null;
}
