import { timingSafeEqual } from "node:crypto";
import type { Principal, Role } from "../core/access.ts";
import type { Log } from "../core/log.ts";
import { patternTest } from "../core/name-pattern.ts";
import type { KeyRecord, State } from "../state/state.ts";

/** What is held of one key: about 400 bytes. */
interface Entry {
  readonly principal: Principal;
  /** SHA-256 of its text, one character a byte. */
  readonly digest: string;
  /** Of the text before the last rotation, which works until that time. */
  readonly previous: string | undefined;
  readonly until: number;
  /** `Infinity`: never. */
  readonly expires: number;
}

/** Milliseconds after which a state that did not answer is asked again. */
const retryPause = 1000;
/** Stands where no key was found, so that the answer takes as long: the digest of no text. */
const nobody = "\0".repeat(32);

/**
 * All managed keys of a state, in memory, in step with it within a second. While the state does not answer, the keys
 * that were known last go on.
 */
export class KeyRing {
  readonly #state: State;
  readonly #log: Log;
  readonly #byDigest = new Map<string, Entry>();
  readonly #byId = new Map<string, Entry>();
  readonly #listeners = new Set<() => void>();
  /** Keys that are alike in them share these. */
  readonly #roles = new Map<string, ReadonlySet<Role>>();
  readonly #patterns = new Map<string, (model: string) => boolean>();
  readonly #compared = Buffer.alloc(nobody.length);
  #revision = 0;
  #running: Promise<void> = Promise.resolve();
  #queued: Promise<void> | undefined;
  #retry: NodeJS.Timeout | undefined;
  #failing = false;
  #closed = false;
  #unwatch: () => void = () => undefined;

  private constructor(state: State, log: Log) {
    this.#state = state;
    this.#log = log;
  }

  /** Reads all keys, and follows them until `close`. Throws `StateError` when the state does not answer now. */
  static async open(state: State, log: Log): Promise<KeyRing> {
    const ring = new KeyRing(state, log);
    // Before the first look, or a change between the two would be missed.
    ring.#unwatch = state.keys.watch(() => void ring.refresh());
    try {
      await ring.#load();
    } catch (error) {
      ring.close();
      throw error;
    }
    return ring;
  }

  /** Whose key has this SHA-256 (32 bytes), at that time in milliseconds; unknown, expired and revoked ones look the same. */
  find(digest: Buffer, now: number): Principal | undefined {
    const shown = digest.toString("latin1");
    const entry = this.#byDigest.get(shown);
    const isPrevious = entry !== undefined && entry.previous === shown;
    this.#compared.write(entry === undefined ? nobody : isPrevious ? shown : entry.digest, "latin1");
    const equal = timingSafeEqual(this.#compared, digest);
    if (!equal || entry === undefined || entry.expires <= now || (isPrevious && entry.until <= now)) return undefined;
    return entry.principal;
  }

  /** How many keys there are, revoked and expired ones too: never 0 again after the first, so that no server opens by losing its keys. */
  get size(): number {
    return this.#byId.size;
  }

  /** Calls the listener after each change that was taken over. Returns what ends that. */
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  /** Takes over what has changed, all that had when it was called. Never rejects. */
  refresh(): Promise<void> {
    this.#queued ??= this.#running.then(async () => {
      this.#queued = undefined;
      this.#running = this.#follow();
      await this.#running;
    });
    return this.#queued;
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#retry);
    this.#unwatch();
    this.#listeners.clear();
  }

  async #follow(): Promise<void> {
    if (this.#closed) return;
    clearTimeout(this.#retry);
    try {
      await this.#load();
      if (this.#failing) this.#log.info({ keys: this.size }, "the keys are followed again");
      this.#failing = false;
    } catch (error) {
      if (this.#closed) return;
      if (!this.#failing)
        this.#log.warn({ error: String(error), keys: this.size }, "keys cannot be read; those known last go on");
      this.#failing = true;
      this.#retry = setTimeout(() => void this.refresh(), retryPause).unref();
    }
  }

  async #load(): Promise<void> {
    let { keys, revision } = await this.#state.keys.since(this.#revision);
    if (revision < this.#revision) {
      // The state is another one now, e.g. from a backup.
      ({ keys, revision } = await this.#state.keys.since(0));
      if (keys.length === 0) throw new Error("the state has lost all its keys");
      this.#byId.clear();
      this.#byDigest.clear();
    }
    if (this.#closed) return;
    for (const key of keys) this.#take(key);
    this.#revision = revision;
    if (keys.length > 0) for (const listener of this.#listeners) listener();
  }

  #take(key: KeyRecord): void {
    const known = this.#byId.get(key.id);
    if (known !== undefined) {
      this.#byDigest.delete(known.digest);
      if (known.previous !== undefined) this.#byDigest.delete(known.previous);
    }
    const entry: Entry = {
      principal: this.#toPrincipal(key),
      digest: key.digest.toString("latin1"),
      previous: key.previous?.digest.toString("latin1"),
      until: key.previous?.until ?? 0,
      expires: key.expires ?? Number.POSITIVE_INFINITY,
    };
    this.#byId.set(key.id, entry);
    if (key.revoked !== undefined) return;
    this.#byDigest.set(entry.digest, entry);
    if (entry.previous !== undefined) this.#byDigest.set(entry.previous, entry);
  }

  #toPrincipal({ id, name, roles, models, limits }: KeyRecord): Principal {
    const principal = { id, name, roles: kept(this.#roles, roles, (list) => new Set(list)), limits };
    return models.length === 0 ? principal : { ...principal, allows: kept(this.#patterns, models, patternTest) };
  }
}

/** What was made before of an equal list, else a new one. */
function kept<T, Made>(known: Map<string, Made>, list: readonly T[], make: (list: readonly T[]) => Made): Made {
  const name = JSON.stringify(list);
  const made = known.get(name) ?? make(list);
  known.set(name, made);
  return made;
}
