import type { WorkReport } from "./pulse.ts";

/** When a process counts as wedged. All in ticks of the parent, so that neither its own stalls nor a suspended machine count. */
export interface WatchLimits {
  readonly tickMs: number;
  /** It says nothing from its start on. */
  readonly start: number;
  /** Its main thread, which renders prompts and reads outputs, says nothing any more. */
  readonly silent: number;
  /** A load brings nothing new: a slow disk, a GPU's shaders. */
  readonly load: number;
  /** A decode takes so long, and … */
  readonly decode: number;
  /** … so many times what its rows took before; … */
  readonly slowdown: number;
  /** … a row of the very first one may take so many milliseconds. */
  readonly firstRowMs: number;
  /** Anything else the worker does: tokens, grammars, states. */
  readonly other: number;
  /** As any of these, when nobody is left who waits for it. */
  readonly abandoned: number;
  /** After `stop`, without any progress. */
  readonly stop: number;
  /** After `stop`, whatever it does. */
  readonly stopInAll: number;
}

export const watchLimits: WatchLimits = {
  tickMs: 1000,
  start: 120,
  silent: 30,
  load: 600,
  decode: 120,
  slowdown: 30,
  firstRowMs: 5000,
  other: 120,
  abandoned: 60,
  stop: 10,
  stopInAll: 60,
};

/** What the parent knows at a tick. */
export interface Watched {
  readonly stopping: boolean;
  /** Whether a request waits for the process. */
  readonly wanted: boolean;
}

/** Which thread is stuck, and what it was at as far as is known. */
export interface Verdict {
  readonly thread: "main" | "worker";
  /** Follows "was ended because"; e.g. `its computation of 512 tokens did not end in 120 s`. */
  readonly reason: string;
}

/** Tells a process that is wedged from one that works long. Told what the child says and asked once a tick. */
export class Watchdog {
  readonly #limits: WatchLimits;
  #report: WorkReport | null = null;
  #started = false;
  #silent = 0;
  #still = 0;
  #stopping = 0;

  constructor(limits: WatchLimits = watchLimits) {
    this.#limits = limits;
  }

  /** Begins anew after a time in which nobody watched. */
  resume(): void {
    this.#silent = 0;
    this.#still = 0;
  }

  /** A message came: the main thread lives. Loads tell of their progress by messages, too. */
  heard(progress: boolean): void {
    this.#started = true;
    this.#silent = 0;
    if (progress) this.#still = 0;
  }

  reported(report: WorkReport): void {
    if (report.beats !== this.#report?.beats) this.#still = 0;
    this.#report = report;
  }

  /** Whether the worker is known to do nothing. */
  get resting(): boolean {
    return this.#report?.work === "rest";
  }

  tick({ stopping, wanted }: Watched): Verdict | null {
    const { tickMs, stop, stopInAll, abandoned } = this.#limits;
    const seconds = (ticks: number): string => `${Math.round((ticks * tickMs) / 1000)} s`;
    this.#silent += 1;
    this.#still += 1;
    if (stopping) {
      this.#stopping += 1;
      const over = this.#stopping > stopInAll || Math.min(this.#still, this.#stopping) > stop;
      return over ? { thread: "worker", reason: `it did not stop within ${seconds(this.#stopping - 1)}` } : null;
    }
    const silent = this.#started ? this.#limits.silent : this.#limits.start;
    if (this.#silent > silent) {
      return { thread: "main", reason: `it answered nothing for ${seconds(silent)}` };
    }
    const report = this.#report;
    if (report === null || report.work === "rest") return null;
    const limit = wanted ? this.#patience(report) : Math.min(abandoned, this.#patience(report));
    if (this.#still <= limit) return null;
    return { thread: "worker", reason: `${describe(report)} did not come on for ${seconds(this.#still - 1)}` };
  }

  /** Ticks that the work under way may take. */
  #patience(report: WorkReport): number {
    const { load, other, decode, slowdown, firstRowMs, tickMs } = this.#limits;
    if (report.work === "load") return load;
    if (report.work !== "decode") return other;
    const expectedMs = report.rows * (report.rowMs === 0 ? firstRowMs : report.rowMs * slowdown);
    return decode + expectedMs / tickMs;
  }
}

function describe(report: WorkReport): string {
  if (report.work === "load") return "loading the model";
  return report.work === "decode" ? `the computation of ${report.rows} tokens` : "its work between computations";
}
