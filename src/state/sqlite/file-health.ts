import type { Log } from "../../core/log.ts";
import type { StateHealth } from "../state.ts";

/** A state that is unwell is asked again this often, in milliseconds, whether it works. */
const probeInterval = 1000;

/** What it could not do: be read, be written, or take more than it has. */
type Missing = "read" | "write" | "room";

/** Whether a state file works, by what came of the last things that were asked of it. */
export class FileHealth {
  readonly #file: string;
  readonly #log: Log;
  #problem: string | undefined;
  #since = Date.now();
  #missing: Missing = "read";
  #probed = 0;

  constructor(file: string, log: Log) {
    this.#file = file;
    this.#log = log;
  }

  state(): StateHealth {
    const since = this.#since;
    return this.#problem === undefined ? { ok: true, since } : { ok: false, problem: this.#problem, since };
  }

  /** True at most once in a while, and only while there is a problem. */
  isProbeDue(): boolean {
    if (this.#problem === undefined || performance.now() - this.#probed < probeInterval) return false;
    this.#probed = performance.now();
    return true;
  }

  /** Something was read or written. */
  works(writes: boolean): void {
    // That it can be read does not prove that it can be written, and what is small may fit into a disk that is full.
    if (this.#problem === undefined || this.#missing === "room" || (this.#missing === "write" && !writes)) return;
    this.recovers();
  }

  /** Everything works. */
  recovers(): void {
    if (this.#problem === undefined) return;
    this.#problem = undefined;
    this.#missing = "read";
    this.#since = Date.now();
    this.#log.info({ file: this.#file }, `the state file ${this.#file} works again`);
  }

  fails(problem: string, missing: Missing): void {
    if (this.#problem === undefined) {
      this.#since = Date.now();
      this.#probed = performance.now();
      this.#log.error({ file: this.#file }, problem);
    }
    if (this.#missing !== "room") this.#missing = missing;
    this.#problem = problem;
  }
}
