import type { LlamaLibrary, NativeMemory } from "./binding.ts";
import type { BatchStruct, ContextHandle, ContextParams, MemoryHandle } from "./declarations.ts";
import { ModelError, type NativeModel } from "./native-model.ts";

/** How a decode ended: `aborted` keeps what whole passes had done, `full` means that the cache has no room and changed nothing. */
export type DecodeResult = "done" | "aborted" | "full";

/** A token to be computed. */
export interface Row {
  readonly token: number;
  readonly position: number;
  readonly sequence: number;
  /** Whether the row's logits are wanted. */
  readonly output: boolean;
}

/** llama.h: `LLAMA_STATE_SEQ_FLAGS_PARTIAL_ONLY`, the part of a state that cannot be cut: sliding windows, recurrent memory. */
const partialOnly = 1;

/** How much of a sequence's state is meant: all of it, or only the part that cannot be cut. */
export type StatePart = "whole" | "uncuttable";

/** `GGML_MAX_N_THREADS` */
const mostThreads = 512;

/**
 * A context of llama.cpp behind checks: whatever `ffi.md` found to end the process (a batch too large, a row without
 * logits, a token or sequence out of range, a copy of a part of a sequence, a freed context) throws here instead.
 */
export class NativeContext {
  readonly model: NativeModel;
  readonly handle: ContextHandle;
  readonly sequences: number;
  readonly sequenceLength: number;
  readonly batchSize: number;
  /** Most rows of one batch whose logits may be wanted. */
  readonly outputLimit: number;
  readonly #memory: MemoryHandle | null;
  readonly #batch: NativeBatch;
  /** Tokens that an attention window looks back on; 0: the memory keeps all. */
  readonly #window: number;
  readonly #recurrent: boolean;
  /** Sequences that llama.cpp copies at the start of the next decode: until then their bytes are not what they say. */
  readonly #copying = new Set<number>();
  #freed = false;
  #threads = { single: 0, batch: 0 };

  /** Throws `ModelError` when the memory does not suffice. */
  constructor(model: NativeModel, params: ContextParams) {
    const { functions } = model.library;
    const handle = functions.llama_init_from_model(model.handle, params);
    if (handle === null) {
      throw new ModelError("memory", `llama.cpp could not create a context of ${params.n_ctx} tokens`);
    }
    model.contexts += 1;
    this.model = model;
    this.handle = handle;
    this.sequences = params.n_seq_max;
    this.sequenceLength = functions.llama_n_ctx_seq(handle);
    this.batchSize = functions.llama_n_batch(handle);
    this.outputLimit = params.n_outputs_max === 0 ? this.batchSize : params.n_outputs_max;
    this.#memory = functions.llama_get_memory(handle);
    this.#batch = new NativeBatch(model, this.batchSize);
    this.#window = params.swa_full ? 0 : functions.llama_model_n_swa(model.handle);
    this.#recurrent = functions.llama_model_is_recurrent(model.handle) || functions.llama_model_is_hybrid(model.handle);
  }

  /** Whether a sequence can be cut anywhere. Otherwise only checkpoints lead back. */
  get rewindsFreely(): boolean {
    return !this.#recurrent && this.#window === 0;
  }

  /** Rows put into the next batch so far. */
  get rows(): number {
    return this.#batch.length;
  }

  /** Puts a token into the next batch and returns its row. Throws on what llama.cpp would not survive. */
  addRow(token: number, position: number, sequence: number, output: boolean): number {
    if (this.#freed) throw new Error("a row for a context that was freed");
    const valid =
      this.model.vocabulary.has(token) &&
      Number.isInteger(position) &&
      position >= 0 &&
      // An int32 in llama.cpp.
      position < 2 ** 31 &&
      Number.isInteger(sequence) &&
      sequence >= 0 &&
      sequence < this.sequences;
    if (!valid) throw new RangeError(`row out of range: ${JSON.stringify({ token, position, sequence })}`);
    if (this.#batch.length >= this.batchSize) throw new RangeError(`a batch of more than ${this.batchSize} rows`);
    if (output && this.#batch.outputs >= this.outputLimit) {
      throw new RangeError(`logits of more than ${this.outputLimit} rows`);
    }
    return this.#batch.add(token, position, sequence, output);
  }

  /**
   * Computes the rows that were added, or those given here. Blocks as long as that takes.
   * Throws on rows that llama.cpp would not survive and on an internal failure.
   */
  decode(rows: readonly Row[] = []): DecodeResult {
    if (this.#freed) throw new Error("decode on a context that was freed");
    try {
      for (const row of rows) this.addRow(row.token, row.position, row.sequence, row.output);
    } catch (error) {
      // The rows before it must not come with the next batch.
      this.#batch.close();
      this.#batch.fail();
      throw error;
    }
    const count = this.#batch.length;
    if (count === 0) throw new RangeError("a batch without rows");
    this.#copying.clear();
    const code = this.model.library.functions.llama_decode(this.handle, this.#batch.close());
    if (code === 0) return "done";
    this.#batch.fail();
    if (code === 1) return "full";
    if (code === 2) return "aborted";
    throw new Error(`llama.cpp could not compute a batch of ${count} tokens (code ${code})`);
  }

  /** Threads of the next steps: for one row, and for more. At most those of the pool. */
  setThreads(single: number, batch: number): void {
    if (this.#freed) throw new Error("threads of a context that was freed");
    const { functions } = this.model.library;
    if (!(single >= 1 && single <= mostThreads && batch >= 1 && batch <= mostThreads))
      throw new RangeError(`${single} and ${batch} threads; 1 … ${mostThreads} are possible`);
    if (single === this.#threads.single && batch === this.#threads.batch) return;
    this.#threads = { single, batch };
    functions.llama_set_n_threads(this.handle, single, batch);
  }

  /** The index for sampling, if the row of the last decode has logits. Throws otherwise. */
  outputIndex(row: number): number {
    if (this.#freed) throw new Error("logits of a context that was freed");
    if (!this.#batch.hasOutput(row)) throw new RangeError(`row ${row} of the last batch has no logits`);
    return row;
  }

  /** Logits of a row of the last decode, in place: valid until the next one. */
  logits(row: number): Float32Array {
    const address = this.model.library.functions.llama_get_logits_ith(this.handle, this.outputIndex(row));
    if (address === null) throw new RangeError(`row ${row} of the last batch has no logits`);
    return this.model.library.floats(address, this.model.vocabulary.size);
  }

  /** The pooled vector of a sequence of the last decode, copied. */
  embedding(sequence: number, length: number): Float32Array {
    if (this.#freed) throw new Error("a vector of a context that was freed");
    const longest = Math.max(this.model.embeddingLength, this.model.classCount);
    if (length > longest) throw new RangeError(`a vector of ${length} numbers; the model gives ${longest}`);
    if (!this.#batch.hasSequence(sequence)) throw new RangeError(`sequence ${sequence} was not in the last batch`);
    const address = this.model.library.functions.llama_get_embeddings_seq(this.handle, sequence);
    if (address === null) throw new Error("the model gave no embedding");
    return Float32Array.from(this.model.library.floats(address, length));
  }

  /** Whether the sequence can be cut to this length and go on from there as if it had never been longer. */
  canTruncate(sequence: number, length: number): boolean {
    if (length === 0 || length === this.lengthOf(sequence)) return true;
    if (this.#memory === null || this.#recurrent) return false;
    if (this.#window === 0) return true;
    // The tokens that the window looks back on from there may have been overwritten by later ones.
    const first = this.model.library.functions.llama_memory_seq_pos_min(this.#memory, sequence);
    return first >= 0 && first <= Math.max(0, length - this.#window);
  }

  /** Forgets a sequence from a position on; false when the memory cannot (then all of it is forgotten). */
  truncate(sequence: number, length: number): boolean {
    if (this.#memory === null) return false;
    const { functions } = this.model.library;
    const possible = this.canTruncate(sequence, length);
    if (possible && functions.llama_memory_seq_rm(this.#memory, this.#checked(sequence), length, -1)) return true;
    functions.llama_memory_seq_rm(this.#memory, this.#checked(sequence), -1, -1);
    return false;
  }

  /**
   * Makes `target` hold what `source` holds, and nothing else. Always the whole of it: with a cache for each sequence
   * llama.cpp aborts on a part (`llama-kv-cache.cpp`), so what is too much is cut off afterwards.
   */
  copy(source: number, target: number): void {
    if (this.#memory === null) throw new Error("a copy without a memory");
    if (this.#checked(source) === this.#checked(target)) throw new RangeError(`copy of sequence ${source} onto itself`);
    this.model.library.functions.llama_memory_seq_cp(this.#memory, source, target, -1, -1);
    this.#copying.add(source).add(target);
  }

  /** Bytes of a sequence's state. */
  stateBytes(sequence: number, part: StatePart = "whole"): number {
    const flags = part === "whole" ? 0 : partialOnly;
    return Number(
      this.model.library.functions.llama_state_seq_get_size_ext(this.handle, this.#checked(sequence), flags),
    );
  }

  /** A sequence's state, copied; null when it cannot be had now. Blocks: 40 ms for 50 MB. */
  readState(sequence: number, part: StatePart = "whole"): Buffer | null {
    if (this.#copying.has(this.#checked(sequence))) return null;
    const size = this.stateBytes(sequence, part);
    if (size <= 0) return null;
    const state = Buffer.allocUnsafeSlow(size);
    const { functions } = this.model.library;
    const flags = part === "whole" ? 0 : partialOnly;
    const written = Number(functions.llama_state_seq_get_data_ext(this.handle, state, size, sequence, flags));
    return written === size ? state : null;
  }

  /**
   * Puts a state back that `readState` gave, of this or another sequence; false when llama.cpp does not take it, and
   * then the sequence holds nothing. The bytes must be known to be whole: llama.cpp trusts them.
   */
  writeState(sequence: number, state: Uint8Array, part: StatePart = "whole"): boolean {
    if (this.#copying.has(this.#checked(sequence))) return false;
    const { functions } = this.model.library;
    const flags = part === "whole" ? 0 : partialOnly;
    const read = functions.llama_state_seq_set_data_ext(this.handle, state, state.length, sequence, flags);
    if (state.length > 0 && Number(read) === state.length) return true;
    this.forget(sequence);
    return false;
  }

  forget(sequence: number): void {
    if (this.#memory === null) return;
    this.model.library.functions.llama_memory_seq_rm(this.#memory, this.#checked(sequence), -1, -1);
  }

  /** Tokens of a sequence that the memory holds. */
  lengthOf(sequence: number): number {
    return this.#memory === null
      ? 0
      : this.model.library.functions.llama_memory_seq_pos_max(this.#memory, this.#checked(sequence)) + 1;
  }

  #checked(sequence: number): number {
    if (this.#freed) throw new Error("a call on a context that was freed");
    const valid = Number.isInteger(sequence) && sequence >= 0 && sequence < this.sequences;
    if (!valid) throw new RangeError(`sequence ${sequence}; 0 … ${this.sequences - 1} are there`);
    return sequence;
  }

  clear(): void {
    if (this.#freed) throw new Error("a call on a context that was freed");
    if (this.#memory !== null) this.model.library.functions.llama_memory_clear(this.#memory, true);
  }

  /** Whether decodes give vectors; without, and with no outputs asked for, they only fill the memory. */
  setEmbeddings(on: boolean): void {
    if (this.#freed) throw new Error("a call on a context that was freed");
    this.model.library.functions.llama_set_embeddings(this.handle, on);
  }

  free(): void {
    if (this.#freed) return;
    this.#freed = true;
    this.model.library.functions.llama_free(this.handle);
    this.model.contexts -= 1;
    this.#batch.free();
  }
}

/** The arrays of a `llama_batch`, made once: llama.cpp reads them while JavaScript might move a buffer of its own. */
class NativeBatch {
  readonly #library: LlamaLibrary;
  readonly #memories: NativeMemory[] = [];
  readonly #struct: BatchStruct;
  readonly #tokens: Int32Array;
  readonly #positions: Int32Array;
  readonly #sequences: Int32Array;
  readonly #outputs: Int8Array;
  #length = 0;
  #outputCount = 0;
  #computed = 0;

  constructor(model: NativeModel, capacity: number) {
    this.#library = model.library;
    const memory = (bytes: number): NativeMemory => {
      const allocated = model.library.allocate(bytes);
      this.#memories.push(allocated);
      return allocated;
    };
    const tokens = memory(capacity * 4);
    const positions = memory(capacity * 4);
    const counts = memory(capacity * 4);
    const sequences = memory(capacity * 4);
    const pointers = memory(capacity * 8);
    const outputs = memory(capacity);
    this.#tokens = new Int32Array(tokens.buffer);
    this.#positions = new Int32Array(positions.buffer);
    this.#sequences = new Int32Array(sequences.buffer);
    this.#outputs = new Int8Array(outputs.buffer);
    // Every row belongs to one sequence: n_seq_id is 1, and seq_id points at the row's own number.
    new Int32Array(counts.buffer).fill(1);
    const addresses = new BigUint64Array(pointers.buffer);
    for (let row = 0; row < capacity; row++) addresses[row] = sequences.address + BigInt(row * 4);
    this.#struct = {
      n_tokens: 0,
      token: tokens.address,
      embd: null,
      pos: positions.address,
      n_seq_id: counts.address,
      seq_id: pointers.address,
      logits: outputs.address,
    };
  }

  free(): void {
    for (const memory of this.#memories.splice(0)) this.#library.free(memory);
  }

  /** Rows of the batch that is being made. */
  get length(): number {
    return this.#length;
  }

  /** Rows of it whose logits are wanted. */
  get outputs(): number {
    return this.#outputCount;
  }

  add(token: number, position: number, sequence: number, output: boolean): number {
    const row = this.#length++;
    this.#tokens[row] = token;
    this.#positions[row] = position;
    this.#sequences[row] = sequence;
    this.#outputs[row] = output ? 1 : 0;
    if (output) this.#outputCount += 1;
    return row;
  }

  /** Ends the batch; the rows added from now on are the next one's. */
  close(): BatchStruct {
    this.#struct.n_tokens = this.#computed = this.#length;
    this.#length = 0;
    this.#outputCount = 0;
    return this.#struct;
  }

  /** The batch that was closed gave nothing. */
  fail(): void {
    this.#computed = 0;
  }

  /** Of the batch that was closed, as long as no row of the next one was added. */
  hasOutput(row: number): boolean {
    return this.#length === 0 && row >= 0 && row < this.#computed && this.#outputs[row] === 1;
  }

  hasSequence(sequence: number): boolean {
    return this.#length === 0 && this.#sequences.subarray(0, this.#computed).includes(sequence);
  }
}
