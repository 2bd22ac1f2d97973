import type { Log } from "../../core/log.ts";
import type { StateHealth } from "../state.ts";

/** A state that is unwell is asked again this often, in milliseconds, whether it works. */
const probeInterval = 1000;

/** Whether a state file works, by what came of the last things that were asked of it. */
export class FileHealth {
  readonly #file: string;
  readonly #log: Log;
  #problem: string | undefined;
  #since = Date.now();
  #writeFailed = false;
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

  works(writes: boolean): void {
    // That it can be read proves nothing where it could not be written.
    if (this.#problem === undefined || (this.#writeFailed && !writes)) return;
    this.#problem = undefined;
    this.#writeFailed = false;
    this.#since = Date.now();
    this.#log.info({ file: this.#file }, `the state file ${this.#file} works again`);
  }

  fails(problem: string, writes: boolean): void {
    this.#writeFailed ||= writes;
    if (this.#problem === undefined) {
      this.#since = Date.now();
      this.#log.error({ file: this.#file }, problem);
    }
    this.#problem = problem;
  }
}
