import { afterPoll } from "../core/after-poll.ts";
import type { Log } from "../core/log.ts";
import type { State, UsageRecord } from "../state/state.ts";
import { Backlog } from "./backlog.ts";
import { Segment } from "./segment.ts";
import { forgetWriter, newWriter, segmentPath } from "./writers.ts";

export interface JournalSettings {
  readonly state: Pick<State, "usage" | "health">;
  readonly log: Log;
  /** Bytes of files that may wait for the state; 1 GB where absent. */
  readonly mostBytes?: number;
  /** Records that may wait in memory where no file takes them; 50,000 where absent. */
  readonly mostHeld?: number;
}

export interface JournalHealth {
  /** Whether records go into a file, and from there into the state. */
  readonly ok: boolean;
  /** What is wrong. */
  readonly problem?: string;
  /** Records that wait to be carried. */
  readonly backlog: number;
  /** Records that reached neither the state nor a file that is kept, since this process runs. */
  readonly lost: number;
}

/** Milliseconds between two looks at what there is to carry. */
const tick = 1000;
/** Looks between two at what other writers have left. */
const ticksBetweenSearches = 60;
/** A segment is begun anew when it has so many records or bytes … */
const fullCount = 1000;
const fullBytes = 4 * 1024 * 1024;
/** … or this many milliseconds after its first, even with nobody to carry it to. */
const longestOpen = 30_000;
/** Milliseconds that closing waits for the state. */
const farewell = 5000;

/**
 * Usage records on their way into the state. A record is in the kernel's hands when `append` returns (or at the
 * end of its turn, `appendInTurn`), so it outlives the process; from there it is carried into the state in batches,
 * each exactly once. Files that a process has left behind are carried by the next that opens the folder.
 */
export class Journal {
  readonly #folder: string;
  readonly #writer = newWriter();
  readonly #log: Log;
  readonly #backlog: Backlog;
  readonly #timer: NodeJS.Timeout;
  #segment: Segment;
  #sequence = 1;
  #opened = 0;
  #ticks = 0;
  #problem: Error | undefined;
  #closed = false;
  /** Whether there will be a write in this turn. */
  #isWriteDue = false;

  /** Never fails: what is wrong with the folder or the state is logged, and `health` says it. */
  static open(folder: string, settings: JournalSettings): Promise<Journal> {
    const journal = new Journal(folder, settings);
    journal.#backlog.attempt(true);
    return Promise.resolve(journal);
  }

  private constructor(folder: string, settings: JournalSettings) {
    const { state, log, mostBytes = 1024 ** 3, mostHeld = 50_000 } = settings;
    this.#folder = folder;
    this.#log = log;
    this.#backlog = new Backlog({ folder, writer: this.#writer, state, log, mostBytes, mostHeld });
    this.#segment = this.#next();
    this.#timer = setInterval(() => this.#look(), tick).unref();
  }

  /** The record, which outlives the process from here on. Never throws. */
  append(record: UsageRecord): void {
    this.#take(record);
    this.#write();
  }

  /**
   * The record, which outlives the process before anything that `afterPoll` is given from now on happens: so before an answer is
   * sent that is given as a whole. All of one turn of the event loop take one write. Never throws.
   */
  appendInTurn(record: UsageRecord): void {
    this.#take(record);
    if (this.#isWriteDue) return;
    this.#isWriteDue = true;
    afterPoll(() => this.#write());
  }

  /** Puts a record in the place of one that was appended; false when that is on its way already. */
  replace(old: UsageRecord, record: UsageRecord): boolean {
    return this.#segment.replace(old, record);
  }

  /** Carries all that there is now, also what others have left. Rejects with what is in the way. */
  async flush(): Promise<void> {
    this.#seal();
    await this.#backlog.carry(true);
  }

  health(): JournalHealth {
    const problem = this.#problem ?? this.#backlog.problem;
    return {
      ok: problem === undefined,
      ...(problem === undefined ? {} : { problem: problem.message }),
      backlog: this.#backlog.count + this.#segment.count,
      lost: this.#backlog.lost,
    };
  }

  /** Carries what it can within five seconds; the rest stays in its files for whoever opens the folder next. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    clearInterval(this.#timer);
    this.#seal();
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<void>((resolve) => (timer = setTimeout(resolve, farewell)));
    await Promise.race([this.#backlog.carry(false).catch(() => undefined), late]);
    clearTimeout(timer);
    const { backlog, lost } = this.health();
    if (backlog > 0 || lost > 0)
      this.#log.warn({ folder: this.#folder, backlog, lost }, "usage records stay in the journal until the next start");
    forgetWriter(this.#writer);
  }

  #take(record: UsageRecord): void {
    if (this.#segment.count === 0) this.#opened = performance.now();
    this.#segment.append(record);
  }

  #write(): void {
    this.#isWriteDue = false;
    const segment = this.#segment;
    segment.write();
    if (segment.problem !== undefined) this.#failed(segment.problem);
    if (segment.count < fullCount && segment.bytes < fullBytes) return;
    this.#seal();
    this.#backlog.attempt(false);
  }

  #look(): void {
    const search = this.#ticks++ % ticksBetweenSearches === ticksBetweenSearches - 1;
    const waiting = this.#backlog.length > 0;
    const old = performance.now() - this.#opened > longestOpen;
    // While others wait before it, it may as well grow.
    if (this.#segment.count > 0 && (!waiting || old)) this.#seal();
    if (search || this.#backlog.length > 0) this.#backlog.attempt(search);
  }

  #seal(): void {
    if (this.#segment.count === 0) return;
    this.#segment.seal();
    if (this.#segment.problem === undefined) this.#problem = undefined;
    this.#backlog.add(this.#segment);
    this.#segment = this.#next();
  }

  #next(): Segment {
    const sequence = this.#sequence++;
    return new Segment(segmentPath(this.#folder, this.#writer, sequence), sequence);
  }

  #failed(problem: Error): void {
    if (this.#problem === undefined)
      this.#log.error(
        { folder: this.#folder, error: problem.message },
        "the usage journal cannot be written: records are held in memory only, and lost if this process dies",
      );
    this.#problem = problem;
  }
}
