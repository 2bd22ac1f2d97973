import type { LlamaLibrary } from "./binding.ts";
import type { ContextParams, ModelHandle, VocabularyHandle } from "./declarations.ts";
import type { WorkerSettings } from "../settings.ts";

/** Why a model could not be opened. */
export class ModelError extends Error {
  readonly reason: "file" | "memory";

  constructor(reason: "file" | "memory", message: string) {
    super(message);
    this.reason = reason;
  }
}

/** A model in memory. Every method is safe to call with any argument, and throws when the model was freed. */
export class NativeModel {
  readonly library: LlamaLibrary;
  readonly vocabulary: Vocabulary;
  /** Contexts that are not freed yet; theirs to count. */
  contexts = 0;
  #handle: ModelHandle | null;

  private constructor(library: LlamaLibrary, handle: ModelHandle) {
    this.library = library;
    this.#handle = handle;
    this.vocabulary = new Vocabulary(library, library.functions.llama_model_get_vocab(handle));
  }

  /** Blocks for as long as the load takes; `onProgress` gets 0 … 1. Throws `ModelError`. */
  static load(library: LlamaLibrary, settings: WorkerSettings, onProgress: (fraction: number) => void): NativeModel {
    const { functions } = library;
    const callback = library.onProgress((fraction) => {
      onProgress(fraction);
      return true;
    });
    const params = functions.llama_model_default_params();
    params.n_gpu_layers = settings.gpuLayers === "all" || settings.gpuLayers === null ? -1 : settings.gpuLayers;
    params.split_mode = { none: 0, layer: 1, row: 2 }[settings.splitMode];
    params.main_gpu = settings.mainGpu;
    // An empty list: llama.cpp takes every GPU there is where it gets none, and would use it for large products.
    if (settings.backend.gpu === "off") params.devices = library.allocate(8).address;
    params.progress_callback = callback.address;
    try {
      const handle = functions.llama_model_load_from_file(settings.path, params);
      if (handle === null) throw new ModelError("file", "llama.cpp could not load the file");
      return new NativeModel(library, handle);
    } finally {
      callback.release();
    }
  }

  get handle(): ModelHandle {
    if (this.#handle === null) throw new Error("a call on a model that was freed");
    return this.#handle;
  }

  get trainedContext(): number {
    return this.library.functions.llama_model_n_ctx_train(this.handle);
  }

  get embeddingLength(): number {
    return this.library.functions.llama_model_n_embd_out(this.handle);
  }

  get classCount(): number {
    return this.library.functions.llama_model_n_cls_out(this.handle);
  }

  get architecture(): string | null {
    return this.#metadata("general.architecture");
  }

  /** The GGUF's `<architecture>.pooling_type`, or null. */
  get poolingType(): number | null {
    const { architecture } = this;
    const pooling = architecture === null ? null : this.#metadata(`${architecture}.pooling_type`);
    return pooling === null ? null : Number(pooling);
  }

  #metadata(key: string): string | null {
    const buffer = Buffer.alloc(256);
    const length = this.library.functions.llama_model_meta_val_str(this.handle, key, buffer, buffer.length);
    return length < 0 || length >= buffer.length ? null : buffer.toString("utf8", 0, length);
  }

  /** Encoders (BERT) make vectors, never text. */
  get generates(): boolean {
    return this.library.functions.llama_model_has_decoder(this.handle);
  }

  /** The model's own template; some bring others by name, e.g. `tool_use`. */
  chatTemplate(name: string | null = null): string | null {
    return this.library.functions.llama_model_chat_template(this.handle, name);
  }

  /** How a pair of query and document is put to a model that ranks, with `{query}` and `{document}` in it; null: side by side. */
  get rerankTemplate(): string | null {
    return this.library.functions.llama_model_chat_template(this.handle, "rerank");
  }

  get description(): string {
    const buffer = Buffer.alloc(256);
    const length = this.library.functions.llama_model_desc(this.handle, buffer, buffer.length);
    return buffer.toString("utf8", 0, Math.max(0, Math.min(length, buffer.length - 1)));
  }

  /** Throws while a context of it is in use: llama.cpp would go on with memory that is gone. */
  free(): void {
    if (this.#handle === null) return;
    if (this.contexts > 0) throw new Error(`the model has ${this.contexts} contexts that are not freed`);
    this.library.functions.llama_model_free(this.#handle);
    this.#handle = null;
    this.vocabulary.close();
  }
}

/** Context parameters that all contexts of these settings share. */
export function contextParams(library: LlamaLibrary, settings: WorkerSettings): ContextParams {
  const params = library.functions.llama_context_default_params();
  params.n_threads = settings.threads;
  params.n_threads_batch = settings.threadsBatch;
  params.flash_attn_type = { auto: -1, off: 0, on: 1 }[settings.flashAttention];
  params.offload_kqv = settings.offloadKqv;
  return params;
}

/** Text ⇄ tokens of one model. */
export class Vocabulary {
  #handle: VocabularyHandle | null;
  readonly size: number;
  readonly addsBos: boolean;
  readonly #library: LlamaLibrary;
  readonly #pieces = new Map<number, Buffer>();
  #endTokens: readonly number[] | undefined;

  constructor(library: LlamaLibrary, handle: VocabularyHandle) {
    this.#library = library;
    this.#handle = handle;
    this.size = library.functions.llama_vocab_n_tokens(handle);
    this.addsBos = library.functions.llama_vocab_get_add_bos(handle);
  }

  get handle(): VocabularyHandle {
    if (this.#handle === null) throw new Error("a call on the vocabulary of a model that was freed");
    return this.#handle;
  }

  /** It is gone with its model. */
  close(): void {
    this.#handle = null;
  }

  has(token: number): boolean {
    return Number.isInteger(token) && token >= 0 && token < this.size;
  }

  /** The begin-of-sequence token, or −1. */
  get bos(): number {
    return this.#library.functions.llama_vocab_bos(this.handle);
  }

  get eos(): number {
    return this.#library.functions.llama_vocab_eos(this.handle);
  }

  /** Tokens that mark the parts of a prompt with a gap; −1 for those that the model lacks. llama.cpp knows their spellings. */
  get gapMarks(): Readonly<Record<"prefix" | "suffix" | "middle" | "repository" | "file", number>> {
    const { functions } = this.#library;
    return {
      prefix: functions.llama_vocab_fim_pre(this.handle),
      suffix: functions.llama_vocab_fim_suf(this.handle),
      middle: functions.llama_vocab_fim_mid(this.handle),
      repository: functions.llama_vocab_fim_rep(this.handle),
      file: functions.llama_vocab_fim_sep(this.handle),
    };
  }

  /** Whether texts are ended by, and pairs of texts parted by, tokens of their own. */
  get marks(): { readonly end: boolean; readonly separator: boolean } {
    const { functions } = this.#library;
    return {
      end: functions.llama_vocab_get_add_eos(this.handle),
      separator: functions.llama_vocab_get_add_sep(this.handle),
    };
  }

  get separator(): number {
    return this.#library.functions.llama_vocab_sep(this.handle);
  }

  /** A control token's own text, e.g. `<s>`; "" for none. */
  textOf(token: number): string {
    return this.has(token) ? this.piece(token).toString("utf8") : "";
  }

  endsGeneration(token: number): boolean {
    return this.has(token) && this.#library.functions.llama_vocab_is_eog(this.handle, token);
  }

  /** All tokens that end a generation. The first call asks for each token of the vocabulary. */
  get endTokens(): readonly number[] {
    this.#endTokens ??= Array.from({ length: this.size }, (_, token) => token).filter((id) => this.endsGeneration(id));
    return this.#endTokens;
  }

  isControl(token: number): boolean {
    return this.has(token) && this.#library.functions.llama_vocab_is_control(this.handle, token);
  }

  /** The names of all tokens that a text is made of only on purpose. */
  controlTexts(): string[] {
    // llama.h: enum llama_token_attr, UNKNOWN and CONTROL.
    const special = 1 | 8;
    const texts: string[] = [];
    for (let token = 0; token < this.size; token += 1) {
      if ((this.#library.functions.llama_vocab_get_attr(this.handle, token) & special) !== 0)
        texts.push(this.textOf(token));
    }
    return texts;
  }

  /** Texts one behind the other, each tokenised by itself, behind the begin token that the model wants. */
  tokenizePieces(pieces: readonly string[]): number[] {
    const begin = this.addsBos && this.bos >= 0 ? [this.bos] : [];
    return [
      ...begin,
      ...pieces.flatMap((piece, index) => (index === 0 ? this.#plain(piece) : this.#tokenizeRest(piece))),
    ];
  }

  #plain(text: string): number[] {
    return this.tokenize(text, { addSpecial: false, parseSpecial: true });
  }

  /** SentencePiece opens every text with a blank, which is none of a text that goes on. */
  #tokenizeRest(text: string): number[] {
    const tokens = this.#plain(text);
    const [first = -1] = tokens;
    if (text.startsWith(" ") || !this.textOf(first).startsWith(" ")) return tokens;
    const [lead, all] = [this.#plain("\n"), this.#plain(`\n${text}`)];
    return lead.every((token, index) => all[index] === token) ? all.slice(lead.length) : tokens;
  }

  /** `addSpecial`: with the begin (and end) tokens that the model wants. `parseSpecial`: control tokens written out count. */
  tokenize(text: string, options: { addSpecial: boolean; parseSpecial: boolean }): number[] {
    const bytes = Buffer.from(text);
    const attempt = (capacity: number): { count: number; tokens: Int32Array } => {
      const tokens = new Int32Array(capacity);
      const count = this.#library.functions.llama_tokenize(
        this.handle,
        bytes,
        bytes.length,
        tokens,
        capacity,
        options.addSpecial,
        options.parseSpecial,
      );
      return { count, tokens };
    };
    // A token is at least a byte; a negative count tells the room that is needed.
    let { count, tokens } = attempt(bytes.length + 8);
    if (count < 0) ({ count, tokens } = attempt(-count));
    return Array.from(tokens.subarray(0, Math.max(0, count)));
  }

  /** The bytes of one token, control tokens by their name; may be a part of a character. */
  piece(token: number): Buffer {
    const known = this.#pieces.get(token);
    if (known !== undefined) return known;
    const piece = this.#readPiece(token, 64);
    this.#pieces.set(token, piece);
    return piece;
  }

  #readPiece(token: number, room: number): Buffer {
    if (!this.has(token)) return Buffer.alloc(0);
    const buffer = Buffer.alloc(room);
    const length = this.#library.functions.llama_token_to_piece(this.handle, token, buffer, room, 0, true);
    return length < 0 ? this.#readPiece(token, -length) : Buffer.from(buffer.subarray(0, length));
  }

  /** Tokens as text; ids that the vocabulary does not have are left out. */
  detokenize(tokens: number[]): string {
    const known = Int32Array.from(tokens.filter((token) => this.has(token)));
    const attempt = (room: number): { length: number; buffer: Buffer } => {
      const buffer = Buffer.alloc(room);
      const { functions } = this.#library;
      const length = functions.llama_detokenize(this.handle, known, known.length, buffer, room, false, true);
      return { length, buffer };
    };
    let { length, buffer } = attempt(known.length * 8 + 16);
    if (length < 0) ({ length, buffer } = attempt(-length));
    return buffer.toString("utf8", 0, Math.max(0, length));
  }
}
