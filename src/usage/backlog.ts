import type { Log } from "../core/log.ts";
import type { State, UsageRecord } from "../state/state.ts";
import { putAside, readSegment, removeSegment, type Segment } from "./segment.ts";
import { type AbandonedSegment, findAbandoned } from "./writers.ts";

export interface BacklogSettings {
  readonly folder: string;
  readonly writer: string;
  readonly state: Pick<State, "usage" | "health">;
  readonly log: Log;
  /** Bytes of files, and records that are only in memory, which may wait. */
  readonly mostBytes: number;
  readonly mostHeld: number;
}

/** Segments of which the records stay in memory, so that usually no file is read. */
const mostInMemory = 4;
/** Milliseconds between two tries while the state is away: at first, and at most. */
const pauses = { first: 1000, most: 30_000 };
/** Failures one after the other, in a state that says it is well, after which the segment in question is put aside. */
const mostRefusals = 10;

/** Segments that wait to be carried into the state: first those of writers that are gone, then this writer's in their order. */
export class Backlog {
  /** Records that reached neither the state nor a file that is kept. */
  lost = 0;
  /** Why nothing is carried now; undefined: all is well. */
  problem: Error | undefined;
  readonly #settings: BacklogSettings;
  readonly #segments: Segment[] = [];
  /** Turns to one that waits for the other. */
  #running: Promise<void> = Promise.resolve();
  #busy = false;
  #failures = 0;
  #retryAt = 0;

  constructor(settings: BacklogSettings) {
    this.#settings = settings;
  }

  /** Records of this writer that wait. */
  get count(): number {
    return this.#segments.reduce((sum, { count }) => sum + count, 0);
  }

  get length(): number {
    return this.#segments.length;
  }

  add(segment: Segment): void {
    this.#segments.push(segment);
    this.#bound();
  }

  /** Carries what there is, unless that goes on already or the state is given time. */
  attempt(abandoned: boolean): void {
    if (this.#busy || Date.now() < this.#retryAt) return;
    void this.carry(abandoned).catch(() => undefined);
  }

  /** Carries what there is, of others too where `abandoned` says so. Rejects with what is in the way. */
  carry(abandoned: boolean): Promise<void> {
    const run = this.#running.then(() => this.#carry(abandoned));
    this.#running = run.catch(() => undefined);
    return run;
  }

  async #carry(abandoned: boolean): Promise<void> {
    this.#busy = true;
    try {
      if (abandoned) await this.#carryAbandoned();
      for (let [segment] = this.#segments; segment !== undefined; [segment] = this.#segments) {
        await this.#carryOwn(segment);
        this.#failures = 0;
        // It may have been given up meanwhile.
        if (this.#segments[0] === segment) this.#segments.shift();
      }
      this.#recovered();
    } catch (error) {
      this.#failed(error as Error);
      throw error;
    } finally {
      this.#busy = false;
    }
  }

  async #carryOwn(segment: Segment): Promise<void> {
    const { writer } = this.#settings;
    const { path, sequence } = segment;
    if (await this.#add({ writer, sequence, path }, () => segment.records())) await segment.remove();
    else {
      this.lost += segment.count;
      segment.seal();
    }
  }

  async #carryAbandoned(): Promise<void> {
    const { folder, state } = this.#settings;
    let writer: string | undefined;
    let last = 0;
    for (const segment of await findAbandoned(folder)) {
      if (segment.writer !== writer) last = await state.usage.lastSequence(segment.writer);
      writer = segment.writer;
      const carried = segment.sequence <= last || (await this.#add(segment, () => this.#readAbandoned(segment)));
      if (carried) await removeSegment(segment.path);
    }
  }

  async #readAbandoned({ path }: AbandonedSegment): Promise<UsageRecord[]> {
    const { log } = this.#settings;
    const { records, damaged } = await readSegment(path);
    this.lost += damaged;
    if (damaged > 0) log.error({ file: path, damaged }, "lines of a usage journal are damaged, and skipped");
    log.info({ records: records.length }, "usage records of a process that is gone are carried into the state");
    return records;
  }

  /** False: the state takes everything but this, which is put aside. */
  async #add(
    { writer, sequence, path }: AbandonedSegment,
    read: () => Promise<readonly UsageRecord[]>,
  ): Promise<boolean> {
    const { state, log } = this.#settings;
    try {
      const records = await read();
      if (records.length > 0) await state.usage.add({ writer, sequence, records });
      return true;
    } catch (error) {
      // Another process took the writer for dead, and was faster.
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return true;
      if (this.#failures < mostRefusals || !state.health().ok) throw error;
      this.#failures = 0;
      await putAside(path);
      log.error(
        { file: `${path}.refused`, error: String(error) },
        "the state refuses these usage records; they are put aside",
      );
      return false;
    }
  }

  #failed(error: Error): void {
    this.#failures++;
    const pause = Math.min(pauses.most, pauses.first * 2 ** Math.min(10, this.#failures - 1));
    this.#retryAt = Date.now() + pause;
    if (this.problem === undefined)
      this.#settings.log.error(
        { error: error.message },
        "usage cannot be carried into the state, and waits in its journal",
      );
    this.problem = error;
  }

  #recovered(): void {
    if (this.problem !== undefined) this.#settings.log.info({}, "usage is carried into the state again");
    this.problem = undefined;
    this.#failures = 0;
    this.#retryAt = 0;
  }

  /** Files bear most of what waits, and only what they do not take stays in memory; of too much, the oldest goes. */
  #bound(): void {
    for (const segment of this.#segments.slice(0, -mostInMemory)) segment.release();
    const { mostBytes, mostHeld } = this.#settings;
    let bytes = 0;
    let held = 0;
    for (const segment of [...this.#segments].reverse()) {
      bytes += segment.bytes;
      if (segment.problem !== undefined) held += segment.count;
      // The first may be on its way just now.
      if ((bytes > mostBytes || held > mostHeld) && segment !== this.#segments[0]) this.#giveUp(segment);
    }
  }

  #giveUp(segment: Segment): void {
    this.#segments.splice(this.#segments.indexOf(segment), 1);
    segment.drop();
    this.lost += segment.count;
    this.#settings.log.error(
      { lost: segment.count, since: this.lost },
      "usage records are lost: the state has been away for so long that no more of them can wait",
    );
  }
}
