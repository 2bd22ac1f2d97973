import type { NativeMemory } from "./binding.ts";
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

/**
 * A context of llama.cpp behind checks: whatever `ffi.md` found to end the process (a batch too large, a row without
 * logits, a token or sequence out of range, a freed context) throws here instead.
 */
export class NativeContext {
  readonly model: NativeModel;
  readonly handle: ContextHandle;
  readonly sequences: number;
  readonly sequenceLength: number;
  readonly batchSize: number;
  readonly #memory: MemoryHandle | null;
  readonly #batch: NativeBatch;
  #outputs = new Set<number>();
  #computed = new Set<number>();
  #freed = false;

  /** Throws `ModelError` when the memory does not suffice. */
  constructor(model: NativeModel, params: ContextParams) {
    const { functions } = model.library;
    const handle = functions.llama_init_from_model(model.handle, params);
    if (handle === null) {
      throw new ModelError("memory", `llama.cpp could not create a context of ${params.n_ctx} tokens`);
    }
    this.model = model;
    this.handle = handle;
    this.sequences = params.n_seq_max;
    this.sequenceLength = functions.llama_n_ctx_seq(handle);
    this.batchSize = functions.llama_n_batch(handle);
    this.#memory = functions.llama_get_memory(handle);
    this.#batch = new NativeBatch(model, this.batchSize);
  }

  /** Blocks until the rows are computed. Throws on rows that llama.cpp would not survive and on an internal failure. */
  decode(rows: readonly Row[]): DecodeResult {
    if (this.#freed) throw new Error("decode on a context that was freed");
    if (rows.length === 0 || rows.length > this.batchSize) {
      throw new RangeError(`a batch of ${rows.length} rows; 1 … ${this.batchSize} are allowed`);
    }
    for (const row of rows) this.#check(row);
    this.#outputs.clear();
    this.#computed.clear();
    const code = this.model.library.functions.llama_decode(this.handle, this.#batch.fill(rows));
    if (code === 1) return "full";
    if (code === 2) return "aborted";
    if (code !== 0) throw new Error(`llama.cpp could not compute a batch of ${rows.length} tokens (code ${code})`);
    for (const [index, row] of rows.entries()) {
      if (row.output) this.#outputs.add(index);
      this.#computed.add(row.sequence);
    }
    return "done";
  }

  #check(row: Row): void {
    const valid =
      this.model.vocabulary.has(row.token) &&
      Number.isInteger(row.position) &&
      row.position >= 0 &&
      row.sequence >= 0 &&
      row.sequence < this.sequences;
    if (!valid) throw new RangeError(`row out of range: ${JSON.stringify(row)}`);
  }

  /** The index for sampling, if the row of the last decode has logits. Throws otherwise. */
  outputIndex(row: number): number {
    if (!this.#outputs.has(row)) throw new RangeError(`row ${row} of the last batch has no logits`);
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
    if (!this.#computed.has(sequence)) throw new RangeError(`sequence ${sequence} was not in the last batch`);
    const address = this.model.library.functions.llama_get_embeddings_seq(this.handle, sequence);
    if (address === null) throw new Error("the model gave no embedding");
    return Float32Array.from(this.model.library.floats(address, length));
  }

  /** Forgets a sequence from a position on; false when the memory cannot (then all of it is forgotten). */
  truncate(sequence: number, length: number): boolean {
    if (this.#memory === null) return false;
    const { functions } = this.model.library;
    if (functions.llama_memory_seq_rm(this.#memory, sequence, length, -1)) return true;
    functions.llama_memory_seq_rm(this.#memory, sequence, -1, -1);
    return false;
  }

  /** Tokens of a sequence that the memory holds. */
  lengthOf(sequence: number): number {
    return this.#memory === null
      ? 0
      : this.model.library.functions.llama_memory_seq_pos_max(this.#memory, sequence) + 1;
  }

  clear(): void {
    if (this.#memory !== null) this.model.library.functions.llama_memory_clear(this.#memory, true);
  }

  free(): void {
    if (this.#freed) return;
    this.#freed = true;
    this.model.library.functions.llama_free(this.handle);
  }
}

/** The arrays of a `llama_batch`, made once: llama.cpp reads them while JavaScript might move a buffer of its own. */
class NativeBatch {
  readonly #struct: BatchStruct;
  readonly #tokens: Int32Array;
  readonly #positions: Int32Array;
  readonly #sequences: Int32Array;
  readonly #outputs: Int8Array;

  constructor(model: NativeModel, capacity: number) {
    const memory = (bytes: number): NativeMemory => model.library.allocate(bytes);
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

  fill(rows: readonly Row[]): BatchStruct {
    for (const [index, row] of rows.entries()) {
      this.#tokens[index] = row.token;
      this.#positions[index] = row.position;
      this.#sequences[index] = row.sequence;
      this.#outputs[index] = row.output ? 1 : 0;
    }
    this.#struct.n_tokens = rows.length;
    return this.#struct;
  }
}
