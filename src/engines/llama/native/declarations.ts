/**
 * The part of llama.cpp's C API (`llama.h`, `ggml-backend.h`, `ggml-cpu.h`) that this runtime calls, as TypeScript sees
 * it. The same in C: `prototypes.ts`; structs, defaults and constants: `layouts.ts`.
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
  devices: bigint | null;
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
  llama_set_n_threads(context: ContextHandle, single: number, batch: number): void;
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
  llama_vocab_get_add_sep(vocabulary: VocabularyHandle): boolean;
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
  llama_model_n_embd(model: ModelHandle): number;
  llama_model_n_layer(model: ModelHandle): number;
  llama_model_n_swa(model: ModelHandle): number;
  llama_model_is_recurrent(model: ModelHandle): boolean;
  llama_model_is_hybrid(model: ModelHandle): boolean;
  llama_model_has_encoder(model: ModelHandle): boolean;
  llama_model_size(model: ModelHandle): number | bigint;
  llama_model_n_params(model: ModelHandle): number | bigint;
  llama_n_ubatch(context: ContextHandle): number;
  llama_set_embeddings(context: ContextHandle, embeddings: boolean): void;
  llama_pooling_type(context: ContextHandle): number;
  llama_detach_threadpool(context: ContextHandle): void;
  llama_encode(context: ContextHandle, batch: BatchStruct): number;
  llama_get_embeddings_ith(context: ContextHandle, index: number): bigint | null;
  llama_memory_seq_cp(memory: MemoryHandle, source: number, target: number, from: number, to: number): void;
  llama_memory_seq_pos_min(memory: MemoryHandle, sequence: number): number;
  llama_state_seq_get_size_ext(context: ContextHandle, sequence: number, flags: number): number | bigint;
  llama_state_seq_get_data_ext(
    context: ContextHandle,
    target: Uint8Array,
    size: number,
    sequence: number,
    flags: number,
  ): number | bigint;
  llama_state_seq_set_data_ext(
    context: ContextHandle,
    source: Uint8Array,
    size: number,
    sequence: number,
    flags: number,
  ): number | bigint;
  llama_vocab_type(vocabulary: VocabularyHandle): number;
  llama_vocab_get_attr(vocabulary: VocabularyHandle, token: number): number;
  llama_vocab_eot(vocabulary: VocabularyHandle): number;
  llama_vocab_fim_pre(vocabulary: VocabularyHandle): number;
  llama_vocab_fim_suf(vocabulary: VocabularyHandle): number;
  llama_vocab_fim_mid(vocabulary: VocabularyHandle): number;
  llama_vocab_fim_pad(vocabulary: VocabularyHandle): number;
  llama_vocab_fim_rep(vocabulary: VocabularyHandle): number;
  llama_vocab_fim_sep(vocabulary: VocabularyHandle): number;
  llama_sampler_clone(sampler: SamplerHandle): SamplerHandle;
  llama_sampler_reset(sampler: SamplerHandle): void;
  llama_sampler_init_typical(probability: number, minKeep: number): SamplerHandle;
  llama_sampler_init_temp_ext(temperature: number, delta: number, exponent: number): SamplerHandle;
  llama_sampler_init_xtc(probability: number, threshold: number, minKeep: number, seed: number): SamplerHandle;
  llama_sampler_init_top_n_sigma(count: number): SamplerHandle;
  llama_sampler_init_mirostat(
    vocabularySize: number,
    seed: number,
    tau: number,
    eta: number,
    count: number,
  ): SamplerHandle;
  llama_sampler_init_mirostat_v2(seed: number, tau: number, eta: number): SamplerHandle;
  llama_sampler_init_dry(
    vocabulary: VocabularyHandle,
    multiplier: number,
    base: number,
    allowedLength: number,
    lastTokens: number,
    breakers: readonly string[],
    breakerCount: number,
  ): SamplerHandle;
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
