import { setTimeout as delay } from "node:timers/promises";
import type { Log } from "../../core/log.ts";
import { type StateHealth, StateError } from "../state.ts";
import { type Database, type OpenDatabase, sqliteCode } from "./database.ts";
import { busy, corrupt, full, isCorrupt, isOutage, toStateError } from "./failures.ts";
import { FileHealth } from "./file-health.ts";
import { type KeyCopy, readKeyCopy } from "./key-backup.ts";
import { addKeys } from "./key-rows.ts";
import { identify, prepareFile, sizeOf } from "./place.ts";
import { setAside } from "./recovery.ts";
import { migrate } from "./schema.ts";

export interface StateFileSettings {
  readonly driver: OpenDatabase;
  readonly log: Log;
  /** Milliseconds for which what is asked waits while another process has the file locked. */
  readonly patience: number;
}

interface Watcher {
  readonly look: (db: Database) => number;
  readonly onChange: () => void;
  seen: number;
}

/** Milliseconds for which SQLite itself waits for a lock, and everything with it; after that we do, and let others work. */
const shortWait = 4;
const pollInterval = 500;
/** Bytes that must find a place on a disk that was full. */
const probeSize = 65_536;
/** Files up to this size, in bytes, are read and checked whole when they are opened: that takes some 50 ms. */
const smallFile = 16 * 2 ** 20;

/**
 * The connection to one state file, which other processes share. Survives that the file is damaged, deleted or replaced
 * while it is open: then it is opened anew, with the keys of the last good copy where that is needed.
 */
export class StateFile {
  readonly path: string;
  readonly #settings: StateFileSettings;
  readonly #watchers = new Set<Watcher>();
  #db: Database | undefined;
  #identity: string | undefined;
  /** The last of those who wait, in the order in which they came, for another process. */
  #line: Promise<unknown> | undefined;
  #renewal: Promise<void> | undefined;
  #poll: NodeJS.Timeout | undefined;
  #dataVersion = 0;
  #closed = false;
  readonly #health: FileHealth;

  private constructor(path: string, settings: StateFileSettings) {
    this.path = path;
    this.#settings = settings;
    this.#health = new FileHealth(path, settings.log);
  }

  /** `path` is absolute. Throws `StateError`. */
  static async open(path: string, settings: StateFileSettings): Promise<StateFile> {
    const file = new StateFile(path, settings);
    try {
      await file.#connect();
    } catch (error) {
      file.#disconnect();
      throw toStateError(error, path);
    }
    return file;
  }

  /** Runs the work, which only reads, on one consistent view if it is one statement. */
  async read<Result>(work: (db: Database) => Result): Promise<Result> {
    return this.#run(() => this.#persist(work), false);
  }

  /**
   * Runs the work as one transaction: all of it happens or nothing. It may be run again, when another process was in the
   * way. Begins at once, within this call, unless others wait.
   */
  async write<Result>(work: (db: Database) => Result): Promise<Result> {
    return this.#run(() => this.#inLine(() => this.#persist((db) => transact(db, work))), true);
  }

  /** Calls back when what `look` finds in the file is another value than before, after `changed` or another process' write. */
  watch(look: (db: Database) => number, onChange: () => void): () => void {
    const watcher: Watcher = { look, onChange, seen: this.#see(look) ?? 0 };
    this.#watchers.add(watcher);
    this.#poll ??= setInterval(() => this.#lookAround(), pollInterval).unref();
    return () => {
      this.#watchers.delete(watcher);
      if (this.#watchers.size > 0) return;
      clearInterval(this.#poll);
      this.#poll = undefined;
    };
  }

  /** Something was written that may be watched. */
  changed(): void {
    for (const watcher of this.#watchers) this.#tell(watcher);
  }

  health(): StateHealth {
    if (this.#health.isProbeDue()) this.#probe();
    return this.#health.state();
  }

  async close(): Promise<void> {
    await this.#line?.catch(() => undefined);
    await this.#renewal?.catch(() => undefined);
    this.#closed = true;
    clearInterval(this.#poll);
    this.#watchers.clear();
    try {
      this.#db?.exec("PRAGMA wal_checkpoint(TRUNCATE)");
    } catch {
      // It is all in the file that lies beside, for who opens it next.
    }
    this.#disconnect();
  }

  async #run<Result>(act: () => Promise<Result>, writes: boolean): Promise<Result> {
    for (let renewals = 0; ; renewals++) {
      try {
        if (this.#db === undefined && !this.#closed) this.#startRenewal(false);
        if (this.#renewal !== undefined) await this.#renewal;
        const result = await act();
        this.#health.works(writes);
        return result;
      } catch (error) {
        if (this.#closed || renewals === 2 || !isCorrupt(error)) throw this.#failed(error, writes);
        // The first time the file may only have been changed under us: what SQLite holds of it in memory is stale.
        this.#startRenewal(renewals === 1);
      }
    }
  }

  /** Behind those who wait for another process already, so that nobody overtakes. */
  async #inLine<Result>(act: () => Promise<Result>): Promise<Result> {
    const turn = this.#line === undefined ? act() : this.#line.then(act, act);
    this.#line = turn;
    try {
      return await turn;
    } finally {
      if (this.#line === turn) this.#line = undefined;
    }
  }

  async #persist<Result>(attempt: (db: Database) => Result): Promise<Result> {
    const until = performance.now() + this.#settings.patience;
    for (;;) {
      try {
        if (this.#db === undefined) await this.#renewal;
        if (this.#db === undefined) throw new StateError(`the state ${this.path} is closed`);
        return attempt(this.#db);
      } catch (error) {
        if (sqliteCode(error) !== busy || this.#closed || performance.now() > until) throw error;
      }
      // Unequal steps, so that two who wait do not meet again and again.
      await delay(1 + Math.random() * 15);
    }
  }

  async #connect(isDamaged = false): Promise<void> {
    const until = performance.now() + this.#settings.patience;
    let copy: KeyCopy | undefined;
    for (let tries = 0; ; tries++) {
      try {
        if (isDamaged) copy = await setAside(this.path, this.#settings);
        isDamaged = false;
        prepareFile(this.path);
        this.#openDatabase(copy);
        return;
      } catch (error) {
        this.#disconnect();
        if (isCorrupt(error) && tries < 2) isDamaged = true;
        else if (sqliteCode(error) !== busy || performance.now() > until) throw error;
        else await delay(1 + Math.random() * 15);
      }
    }
  }

  #openDatabase(copy: KeyCopy | undefined): void {
    this.#identity = identify(this.path);
    const db = this.#settings.driver(this.path);
    this.#db = db;
    db.exec(`PRAGMA busy_timeout = ${shortWait}`);
    transact(db, () => {
      if (migrate(db, this.path)) this.#restore(db, copy ?? readKeyCopy(this.path));
    });
    assertWritable(db);
    // What a commit says was written survives the death of the process; that of the machine may take the last ones.
    db.exec("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA journal_size_limit = 67108864");
    db.exec("PRAGMA temp_store = MEMORY; PRAGMA cache_size = -16384");
    if (sizeOf(this.path) <= smallFile) assertSound(db);
    this.#dataVersion = dataVersion(db);
  }

  #restore(db: Database, copy: KeyCopy | undefined): void {
    // Above all revisions of a file that was here before, for those who follow them.
    const revision = Math.max(Date.now(), copy?.revision ?? 0);
    db.prepare("INSERT INTO counters VALUES ('revision', ?), ('records', 0)").run([revision]);
    if (copy === undefined || copy.keys.length === 0) return;
    addKeys(db, copy.keys);
    const [count, from] = [copy.keys.length, new Date(copy.time).toISOString()];
    this.#settings.log.warn(
      { file: this.path, keys: count, from },
      `the state file ${this.path} is new: ${count} keys came back as they were at ${from}`,
    );
  }

  /** Opens the file anew; whoever wants to use it waits for that. */
  #startRenewal(isDamaged: boolean): void {
    if (this.#renewal !== undefined) return;
    const renewal = this.#renew(isDamaged).finally(() => (this.#renewal = undefined));
    this.#renewal = renewal;
    renewal.then(() => this.#health.recovers()).catch((error: unknown) => this.#failed(error, true));
  }

  async #renew(isDamaged: boolean): Promise<void> {
    this.#disconnect();
    await this.#connect(isDamaged);
    this.changed();
  }

  #disconnect(): void {
    const db = this.#db;
    this.#db = undefined;
    try {
      db?.close();
    } catch {
      // Nothing is lost: what was committed is in the file.
    }
  }

  #lookAround(): void {
    if (this.#renewal !== undefined || this.#db === undefined) return;
    if (identify(this.path) !== this.#identity) {
      this.#settings.log.warn(
        { file: this.path },
        `the state file ${this.path} was replaced; the new one is used from now on`,
      );
      this.#startRenewal(false);
      return;
    }
    const version = this.#see(dataVersion);
    if (version === undefined || version === this.#dataVersion) return;
    this.#dataVersion = version;
    this.changed();
  }

  #see(look: (db: Database) => number): number | undefined {
    try {
      return this.#db && look(this.#db);
    } catch (error) {
      // Somebody has it locked for a moment; there is a next time.
      if (sqliteCode(error) !== busy) this.#failed(error, false);
      return undefined;
    }
  }

  #tell(watcher: Watcher): void {
    const seen = this.#see(watcher.look);
    if (seen === undefined || seen === watcher.seen || !this.#watchers.has(watcher)) return;
    watcher.seen = seen;
    watcher.onChange();
  }

  /** Whether it works again: that it can be read would prove nothing. */
  #probe(): void {
    if (this.#renewal !== undefined) return;
    try {
      if (this.#db === undefined) {
        this.#startRenewal(false);
        return;
      }
      transact(this.#db, (db) => db.prepare("REPLACE INTO probe VALUES (1, zeroblob(?))").run([probeSize]));
      this.#health.recovers();
      transact(this.#db, (db) => db.prepare("REPLACE INTO probe VALUES (1, zeroblob(0))").run());
    } catch (error) {
      this.#failed(error, true);
    }
  }

  #failed(error: unknown, writes: boolean): unknown {
    const failure = toStateError(error, this.path);
    if (!this.#closed && isOutage(error))
      this.#health.fails((failure as Error).message, !writes ? "read" : sqliteCode(error) === full ? "room" : "write");
    return failure;
  }
}

function transact<Result>(db: Database, work: (db: Database) => Result): Result {
  db.exec("BEGIN IMMEDIATE");
  try {
    const result = work(db);
    db.exec("COMMIT");
    return result;
  } catch (error) {
    try {
      db.exec("ROLLBACK");
    } catch {
      // A full disk and the like have ended the transaction already.
    }
    throw error;
  }
}

/** SQLite opens what may only be read without a word. */
function assertWritable(db: Database): void {
  try {
    transact(db, () => db.prepare("REPLACE INTO probe VALUES (1, zeroblob(0))").run());
  } catch (error) {
    // A disk that is full now is said when something cannot be written; all that is there can be used.
    if (sqliteCode(error) !== full) throw error;
  }
}

function dataVersion(db: Database): number {
  return Number(db.prepare("PRAGMA data_version").get()?.[0]);
}

function assertSound(db: Database): void {
  const found = db.prepare("PRAGMA quick_check(1)").get()?.[0];
  if (found !== "ok") throw Object.assign(new Error(String(found)), { errcode: corrupt });
}
