import type { LlamaLibrary } from "../native/binding.ts";
import type { BatchStruct, LlamaFunctions } from "../native/declarations.ts";

/** What the worker thread is at: `decode` may take as long as its rows explain, `load` until the file is read. */
export type Work = "rest" | "load" | "decode" | "other";

/** What the worker thread was at when it was looked at. */
export interface WorkReport {
  readonly work: Work;
  /** Changes with everything that is begun or ended. */
  readonly beats: number;
  /** Tokens of the decode under way. */
  readonly rows: number;
  /** The slowest that a token was computed lately, in milliseconds; 0: none was yet. */
  readonly rowMs: number;
}

const works: readonly Work[] = ["rest", "load", "decode", "other"];
const at = { beats: 0, work: 1, rows: 2, rowMicroseconds: 3 } as const;

/**
 * What the worker thread is at, in memory that it shares with its main thread: a thread in a native call answers no
 * message, but what it wrote down before can be read.
 */
export class Pulse {
  readonly #cells: Int32Array<SharedArrayBuffer>;

  constructor(memory: SharedArrayBuffer) {
    this.#cells = new Int32Array(memory);
  }

  static allocate(): SharedArrayBuffer {
    return new SharedArrayBuffer(4 * Object.keys(at).length);
  }

  begin(work: Work, rows = 0): void {
    Atomics.store(this.#cells, at.rows, rows);
    Atomics.store(this.#cells, at.work, works.indexOf(work));
    this.beat();
  }

  /** Says that the work under way has come on. */
  beat(): void {
    Atomics.add(this.#cells, at.beats, 1);
  }

  read(): WorkReport {
    const cell = (index: number): number => Atomics.load(this.#cells, index);
    return {
      work: works[cell(at.work)] ?? "other",
      beats: cell(at.beats),
      rows: cell(at.rows),
      rowMs: cell(at.rowMicroseconds) / 1000,
    };
  }

  /** The decode of `rows` tokens took so long. The slowest counts, and fades. */
  decoded(rows: number, ms: number): void {
    const now = Math.min(0x7fffffff, Math.round((ms / Math.max(1, rows)) * 1000));
    const before = Atomics.load(this.#cells, at.rowMicroseconds);
    Atomics.store(this.#cells, at.rowMicroseconds, Math.max(now, Math.floor(before * 0.95)));
    this.begin("other");
  }
}

/** The library with every call that may take long written down in `pulse`. */
export function withPulse(library: LlamaLibrary, pulse: Pulse): LlamaLibrary {
  const native = library.functions;
  const compute = (batch: BatchStruct, call: () => number): number => {
    const started = performance.now();
    pulse.begin("decode", batch.n_tokens);
    const code = call();
    pulse.decoded(batch.n_tokens, performance.now() - started);
    return code;
  };
  const load = <Result>(call: () => Result): Result => {
    pulse.begin("load");
    const result = call();
    pulse.begin("other");
    return result;
  };
  const functions: LlamaFunctions = {
    ...native,
    llama_decode: (context, batch) => compute(batch, () => native.llama_decode(context, batch)),
    llama_encode: (context, batch) => compute(batch, () => native.llama_encode(context, batch)),
    llama_model_load_from_file: (path, params) => load(() => native.llama_model_load_from_file(path, params)),
    llama_init_from_model: (model, params) => load(() => native.llama_init_from_model(model, params)),
  };
  return { ...library, functions };
}
