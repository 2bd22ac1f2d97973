import type { CallerLimits, Role } from "../core/access.ts";
import type { Counted } from "../core/demand.ts";

/**
 * What outlives a process and is shared between replicas. Two implementations pass one suite of tests: an embedded
 * SQLite file (shared by the processes of one machine) and Redis. Nothing on the way of a call waits for it.
 *
 * Whatever goes wrong below is thrown as `StateError`. All times are milliseconds since 1970.
 */
export interface State {
  readonly kind: "sqlite" | "redis";
  /** The file, or the address without credentials: for messages. */
  readonly place: string;
  readonly keys: KeyStore;
  readonly usage: UsageStore;
  readonly meters: MeterStore;
  /** Answers kept for `previous_response_id`. */
  readonly responses: ResponseStore;
  /** Small texts that several processes change, such as the list of agents. */
  readonly documents: DocumentStore;
  /** Whether it answers now. */
  health(): StateHealth;
  close(): Promise<void>;
}

export interface StateHealth {
  readonly ok: boolean;
  /** What is wrong, with what to do. */
  readonly problem?: string;
  /** Since when it has been so. */
  readonly since: number;
}

/** The state cannot do what was asked; the message is for the operator and holds no secret. */
export class StateError extends Error {
  override readonly name: string = "StateError";
}

/** One managed key. Its text is nowhere: only the digest is kept. */
export interface KeyRecord {
  /** `k` and 12 characters of base32 (a-z, 2-7). */
  readonly id: string;
  /** What its owner calls it; no two keys have the same. 1 to 64 characters. */
  readonly name: string;
  readonly owner?: string;
  /** SHA-256 of the whole text of the key. */
  readonly digest: Buffer;
  /** The key before the last rotation, and until when it still works. */
  readonly previous?: { readonly digest: Buffer; readonly until: number };
  /** The last four characters of the text, by which a person recognises it. */
  readonly ending: string;
  readonly created: number;
  readonly expires?: number;
  readonly revoked?: number;
  readonly roles: readonly Role[];
  /** Patterns over model names (`*` is any text); empty: every model. */
  readonly models: readonly string[];
  readonly limits: CallerLimits;
}

/** Keys are few enough to be held by every process (100,000 and more); changes are followed by revision. */
export interface KeyStore {
  /** The keys changed after that revision (0: all there are), and the revision that they bring one to. */
  since(revision: number): Promise<{ readonly keys: readonly KeyRecord[]; readonly revision: number }>;
  /** Adds all or none. Throws `KeyConflict` when a name, an id or a digest is taken. */
  insert(keys: readonly KeyRecord[]): Promise<void>;
  /** Changes one key by its id or name, undisturbed by others who do the same; undefined when there is none. `change` may be called again, and what it throws passes on. */
  change(idOrName: string, change: (key: KeyRecord) => KeyRecord): Promise<KeyRecord | undefined>;
  /** By id or name. */
  find(idOrName: string): Promise<KeyRecord | undefined>;
  /** Says within a second that something has changed, whichever process did it. Returns what ends that. */
  watch(onChange: () => void): () => void;
}

/** A key that is to be added is there already; the message names which, and never the key. */
export class KeyConflict extends StateError {
  override readonly name = "KeyConflict";
}

/** One call that is over. No word of what was said in it, but where `capture` is switched on. */
export interface UsageRecord {
  /** The call's id, as in the log. */
  readonly id: string;
  /** When it came. */
  readonly time: number;
  /** The principal's id; "": no key was asked for. */
  readonly key: string;
  readonly path: string;
  /** As the caller wrote it, at most 200 characters. */
  readonly model: string;
  /** Name of the provider or upstream, and of the agent behind it; "" when none was reached or known. */
  readonly provider: string;
  readonly agent: string;
  readonly promptTokens: number;
  readonly cachedTokens: number;
  readonly completionTokens: number;
  readonly counted: Counted;
  /** In millionths of the currency. */
  readonly spend: number;
  /** Milliseconds until the first byte of the answer's content; null: there was none. */
  readonly firstToken: number | null;
  readonly duration: number;
  readonly bytesIn: number;
  readonly bytesOut: number;
  readonly status: number;
  /** `refused`: by this program, before anybody was asked. `left`: the client was gone first. `failed`: an error status or a broken answer. */
  readonly outcome: "complete" | "left" | "failed" | "refused";
  /** What was said, where `usage.capture` is on. */
  readonly content?: { readonly request: string; readonly reply: string };
}

/** What one writer adds at a time. The same sequence of the same writer counts once, however often it is added. */
export interface UsageBatch {
  /** Names the journal that the records come from. */
  readonly writer: string;
  /** Grows with each batch of the writer. */
  readonly sequence: number;
  readonly records: readonly UsageRecord[];
}

export const usageGroups = ["day", "month", "key", "model", "provider", "agent"] as const;
export type UsageGroup = (typeof usageGroups)[number];

export interface UsageQuery {
  /** First and last day of UTC, `2026-11-22`; both count. */
  readonly from: string;
  readonly to: string;
  readonly by: readonly UsageGroup[];
  /** Only these, where given. */
  readonly key?: string;
  readonly model?: string;
}

/** A line of a report, from sums that are kept by day, key, model, provider and agent. */
export interface UsageSum {
  /** Value of each asked group. */
  readonly group: Readonly<Partial<Record<UsageGroup, string>>>;
  readonly requests: number;
  /** Of them, those that did not end in a complete answer. */
  readonly failures: number;
  readonly promptTokens: number;
  readonly cachedTokens: number;
  readonly completionTokens: number;
  readonly spend: number;
  /** Milliseconds, all together. */
  readonly duration: number;
}

export interface UsageStore {
  /** Adds the records and their sums in one step; false: this batch was added before. */
  add(batch: UsageBatch): Promise<boolean>;
  /** Of that writer; 0: none yet. */
  lastSequence(writer: string): Promise<number>;
  /** Lines in the order of their groups. */
  sums(query: UsageQuery): Promise<UsageSum[]>;
  /** Single calls, newest first, before that time, at most `limit` (1 to 1000). */
  list(query: { readonly before?: number; readonly key?: string; readonly limit: number }): Promise<UsageRecord[]>;
  /** When each of these keys was last used. */
  lastUsed(keys: readonly string[]): Promise<ReadonlyMap<string, number>>;
  /** Forgets records (never sums) older than that time, and the oldest beyond `most`; sums older than `sumsBefore`. Returns how many records. Works in small steps. */
  trim(bounds: { readonly before: number; readonly most: number; readonly sumsBefore: number }): Promise<number>;
}

/** A quantity that fills up again, shared by all replicas. */
export interface Meter {
  /** E.g. `k2abc…/tokens/2026-11-22`: with the day or month that it belongs to, or with its size where it fills up again. */
  readonly id: string;
  /** Most that it holds; it begins full. */
  readonly capacity: number;
  /** Units a second that come back; 0: none do. */
  readonly refill: number;
  /** After this time it may be forgotten. */
  readonly expires: number;
}

/** Gives back what was not used (a negative number: more was used than was had), then takes. */
export interface MeterExchange {
  readonly meter: Meter;
  readonly give: number;
  /** As much of this as there is, but nothing when there is less than `least`. */
  readonly want: number;
  readonly least: number;
}

export interface MeterGrant {
  readonly granted: number;
  /** What is left for all, after it. May be negative. */
  readonly level: number;
}

/** Places that are taken and left again: calls under way. */
export interface MeterHold {
  readonly id: string;
  /** Most that all replicas may hold together. */
  readonly most: number;
  /** How many this replica wants to hold now, in place of what it holds. */
  readonly want: number;
}

export interface MeterStore {
  /** Each exchange by itself is one step, by the store's own clock, which may jump backwards without giving or taking anything. */
  exchange(exchanges: readonly MeterExchange[]): Promise<MeterGrant[]>;
  /** How many the replica holds from now on, for `holdTime` unless it asks again; less is always granted. */
  hold(replica: string, holds: readonly MeterHold[]): Promise<number[]>;
}

/** Milliseconds after which what a replica held is free again, when it is not heard of. */
export const holdTime = 15_000;

export interface ResponseStore {
  /** Keeps the text for `lifetime` milliseconds under this id of this principal; at most 8 MB. */
  put(principal: string, id: string, text: string, lifetime: number): Promise<void>;
  get(principal: string, id: string): Promise<string | undefined>;
  /** False: there was none. */
  delete(principal: string, id: string): Promise<boolean>;
}

export interface DocumentStore {
  /** Undefined: there is none. At most 8 MB. */
  read(name: string): Promise<string | undefined>;
  /** Changes it, undisturbed by others who do the same. `change` may be called again, and what it throws passes on. */
  change(name: string, change: (text: string | undefined) => string): Promise<string>;
  /** Says within a second that it has changed, whichever process did it. Returns what ends that. */
  watch(name: string, onChange: () => void): () => void;
}
