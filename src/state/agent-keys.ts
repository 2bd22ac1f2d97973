import { timingSafeEqual } from "node:crypto";
import { type AgentIdentity, agentNamePattern } from "../core/agent-identity.ts";
import { type Log, silent } from "../core/log.ts";
import { agentFile } from "./agent-file.ts";
import type { AgentChange, AgentPlace } from "./agent-place.ts";
import { AgentFileError, type AgentRecord, type AgentRecords, type KeyRecord, mostAgents } from "./agent-records.ts";
import type { FileWatch } from "./file-watch.ts";
import { type IssuedKey, issueKey, keyState, readKey } from "./issue-key.ts";

export interface KeyOptions {
  /** Milliseconds from now until it expires; absent: never. */
  readonly expires?: number | undefined;
}

interface Use {
  readonly name: string;
  readonly id: string;
  readonly time: number;
}

/** Of one agent, so that one key can take the place of another while agents go over to it. */
const mostWorking = 2;
/** How exactly `lastUsed` is kept: the file must not be written for every connection. */
const lastUsedStep = 3_600_000;
/** Longest that a timer of node waits. */
const longestTimer = 2 ** 31 - 1;
/** A file in the middle of being written by hand is read again this many times, this many milliseconds apart. */
const readAgain = { times: 5, pause: 100 };
const nobody = Buffer.alloc(32);

/**
 * The agents that may connect, with their keys: a file, or a document of a shared state, that this and other processes
 * change. The constructor, and whatever changes it, throw `AgentFileError`.
 */
export class AgentKeys {
  readonly #place: AgentPlace;
  readonly #log: Log;
  #agents: AgentRecords;
  /** Why it cannot be read: then nobody is let in. */
  #problem: string | undefined;
  #watch: FileWatch | undefined;
  #onChange: () => void = () => undefined;
  readonly #timers = new Set<NodeJS.Timeout>();
  #expiry: NodeJS.Timeout | undefined;
  /** Since this process runs. */
  readonly #uses = new Map<string, Use>();
  #noting = false;

  /** `place`: the path of the file, or where else the list is. */
  constructor(place: string | AgentPlace, log: Log = silent) {
    this.#place = typeof place === "string" ? agentFile(place) : place;
    this.#log = log;
    this.#agents = this.#place.read();
  }

  /** As it was last read, by name. */
  list(): AgentRecord[] {
    return [...this.#agents.values()].toSorted((one, other) => (one.name < other.name ? -1 : 1));
  }

  /** Whether nobody is registered; a list that cannot be read is not empty. */
  get isEmpty(): boolean {
    return this.#problem === undefined && this.#agents.size === 0;
  }

  /** Whether an agent of this name is registered. */
  has(name: string): boolean {
    return this.#agents.has(name);
  }

  /** Registers a new agent and gives its first key. */
  add(name: string, { expires }: KeyOptions = {}): Promise<IssuedKey> {
    return this.#change((agents) => {
      if (!agentNamePattern.test(name)) throw new AgentFileError(badName(name));
      if (agents.has(name))
        throw new AgentFileError(
          `there is an agent ${name} already; it gets a further key by: lair cloud agents rotate ${name}`,
        );
      if (agents.size >= mostAgents)
        throw new AgentFileError(`there are ${mostAgents} agents, and no more are allowed`);
      return issueKey(agents, { name, created: Date.now(), nextKey: 1, keys: [] }, expires);
    });
  }

  /** Gives a further key; the others go on working until they are revoked. */
  rotate(name: string, { expires }: KeyOptions = {}): Promise<IssuedKey> {
    return this.#change((agents) => {
      const agent = find(agents, name);
      const working = agent.keys.filter((key) => keyState(key, Date.now()) === "works").map(({ id }) => id);
      if (working.length >= mostWorking) {
        throw new AgentFileError(
          `${name} has ${working.length} keys that work (${working.join(", ")}), and no more are allowed; first: lair cloud agents revoke ${name} ${working[0]}`,
        );
      }
      return issueKey(agents, agent, expires);
    });
  }

  /** Makes a key useless for ever, or all keys of the agent. Gives the ids of those that worked until now. */
  revoke(name: string, keyId?: string): Promise<string[]> {
    return this.#change((agents) => {
      const agent = find(agents, name);
      if (keyId !== undefined && !agent.keys.some(({ id }) => id === keyId)) {
        const ids = agent.keys.map(({ id }) => id).join(", ");
        throw new AgentFileError(`${name} has no key ${JSON.stringify(keyId).slice(0, 40)} (its keys: ${ids})`);
      }
      const meant = agent.keys.filter((key) => (keyId ?? key.id) === key.id && key.revoked === undefined);
      const keys = agent.keys.map((key) => (meant.includes(key) ? { ...key, revoked: Date.now() } : key));
      return {
        agents: new Map(agents).set(name, { ...agent, keys }),
        result: meant.filter((key) => keyState(key, Date.now()) === "works").map(({ id }) => id),
      };
    });
  }

  /** Takes in agents of another list with their keys, all or none. */
  adopt(others: AgentRecords): Promise<void> {
    return this.#change((agents) => {
      const twice = [...others.keys()].find((name) => agents.has(name));
      if (twice !== undefined) throw new AgentFileError(`there is an agent ${twice} already; nothing was taken over`);
      if (agents.size + others.size > mostAgents)
        throw new AgentFileError(`that would be more than ${mostAgents} agents, and no more are allowed`);
      return { agents: new Map([...agents, ...others]), result: undefined };
    });
  }

  /** Forgets the agent and its keys. */
  remove(name: string): Promise<void> {
    return this.#change((agents) => {
      find(agents, name);
      return { agents: new Map([...agents].filter(([other]) => other !== name)), result: undefined };
    });
  }

  /** Who shows this key; undefined, and no word about why, for one that does not work. Takes as long for unknown names. */
  authenticate(text: string): AgentIdentity | undefined {
    const known = this.#identify(text);
    if (known !== undefined || this.#watch === undefined) return known;
    // It may have been registered a moment ago, and an agent that is refused stays away for a while.
    const before = this.#agents;
    this.#watch.look();
    return before === this.#agents ? undefined : this.#identify(text);
  }

  /** Reads it anew where another process may have changed it unnoticed; resolves when that is done, or cannot be. */
  async refresh(): Promise<void> {
    if (this.#place.refresh === undefined) return;
    await this.#place.refresh();
    this.#read(0);
  }

  /** From now on changes count at once, and are told; so is a key's expiry. Ends with `close`. */
  watch(onChange: () => void): void {
    this.#onChange = onChange;
    this.#watch = this.#place.watch(() => this.#read(readAgain.times));
    // It may have changed since it was read first.
    this.#read(readAgain.times);
  }

  /** Reads it now; what has changed is told. */
  reload(): void {
    this.#read(0);
  }

  close(): void {
    this.#watch?.close();
    clearTimeout(this.#expiry);
    for (const timer of this.#timers) clearTimeout(timer);
    this.#timers.clear();
  }

  #identify(text: string): AgentIdentity | undefined {
    const { name, digest } = readKey(text);
    const keys = (name === undefined ? undefined : this.#agents.get(name)?.keys) ?? [];
    // Every key is compared, so that time does not tell which one was near; without any, one that nobody has.
    const [key] = keys.filter((one) => timingSafeEqual(one.digest, digest));
    if (keys.length === 0) timingSafeEqual(nobody, digest);
    if (name === undefined || key === undefined || this.#problem !== undefined) return undefined;
    if (keyState(key, Date.now()) !== "works") return undefined;
    this.#noteUse(name, key);
    return this.#identity(name, key);
  }

  async #change<Result>(change: AgentChange<Result>): Promise<Result> {
    const result = await this.#place.change(change);
    this.#read(0);
    return result;
  }

  #read(again: number): void {
    try {
      this.#agents = this.#place.read();
      if (this.#problem !== undefined) this.#log.info({}, `the ${this.#place.name} can be read again`);
      this.#problem = undefined;
    } catch (error) {
      if (again > 0) {
        this.#later(readAgain.pause, () => this.#read(again - 1));
        return;
      }
      this.#problem = error instanceof Error ? error.message : String(error);
      this.#log.error({}, this.#problem);
    }
    this.#awaitExpiry();
    this.#onChange();
  }

  #identity(name: string, { id, digest }: KeyRecord): AgentIdentity {
    let seen: AgentRecords | undefined;
    let record: KeyRecord | undefined;
    return {
      name,
      keyId: id,
      refusal: () => {
        if (this.#problem !== undefined) return "the relay cannot read its list of agents";
        if (seen !== this.#agents) {
          seen = this.#agents;
          // An agent that was removed and registered again has a k1 too, and it is another key.
          record = seen.get(name)?.keys.find((key) => key.id === id && key.digest.equals(digest));
        }
        if (record === undefined) return "the agent was removed";
        const state = keyState(record, Date.now());
        return state === "works" ? undefined : `the key ${id} ${state === "revoked" ? "was revoked" : "has expired"}`;
      },
    };
  }

  /** A tunnel whose key expires is to be cut then, not with the next call. */
  #awaitExpiry(): void {
    clearTimeout(this.#expiry);
    if (this.#watch === undefined) return;
    const now = Date.now();
    const coming = this.list().flatMap(({ keys }) =>
      keys.flatMap(({ expires = 0 }) => (expires > now ? [expires] : [])),
    );
    if (coming.length === 0) return;
    const wait = Math.min(Math.min(...coming) - now + 1, longestTimer);
    this.#expiry = setTimeout(() => {
      this.#awaitExpiry();
      this.#onChange();
    }, wait).unref();
  }

  #noteUse(name: string, { id, lastUsed = 0 }: KeyRecord): void {
    const time = Date.now();
    const known = this.#uses.get(`${name} ${id}`)?.time ?? lastUsed;
    if (time - known < lastUsedStep) return;
    this.#uses.set(`${name} ${id}`, { name, id, time });
    // Those that connect together are written together.
    if (this.#noting) return;
    this.#noting = true;
    this.#later(1000, () => void this.#writeUses());
  }

  async #writeUses(): Promise<void> {
    this.#noting = false;
    const uses = [...this.#uses.values()];
    try {
      await this.#change((agents) => ({ agents: withUses(agents, uses), result: undefined }));
    } catch (error) {
      // Only a remark for people; a file that may not be written is good enough to let agents in.
      this.#log.debug({ error: String(error) }, "when keys were last used could not be noted");
    }
  }

  #later(pause: number, work: () => void): void {
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      work();
    }, pause).unref();
    this.#timers.add(timer);
  }
}

function find(agents: AgentRecords, name: string): AgentRecord {
  const agent = agents.get(name);
  if (agent !== undefined) return agent;
  const names = [...agents.keys()].slice(0, 20).join(", ");
  throw new AgentFileError(
    `there is no agent ${JSON.stringify(name).slice(0, 60)} (registered: ${names === "" ? "none" : names})`,
  );
}

function badName(name: string): string {
  return `${JSON.stringify(name).slice(0, 60)} is no name for an agent; allowed: small letters, digits and -, beginning with a letter, at most 32`;
}

function withUses(agents: AgentRecords, uses: readonly Use[]): AgentRecords {
  const changed = new Map(agents);
  for (const { name, id, time } of uses) {
    const agent = changed.get(name);
    if (agent === undefined) continue;
    const keys = agent.keys.map((key) =>
      key.id === id && (key.lastUsed ?? 0) < time ? { ...key, lastUsed: time } : key,
    );
    changed.set(name, { ...agent, keys });
  }
  return changed;
}
