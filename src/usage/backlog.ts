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
/** How often a state that says it is well may refuse a segment before it is put aside: over minutes, as the pauses grow. */
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
  /** How often the state refused a segment while it was well, by its file. */
  readonly #refusals = new Map<string, number>();

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
    if (this.#busy || performance.now() < this.#retryAt) return;
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
        this.#segments.shift();
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
    else segment.seal();
  }

  async #carryAbandoned(): Promise<void> {
    for (const segment of await findAbandoned(this.#settings.folder)) {
      let damaged = 0;
      const read = async (): Promise<UsageRecord[]> => {
        const found = await readSegment(segment.path);
        ({ damaged } = found);
        return found.records;
      };
      if (!(await this.#add(segment, read))) continue;
      await removeSegment(segment.path);
      this.lost += damaged;
      if (damaged > 0)
        this.#settings.log.error(
          { file: segment.path, damaged },
          "lines of a usage journal were damaged, and are lost",
        );
    }
  }

  /** False: the state takes everything but this, which is put aside. */
  async #add(
    { writer, sequence, path }: AbandonedSegment,
    read: () => Promise<readonly UsageRecord[]>,
  ): Promise<boolean> {
    let records: readonly UsageRecord[] = [];
    try {
      records = await read();
      if (records.length > 0) await this.#settings.state.usage.add({ writer, sequence, records });
    } catch (error) {
      // Another process took the writer for dead, and was faster.
      if ((error as NodeJS.ErrnoException).code !== "ENOENT") {
        if (!this.#isRefused(path)) throw error;
        await this.#putAside(path, records.length, error);
        return false;
      }
    }
    this.#refusals.delete(path);
    return true;
  }

  #isRefused(path: string): boolean {
    if (!this.#settings.state.health().ok) return false;
    const refusals = (this.#refusals.get(path) ?? 0) + 1;
    this.#refusals.set(path, refusals);
    return refusals > mostRefusals;
  }

  async #putAside(path: string, count: number, error: unknown): Promise<void> {
    await putAside(path);
    this.#refusals.delete(path);
    this.lost += count;
    this.#settings.log.error(
      { file: `${path}.refused`, lost: count, error: String(error) },
      "the state refuses these usage records; they are put aside",
    );
  }

  #failed(error: Error): void {
    this.#failures++;
    const pause = Math.min(pauses.most, pauses.first * 2 ** Math.min(10, this.#failures - 1));
    this.#retryAt = performance.now() + pause;
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
