import { existsSync, readdirSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import type Koffi from "koffi";

/**
 * llama.cpp's C API (`llama.h`, `ggml-backend.h`, `ggml.h`) as this runtime calls it. The only file that knows koffi.
 * Nothing here checks arguments: a wrong one ends the process. `native-model.ts` and `native-context.ts` do.
 */

/** An address of llama.cpp's. Distinct for each kind of thing, for the library cannot tell them apart. */
export type Handle<Kind extends string> = bigint & { readonly kind: Kind };
export type ModelHandle = Handle<"llama_model">;
export type ContextHandle = Handle<"llama_context">;
export type VocabularyHandle = Handle<"llama_vocab">;
export type SamplerHandle = Handle<"llama_sampler">;
export type MemoryHandle = Handle<"llama_memory">;
export type DeviceHandle = Handle<"ggml_backend_device">;
export type RegistryHandle = Handle<"ggml_backend_reg">;
export type ThreadPoolHandle = Handle<"ggml_threadpool">;

export interface ModelParams {
  devices: null;
  tensor_buft_overrides: null;
  n_gpu_layers: number;
  split_mode: number;
  load_mode: number;
  lazy_mode: number;
  main_gpu: number;
  tensor_split: null;
  progress_callback: bigint | null;
  progress_callback_user_data: null;
  kv_overrides: null;
  vocab_only: boolean;
  check_tensors: boolean;
  use_extra_bufts: boolean;
  no_host: boolean;
  no_alloc: boolean;
  load_mtp: boolean;
}

export interface ContextParams {
  n_ctx: number;
  n_batch: number;
  n_ubatch: number;
  n_seq_max: number;
  n_rs_seq: number;
  n_outputs_max: number;
  n_outputs_max_per_seq: number;
  n_threads: number;
  n_threads_batch: number;
  ctx_type: number;
  rope_scaling_type: number;
  pooling_type: number;
  attention_type: number;
  flash_attn_type: number;
  rope_freq_base: number;
  rope_freq_scale: number;
  yarn_ext_factor: number;
  yarn_attn_factor: number;
  yarn_beta_fast: number;
  yarn_beta_slow: number;
  yarn_orig_ctx: number;
  defrag_thold: number;
  cb_eval: null;
  cb_eval_user_data: null;
  type_k: number;
  type_v: number;
  abort_callback: bigint | null;
  abort_callback_data: bigint | null;
  embeddings: boolean;
  offload_kqv: boolean;
  no_perf: boolean;
  op_offload: boolean;
  swa_full: boolean;
  kv_unified: boolean;
  samplers: null;
  n_samplers: number;
  ctx_other: null;
}

export interface BatchStruct {
  n_tokens: number;
  token: bigint;
  embd: null;
  pos: bigint;
  n_seq_id: bigint;
  seq_id: bigint;
  logits: bigint;
}

/** The functions in use, as TypeScript sees them. A null handle means that the call failed. */
export interface LlamaFunctions {
  llama_version(): string;
  llama_backend_init(): void;
  llama_model_default_params(): ModelParams;
  llama_context_default_params(): ContextParams;
  llama_supports_gpu_offload(): boolean;
  llama_model_load_from_file(path: string, params: ModelParams): ModelHandle | null;
  llama_model_free(model: ModelHandle): void;
  llama_model_get_vocab(model: ModelHandle): VocabularyHandle;
  llama_model_n_ctx_train(model: ModelHandle): number;
  llama_model_n_embd_out(model: ModelHandle): number;
  llama_model_n_cls_out(model: ModelHandle): number;
  llama_model_desc(model: ModelHandle, buffer: Uint8Array, size: number): number;
  llama_model_meta_val_str(model: ModelHandle, key: string, buffer: Uint8Array, size: number): number;
  llama_model_has_decoder(model: ModelHandle): boolean;
  llama_model_chat_template(model: ModelHandle, name: string | null): string | null;
  llama_init_from_model(model: ModelHandle, params: ContextParams): ContextHandle | null;
  llama_free(context: ContextHandle): void;
  llama_n_ctx_seq(context: ContextHandle): number;
  llama_n_batch(context: ContextHandle): number;
  llama_get_memory(context: ContextHandle): MemoryHandle | null;
  llama_memory_clear(memory: MemoryHandle, data: boolean): void;
  llama_memory_seq_rm(memory: MemoryHandle, sequence: number, from: number, to: number): boolean;
  llama_memory_seq_pos_max(memory: MemoryHandle, sequence: number): number;
  llama_decode(context: ContextHandle, batch: BatchStruct): number;
  llama_get_logits_ith(context: ContextHandle, index: number): bigint | null;
  llama_get_embeddings_seq(context: ContextHandle, sequence: number): bigint | null;
  llama_attach_threadpool(context: ContextHandle, pool: ThreadPoolHandle, poolBatch: ThreadPoolHandle): void;
  llama_vocab_n_tokens(vocabulary: VocabularyHandle): number;
  llama_vocab_is_eog(vocabulary: VocabularyHandle, token: number): boolean;
  llama_vocab_is_control(vocabulary: VocabularyHandle, token: number): boolean;
  llama_vocab_bos(vocabulary: VocabularyHandle): number;
  llama_vocab_eos(vocabulary: VocabularyHandle): number;
  llama_vocab_sep(vocabulary: VocabularyHandle): number;
  llama_vocab_get_add_bos(vocabulary: VocabularyHandle): boolean;
  llama_vocab_get_add_eos(vocabulary: VocabularyHandle): boolean;
  llama_tokenize(
    vocabulary: VocabularyHandle,
    text: Uint8Array,
    length: number,
    tokens: Int32Array,
    capacity: number,
    addSpecial: boolean,
    parseSpecial: boolean,
  ): number;
  llama_token_to_piece(
    vocabulary: VocabularyHandle,
    token: number,
    buffer: Uint8Array,
    length: number,
    strip: number,
    special: boolean,
  ): number;
  llama_detokenize(
    vocabulary: VocabularyHandle,
    tokens: Int32Array,
    count: number,
    buffer: Uint8Array,
    length: number,
    removeSpecial: boolean,
    unparseSpecial: boolean,
  ): number;
  llama_sampler_chain_init(params: { no_perf: boolean }): SamplerHandle;
  llama_sampler_chain_add(chain: SamplerHandle, sampler: SamplerHandle): void;
  llama_sampler_accept(sampler: SamplerHandle, token: number): void;
  llama_sampler_apply(sampler: SamplerHandle, candidates: bigint): void;
  llama_sampler_free(sampler: SamplerHandle): void;
  llama_sampler_sample(sampler: SamplerHandle, context: ContextHandle, index: number): number;
  llama_sampler_init_greedy(): SamplerHandle;
  llama_sampler_init_dist(seed: number): SamplerHandle;
  llama_sampler_init_top_k(count: number): SamplerHandle;
  llama_sampler_init_top_p(probability: number, minKeep: number): SamplerHandle;
  llama_sampler_init_min_p(probability: number, minKeep: number): SamplerHandle;
  llama_sampler_init_temp(temperature: number): SamplerHandle;
  llama_sampler_init_penalties(
    vocabularySize: number,
    lastTokens: number,
    repeat: number,
    frequency: number,
    presence: number,
  ): SamplerHandle;
  llama_sampler_init_logit_bias(vocabularySize: number, count: number, biases: Uint8Array): SamplerHandle;
  llama_sampler_init_grammar(vocabulary: VocabularyHandle, grammar: string, root: string): SamplerHandle | null;
  ggml_commit(): string;
  ggml_backend_load_all_from_path(folder: string): void;
  ggml_backend_dev_count(): number;
  ggml_backend_dev_get(index: number): DeviceHandle;
  ggml_backend_dev_name(device: DeviceHandle): string;
  ggml_backend_dev_description(device: DeviceHandle): string;
  ggml_backend_dev_type(device: DeviceHandle): number;
  ggml_backend_dev_memory(device: DeviceHandle, free: BigUint64Array, total: BigUint64Array): void;
  ggml_backend_dev_backend_reg(device: DeviceHandle): RegistryHandle;
  ggml_backend_reg_get_proc_address(registry: RegistryHandle, name: string): bigint | null;
  ggml_threadpool_params_init(params: Uint8Array, threads: number): void;
}

type Library = "llama" | "ggml" | "base";

/** C prototypes as the headers of llama.cpp v0.4.0 and v0.5.0 have them, handles written as `void *`. */
const prototypes: Record<keyof LlamaFunctions, readonly [Library, string]> = {
  llama_version: ["llama", "const char *llama_version()"],
  llama_backend_init: ["llama", "void llama_backend_init()"],
  llama_model_default_params: ["llama", "llama_model_params llama_model_default_params()"],
  llama_context_default_params: ["llama", "llama_context_params llama_context_default_params()"],
  llama_supports_gpu_offload: ["llama", "bool llama_supports_gpu_offload()"],
  llama_model_load_from_file: [
    "llama",
    "void *llama_model_load_from_file(const char *path, llama_model_params params)",
  ],
  llama_model_free: ["llama", "void llama_model_free(void *model)"],
  llama_model_get_vocab: ["llama", "void *llama_model_get_vocab(void *model)"],
  llama_model_n_ctx_train: ["llama", "int32_t llama_model_n_ctx_train(void *model)"],
  llama_model_n_embd_out: ["llama", "int32_t llama_model_n_embd_out(void *model)"],
  llama_model_n_cls_out: ["llama", "uint32_t llama_model_n_cls_out(void *model)"],
  llama_model_desc: ["llama", "int32_t llama_model_desc(void *model, uint8_t *buf, size_t buf_size)"],
  llama_model_meta_val_str: [
    "llama",
    "int32_t llama_model_meta_val_str(void *model, const char *key, uint8_t *buf, size_t buf_size)",
  ],
  llama_model_has_decoder: ["llama", "bool llama_model_has_decoder(void *model)"],
  llama_model_chat_template: ["llama", "const char *llama_model_chat_template(void *model, const char *name)"],
  llama_init_from_model: ["llama", "void *llama_init_from_model(void *model, llama_context_params params)"],
  llama_free: ["llama", "void llama_free(void *ctx)"],
  llama_n_ctx_seq: ["llama", "uint32_t llama_n_ctx_seq(void *ctx)"],
  llama_n_batch: ["llama", "uint32_t llama_n_batch(void *ctx)"],
  llama_get_memory: ["llama", "void *llama_get_memory(void *ctx)"],
  llama_memory_clear: ["llama", "void llama_memory_clear(void *mem, bool data)"],
  llama_memory_seq_rm: ["llama", "bool llama_memory_seq_rm(void *mem, int32_t seq_id, int32_t p0, int32_t p1)"],
  llama_memory_seq_pos_max: ["llama", "int32_t llama_memory_seq_pos_max(void *mem, int32_t seq_id)"],
  llama_decode: ["llama", "int32_t llama_decode(void *ctx, llama_batch batch)"],
  llama_get_logits_ith: ["llama", "void *llama_get_logits_ith(void *ctx, int32_t i)"],
  llama_get_embeddings_seq: ["llama", "void *llama_get_embeddings_seq(void *ctx, int32_t seq_id)"],
  llama_attach_threadpool: [
    "llama",
    "void llama_attach_threadpool(void *ctx, void *threadpool, void *threadpool_batch)",
  ],
  llama_vocab_n_tokens: ["llama", "int32_t llama_vocab_n_tokens(void *vocab)"],
  llama_vocab_is_eog: ["llama", "bool llama_vocab_is_eog(void *vocab, int32_t token)"],
  llama_vocab_is_control: ["llama", "bool llama_vocab_is_control(void *vocab, int32_t token)"],
  llama_vocab_bos: ["llama", "int32_t llama_vocab_bos(void *vocab)"],
  llama_vocab_eos: ["llama", "int32_t llama_vocab_eos(void *vocab)"],
  llama_vocab_sep: ["llama", "int32_t llama_vocab_sep(void *vocab)"],
  llama_vocab_get_add_bos: ["llama", "bool llama_vocab_get_add_bos(void *vocab)"],
  llama_vocab_get_add_eos: ["llama", "bool llama_vocab_get_add_eos(void *vocab)"],
  llama_tokenize: [
    "llama",
    "int32_t llama_tokenize(void *vocab, uint8_t *text, int32_t text_len, int32_t *tokens, int32_t n_tokens_max, bool add_special, bool parse_special)",
  ],
  llama_token_to_piece: [
    "llama",
    "int32_t llama_token_to_piece(void *vocab, int32_t token, uint8_t *buf, int32_t length, int32_t lstrip, bool special)",
  ],
  llama_detokenize: [
    "llama",
    "int32_t llama_detokenize(void *vocab, int32_t *tokens, int32_t n_tokens, uint8_t *text, int32_t text_len_max, bool remove_special, bool unparse_special)",
  ],
  llama_sampler_chain_init: ["llama", "void *llama_sampler_chain_init(llama_sampler_chain_params params)"],
  llama_sampler_chain_add: ["llama", "void llama_sampler_chain_add(void *chain, void *smpl)"],
  llama_sampler_accept: ["llama", "void llama_sampler_accept(void *smpl, int32_t token)"],
  llama_sampler_apply: ["llama", "void llama_sampler_apply(void *smpl, void *cur_p)"],
  llama_sampler_free: ["llama", "void llama_sampler_free(void *smpl)"],
  llama_sampler_sample: ["llama", "int32_t llama_sampler_sample(void *smpl, void *ctx, int32_t idx)"],
  llama_sampler_init_greedy: ["llama", "void *llama_sampler_init_greedy()"],
  llama_sampler_init_dist: ["llama", "void *llama_sampler_init_dist(uint32_t seed)"],
  llama_sampler_init_top_k: ["llama", "void *llama_sampler_init_top_k(int32_t k)"],
  llama_sampler_init_top_p: ["llama", "void *llama_sampler_init_top_p(float p, size_t min_keep)"],
  llama_sampler_init_min_p: ["llama", "void *llama_sampler_init_min_p(float p, size_t min_keep)"],
  llama_sampler_init_temp: ["llama", "void *llama_sampler_init_temp(float t)"],
  llama_sampler_init_penalties: [
    "llama",
    "void *llama_sampler_init_penalties(int32_t n_vocab, int32_t last_n, float repeat, float freq, float present)",
  ],
  llama_sampler_init_logit_bias: [
    "llama",
    "void *llama_sampler_init_logit_bias(int32_t n_vocab, int32_t n_logit_bias, uint8_t *logit_bias)",
  ],
  llama_sampler_init_grammar: [
    "llama",
    "void *llama_sampler_init_grammar(void *vocab, const char *grammar_str, const char *grammar_root)",
  ],
  ggml_commit: ["base", "const char *ggml_commit()"],
  ggml_backend_load_all_from_path: ["ggml", "void ggml_backend_load_all_from_path(const char *dir_path)"],
  ggml_backend_dev_count: ["ggml", "size_t ggml_backend_dev_count()"],
  ggml_backend_dev_get: ["ggml", "void *ggml_backend_dev_get(size_t index)"],
  ggml_backend_dev_name: ["base", "const char *ggml_backend_dev_name(void *device)"],
  ggml_backend_dev_description: ["base", "const char *ggml_backend_dev_description(void *device)"],
  ggml_backend_dev_type: ["base", "int ggml_backend_dev_type(void *device)"],
  ggml_backend_dev_memory: ["base", "void ggml_backend_dev_memory(void *device, uint64_t *free, uint64_t *total)"],
  ggml_backend_dev_backend_reg: ["base", "void *ggml_backend_dev_backend_reg(void *device)"],
  ggml_backend_reg_get_proc_address: ["base", "void *ggml_backend_reg_get_proc_address(void *reg, const char *name)"],
  ggml_threadpool_params_init: ["base", "void ggml_threadpool_params_init(uint8_t *p, int n_threads)"],
};

const modelParamsLayout: Record<keyof ModelParams, string> = {
  devices: "void *",
  tensor_buft_overrides: "void *",
  n_gpu_layers: "int32_t",
  split_mode: "int",
  load_mode: "int",
  lazy_mode: "int",
  main_gpu: "int32_t",
  tensor_split: "void *",
  progress_callback: "void *",
  progress_callback_user_data: "void *",
  kv_overrides: "void *",
  vocab_only: "bool",
  check_tensors: "bool",
  use_extra_bufts: "bool",
  no_host: "bool",
  no_alloc: "bool",
  load_mtp: "bool",
};

const contextParamsLayout: Record<keyof ContextParams, string> = {
  n_ctx: "uint32_t",
  n_batch: "uint32_t",
  n_ubatch: "uint32_t",
  n_seq_max: "uint32_t",
  n_rs_seq: "uint32_t",
  n_outputs_max: "uint32_t",
  n_outputs_max_per_seq: "uint32_t",
  n_threads: "int32_t",
  n_threads_batch: "int32_t",
  ctx_type: "int",
  rope_scaling_type: "int",
  pooling_type: "int",
  attention_type: "int",
  flash_attn_type: "int",
  rope_freq_base: "float",
  rope_freq_scale: "float",
  yarn_ext_factor: "float",
  yarn_attn_factor: "float",
  yarn_beta_fast: "float",
  yarn_beta_slow: "float",
  yarn_orig_ctx: "uint32_t",
  defrag_thold: "float",
  cb_eval: "void *",
  cb_eval_user_data: "void *",
  type_k: "int",
  type_v: "int",
  abort_callback: "void *",
  abort_callback_data: "void *",
  embeddings: "bool",
  offload_kqv: "bool",
  no_perf: "bool",
  op_offload: "bool",
  swa_full: "bool",
  kv_unified: "bool",
  samplers: "void *",
  n_samplers: "size_t",
  ctx_other: "void *",
};

const batchLayout: Record<keyof BatchStruct, string> = {
  n_tokens: "int32_t",
  token: "void *",
  embd: "void *",
  pos: "void *",
  n_seq_id: "void *",
  seq_id: "void *",
  logits: "void *",
};

/** Sizes that gcc gives these structs from the headers on a 64-bit machine. */
const structSizes = { llama_model_params: 80, llama_context_params: 160, llama_batch: 56 } as const;

/** Defaults that the library must report if the layouts above fit it; from llama-model.cpp and llama-context.cpp. */
const defaultModelParams: ModelParams = {
  devices: null,
  tensor_buft_overrides: null,
  n_gpu_layers: -1,
  split_mode: 1,
  load_mode: -1,
  lazy_mode: 1,
  main_gpu: 0,
  tensor_split: null,
  progress_callback: null,
  progress_callback_user_data: null,
  kv_overrides: null,
  vocab_only: false,
  check_tensors: false,
  use_extra_bufts: true,
  no_host: false,
  no_alloc: false,
  load_mtp: false,
};

const defaultContextParams: ContextParams = {
  n_ctx: 512,
  n_batch: 2048,
  n_ubatch: 512,
  n_seq_max: 1,
  n_rs_seq: 0,
  n_outputs_max: 0,
  n_outputs_max_per_seq: 1,
  n_threads: 4,
  n_threads_batch: 4,
  ctx_type: 0,
  rope_scaling_type: -1,
  pooling_type: -1,
  attention_type: -1,
  flash_attn_type: -1,
  rope_freq_base: 0,
  rope_freq_scale: 0,
  yarn_ext_factor: -1,
  yarn_attn_factor: -1,
  yarn_beta_fast: -1,
  yarn_beta_slow: -1,
  yarn_orig_ctx: 0,
  defrag_thold: -1,
  cb_eval: null,
  cb_eval_user_data: null,
  type_k: 1,
  type_v: 1,
  abort_callback: null,
  abort_callback_data: null,
  embeddings: false,
  offload_kqv: true,
  no_perf: true,
  op_offload: true,
  swa_full: true,
  kv_unified: false,
  samplers: null,
  n_samplers: 0,
  ctx_other: null,
};

/** `llama_version()` and `ggml_commit()` of the releases whose headers were compared with this file. */
const releases: readonly (readonly [version: string, commit: string])[] = [
  ["0.4.0-dev", "5b4ebc5"],
  ["0.5.0-dev", "0ad4a86"],
];

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
