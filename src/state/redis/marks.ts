import { randomBytes } from "node:crypto";
import type { Log } from "../../core/log.ts";
import { type StateHealth, StateError } from "../state.ts";
import type { RedisConnection, RedisScript } from "./connection.ts";

/** What several processes change and follow. */
type Subject = "keys" | "documents";

/** What a store does after Redis has forgotten something. */
interface Memory {
  readonly subject: Subject;
  /** Puts back what this process remembers and Redis has not, or has in an older form, and answers how much that was. */
  restore(loss: Loss): Promise<number>;
}

export interface Loss {
  /** Highest revision that this process has seen. */
  readonly revision: number;
  /** False: Redis was started anew, and seems to have kept all but perhaps the last changes. */
  readonly all: boolean;
}

interface Marks {
  /** A random text, given when the state was begun; another one, or none: it was lost. */
  readonly life: string;
  readonly revisions: Readonly<Record<Subject, number>>;
}

/** What is kept under the keys is of this version; each entry of `migrations` leads one version further. */
const schema = 1;
const migrations: readonly RedisScript[] = [];

const lookEvery = 500;
const subjects: readonly Subject[] = ["keys", "documents"];

const begin: RedisScript = {
  name: "begin",
  text: `
    redis.call('HSETNX', KEYS[1], 'version', ARGV[1])
    redis.call('HSETNX', KEYS[1], 'life', ARGV[2])
    return redis.call('HGET', KEYS[1], 'version')`,
};

/**
 * The marks by which processes see that others have changed something: read twice a second, after each reconnect, and at once when a message
 * says so. A lost message thus costs half a second, and never a revocation.
 *
 * They also show that Redis has lost its memory: restarted without persistence, emptied, replaced by an empty one, or set back to an
 * earlier save. An empty list of keys is then not taken for the truth: keys in use go on working, and every process puts back the keys and documents
 * that it remembers, the latest form of each, revocations before all. Operators read of it in the log and in `health`. Whoever wants to be rid of
 * the keys revokes them, or stops all processes before the Redis is emptied. Limits, usage and stored answers begin anew.
 */
export class RedisMarks {
  readonly #connection: RedisConnection;
  readonly #log: Log;
  readonly #memories: Memory[] = [];
  readonly #listeners: Record<Subject, Set<() => void>> = { keys: new Set(), documents: new Set() };
  readonly #poll: NodeJS.Timeout;
  #run: string;
  #marks: Marks;
  #seen: Record<Subject, number>;
  #looking: Promise<void> | undefined;
  #lookAgain = false;
  #hears: (() => void) | undefined;
  #loss: { readonly since: number; readonly restored: boolean } | undefined;

  /** Begins the state where there is none. Throws `StateError` when it is of a newer version than this program. */
  static async open(connection: RedisConnection, log: Log): Promise<RedisMarks> {
    await prepare(connection);
    const marks = await readMarks(connection);
    if (marks === undefined) throw new StateError(`Redis at ${connection.place} does not keep what is written to it`);
    return new RedisMarks(connection, log, marks);
  }

  private constructor(connection: RedisConnection, log: Log, marks: Marks) {
    this.#connection = connection;
    this.#log = log;
    this.#marks = marks;
    this.#seen = { ...marks.revisions };
    this.#run = connection.run;
    connection.onReady(() => void this.look().catch(() => undefined));
    this.#poll = setInterval(() => void this.look().catch(() => undefined), lookEvery);
    this.#poll.unref();
  }

  /** The key that holds them, for scripts that count a revision up by `HINCRBY <key> <subject> 1`. */
  get key(): string {
    return schemaKey(this.#connection);
  }

  /** Where scripts that do so publish it. */
  get channel(): string {
    return this.#connection.key("changes");
  }

  /**
   * To be asked for before `HMGET <key> life <subject>` is sent, and called with what that has brought: whether something was lost. Who finds so
   * looks, and reads again.
   */
  suspect(subject: Subject): (life: string, revision: number) => boolean {
    const seen = this.#seen[subject];
    return (life, revision) => life !== this.#marks.life || revision < seen;
  }

  /** Whoever has seen a revision says so: a lower one is strange from now on. */
  saw(subject: Subject, revision: number): void {
    this.#seen[subject] = Math.max(this.#seen[subject], revision);
  }

  /** As of the last look. */
  revision(subject: Subject): number {
    return this.#marks.revisions[subject];
  }

  remember(memory: Memory): void {
    this.#memories.push(memory);
  }

  watch(subject: Subject, onChange: () => void): () => void {
    this.#hears ??= this.#connection.subscribe(this.channel, () => void this.look().catch(() => undefined));
    // An object of its own: the same function may watch twice.
    const listener = (): void => onChange();
    this.#listeners[subject].add(listener);
    return () => void this.#listeners[subject].delete(listener);
  }

  /** Reads the marks now, puts back what was lost, and tells who watches. */
  look(): Promise<void> {
    if (this.#looking !== undefined) {
      this.#lookAgain = true;
      return this.#looking;
    }
    this.#looking = this.#lookUntilQuiet().finally(() => (this.#looking = undefined));
    return this.#looking;
  }

  health(): StateHealth {
    const health = this.#connection.health();
    if (!health.ok || this.#loss === undefined) return health;
    const { since, restored } = this.#loss;
    const problem = `Redis at ${this.#connection.place} has lost what it held; ${restored ? "keys were put back" : "keys are being put back"}: let it save (appendonly yes)`;
    return { ok: restored, problem, since };
  }

  close(): void {
    clearInterval(this.#poll);
    this.#hears?.();
    for (const subject of subjects) this.#listeners[subject].clear();
  }

  async #lookUntilQuiet(): Promise<void> {
    do {
      this.#lookAgain = false;
      await this.#lookOnce();
    } while (this.#lookAgain);
  }

  async #lookOnce(): Promise<void> {
    const run = this.#connection.run;
    const suspects = subjects.map((of) => ({ of, isStrange: this.suspect(of) }));
    let marks = await readMarks(this.#connection);
    const lost =
      marks === undefined || suspects.some(({ of, isStrange }) => isStrange(marks!.life, marks!.revisions[of]));
    if (lost || run !== this.#run) {
      await this.#restore(lost);
      marks = await readMarks(this.#connection);
      this.#run = run;
      this.#seen = { keys: 0, documents: 0 };
    }
    const before = this.#marks;
    if (marks === undefined) return;
    this.#marks = marks;
    for (const subject of subjects) {
      this.saw(subject, marks.revisions[subject]);
      if (marks.revisions[subject] === before.revisions[subject]) continue;
      for (const listener of this.#listeners[subject]) listener();
    }
  }

  async #restore(lost: boolean): Promise<void> {
    if (lost && this.#loss?.restored !== false) this.#loss = { since: Date.now(), restored: false };
    await prepare(this.#connection);
    let restored = 0;
    for (const memory of this.#memories) {
      restored += await memory.restore({ revision: this.#seen[memory.subject], all: lost });
    }
    if (!lost && restored === 0) return;
    this.#loss = { since: this.#loss?.since ?? Date.now(), restored: true };
    const problem = "has lost what it held, as it was emptied or restarted without having saved everything";
    const deed = `put back ${restored} keys and documents; limits, usage and stored answers may begin anew. Let it save: appendonly yes`;
    this.#log.error({ state: this.#connection.place, restored }, `Redis ${problem}: ${deed}`);
  }
}

async function prepare(connection: RedisConnection): Promise<void> {
  const life = randomBytes(12).toString("hex");
  let version = Number(await connection.script(begin, [schemaKey(connection)], [schema, life]));
  for (; version < schema; version++) {
    await connection.script(migrations[version - 1]!, [schemaKey(connection)], [version, connection.address.prefix]);
  }
  if (!(version <= schema)) {
    const remedy = "update this program, or choose another ?prefix= in the address";
    throw new StateError(
      `Redis at ${connection.place} has a state of version ${version}, newer than this program's ${schema}: ${remedy}`,
    );
  }
}

async function readMarks(connection: RedisConnection): Promise<Marks | undefined> {
  const reply = await connection.command(["HMGET", schemaKey(connection), "life", ...subjects]);
  const [life, keys, documents] = reply as (string | null)[];
  if (typeof life !== "string") return undefined;
  return { life, revisions: { keys: Number(keys), documents: Number(documents) } };
}

function schemaKey(connection: RedisConnection): string {
  return connection.key("schema");
}
