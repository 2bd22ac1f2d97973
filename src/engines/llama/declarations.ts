/**
 * The part of llama.cpp's C API (`llama.h`, `ggml-backend.h`, `ggml-cpu.h`) that this runtime calls, as the releases in
 * `releases` declare it. `npm run llama:check` compares this file with the headers of a checkout of llama.cpp.
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
  llama_model_n_embd(model: ModelHandle): number;
  llama_model_n_layer(model: ModelHandle): number;
  llama_model_n_swa(model: ModelHandle): number;
  llama_model_is_recurrent(model: ModelHandle): boolean;
  llama_model_is_hybrid(model: ModelHandle): boolean;
  llama_model_has_encoder(model: ModelHandle): boolean;
  llama_model_size(model: ModelHandle): number | bigint;
  llama_model_n_params(model: ModelHandle): number | bigint;
  llama_n_ubatch(context: ContextHandle): number;
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

export type Library = "llama" | "ggml" | "base";

/** C prototypes as the headers of llama.cpp v0.4.0 and v0.5.0 have them, handles written as `void *`. */
export const prototypes: Record<keyof LlamaFunctions, readonly [Library, string]> = {
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
  llama_model_n_embd: ["llama", "int32_t llama_model_n_embd(void *model)"],
  llama_model_n_layer: ["llama", "int32_t llama_model_n_layer(void *model)"],
  llama_model_n_swa: ["llama", "int32_t llama_model_n_swa(void *model)"],
  llama_model_is_recurrent: ["llama", "bool llama_model_is_recurrent(void *model)"],
  llama_model_is_hybrid: ["llama", "bool llama_model_is_hybrid(void *model)"],
  llama_model_has_encoder: ["llama", "bool llama_model_has_encoder(void *model)"],
  llama_model_size: ["llama", "uint64_t llama_model_size(void *model)"],
  llama_model_n_params: ["llama", "uint64_t llama_model_n_params(void *model)"],
  llama_n_ubatch: ["llama", "uint32_t llama_n_ubatch(void *ctx)"],
  llama_pooling_type: ["llama", "int llama_pooling_type(void *ctx)"],
  llama_detach_threadpool: ["llama", "void llama_detach_threadpool(void *ctx)"],
  llama_encode: ["llama", "int32_t llama_encode(void *ctx, llama_batch batch)"],
  llama_get_embeddings_ith: ["llama", "void *llama_get_embeddings_ith(void *ctx, int32_t i)"],
  llama_memory_seq_cp: [
    "llama",
    "void llama_memory_seq_cp(void *mem, int32_t seq_id_src, int32_t seq_id_dst, int32_t p0, int32_t p1)",
  ],
  llama_memory_seq_pos_min: ["llama", "int32_t llama_memory_seq_pos_min(void *mem, int32_t seq_id)"],
  llama_state_seq_get_size_ext: [
    "llama",
    "size_t llama_state_seq_get_size_ext(void *ctx, int32_t seq_id, uint32_t flags)",
  ],
  llama_state_seq_get_data_ext: [
    "llama",
    "size_t llama_state_seq_get_data_ext(void *ctx, uint8_t *dst, size_t size, int32_t seq_id, uint32_t flags)",
  ],
  llama_state_seq_set_data_ext: [
    "llama",
    "size_t llama_state_seq_set_data_ext(void *ctx, uint8_t *src, size_t size, int32_t dest_seq_id, uint32_t flags)",
  ],
  llama_vocab_type: ["llama", "int llama_vocab_type(void *vocab)"],
  llama_vocab_get_attr: ["llama", "int llama_vocab_get_attr(void *vocab, int32_t token)"],
  llama_vocab_eot: ["llama", "int32_t llama_vocab_eot(void *vocab)"],
  llama_vocab_fim_pre: ["llama", "int32_t llama_vocab_fim_pre(void *vocab)"],
  llama_vocab_fim_suf: ["llama", "int32_t llama_vocab_fim_suf(void *vocab)"],
  llama_vocab_fim_mid: ["llama", "int32_t llama_vocab_fim_mid(void *vocab)"],
  llama_vocab_fim_pad: ["llama", "int32_t llama_vocab_fim_pad(void *vocab)"],
  llama_vocab_fim_rep: ["llama", "int32_t llama_vocab_fim_rep(void *vocab)"],
  llama_vocab_fim_sep: ["llama", "int32_t llama_vocab_fim_sep(void *vocab)"],
  llama_sampler_clone: ["llama", "void *llama_sampler_clone(void *smpl)"],
  llama_sampler_reset: ["llama", "void llama_sampler_reset(void *smpl)"],
  llama_sampler_init_typical: ["llama", "void *llama_sampler_init_typical(float p, size_t min_keep)"],
  llama_sampler_init_temp_ext: ["llama", "void *llama_sampler_init_temp_ext(float t, float delta, float exponent)"],
  llama_sampler_init_xtc: ["llama", "void *llama_sampler_init_xtc(float p, float t, size_t min_keep, uint32_t seed)"],
  llama_sampler_init_top_n_sigma: ["llama", "void *llama_sampler_init_top_n_sigma(float n)"],
  llama_sampler_init_mirostat: [
    "llama",
    "void *llama_sampler_init_mirostat(int32_t n_vocab, uint32_t seed, float tau, float eta, int32_t m)",
  ],
  llama_sampler_init_mirostat_v2: [
    "llama",
    "void *llama_sampler_init_mirostat_v2(uint32_t seed, float tau, float eta)",
  ],
  llama_sampler_init_dry: [
    "llama",
    "void *llama_sampler_init_dry(void *vocab, float dry_multiplier, float dry_base, int32_t dry_allowed_length, int32_t dry_penalty_last_n, const char **seq_breakers, size_t num_breakers)",
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

export const modelParamsLayout: Record<keyof ModelParams, string> = {
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

export const contextParamsLayout: Record<keyof ContextParams, string> = {
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

export const batchLayout: Record<keyof BatchStruct, string> = {
  n_tokens: "int32_t",
  token: "void *",
  embd: "void *",
  pos: "void *",
  n_seq_id: "void *",
  seq_id: "void *",
  logits: "void *",
};

/** Sizes that gcc gives these structs from the headers on a 64-bit machine. */
export const structSizes = { llama_model_params: 80, llama_context_params: 160, llama_batch: 56 } as const;

/** Defaults that the library must report if the layouts above fit it; from llama-model.cpp and llama-context.cpp. */
export const defaultModelParams: ModelParams = {
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

export const defaultContextParams: ContextParams = {
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
export const releases: readonly (readonly [version: string, commit: string])[] = [
  ["0.4.0-dev", "5b4ebc5"],
  ["0.5.0-dev", "0ad4a86"],
  // What a checkout of the tag v0.5.0 builds; the packages of node-llama-cpp report the one above.
  ["0.5.0-dev", "de3ff81"],
];
