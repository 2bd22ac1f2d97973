import type {
  KeyRecord,
  KeyStore,
  StateHealth,
  UsageBatch,
  UsageQuery,
  UsageRecord,
  UsageStore,
  UsageSum,
} from "../../src/state/state.ts";
import { StateError } from "../../src/state/state.ts";

/** The usage part of a state, in memory, which a test can take away and bring back. */
export class MemoryUsage implements UsageStore {
  /** Every record added, in its order. */
  readonly records: UsageRecord[] = [];
  /** Every batch that was asked for, added or not. */
  readonly asked: UsageBatch[] = [];
  readonly trimmed: Parameters<UsageStore["trim"]>[0][] = [];
  /** Batches with such a record it does not take, though it is well. */
  refuses: (record: UsageRecord) => boolean = () => false;
  readonly #last = new Map<string, number>();
  #away: "before" | "after" | undefined;

  /** From now on nothing works: batches are lost on their way there, or (`after`) their answers on the way back. */
  leaves(where: "before" | "after" = "before"): void {
    this.#away = where;
  }

  returns(): void {
    this.#away = undefined;
  }

  health(): StateHealth {
    return { ok: this.#away === undefined, since: 0 };
  }

  add(batch: UsageBatch): Promise<boolean> {
    this.asked.push(batch);
    if (this.#away === "before") return this.#fail();
    if (batch.records.some((record) => this.refuses(record))) return Promise.reject(new StateError("too odd"));
    const isNew = batch.sequence > (this.#last.get(batch.writer) ?? 0);
    if (isNew) this.records.push(...batch.records);
    if (isNew) this.#last.set(batch.writer, batch.sequence);
    return this.#away === "after" ? this.#fail() : Promise.resolve(isNew);
  }

  lastSequence(writer: string): Promise<number> {
    return this.#away === undefined ? Promise.resolve(this.#last.get(writer) ?? 0) : this.#fail();
  }

  sums({ by, key, model }: UsageQuery): Promise<UsageSum[]> {
    const sums = new Map<string, UsageSum>();
    for (const record of this.records) {
      if ((key !== undefined && record.key !== key) || (model !== undefined && record.model !== model)) continue;
      const day = new Date(record.time).toISOString().slice(0, 10);
      const all = { ...record, day, month: day.slice(0, 7) };
      const group = Object.fromEntries(by.map((name) => [name, all[name]]));
      const name = JSON.stringify(group);
      sums.set(name, added(sums.get(name) ?? { group, ...empty }, record));
    }
    return Promise.resolve([...sums.values()]);
  }

  list({ before = Infinity, key, limit }: Parameters<UsageStore["list"]>[0]): Promise<UsageRecord[]> {
    const fits = this.records.filter((record) => record.time < before && (key === undefined || record.key === key));
    return Promise.resolve(fits.toSorted((one, other) => other.time - one.time).slice(0, limit));
  }

  lastUsed(): Promise<ReadonlyMap<string, number>> {
    return Promise.resolve(new Map());
  }

  trim(bounds: Parameters<UsageStore["trim"]>[0]): Promise<number> {
    this.trimmed.push(bounds);
    return this.#away === undefined ? Promise.resolve(3) : this.#fail();
  }

  #fail(): Promise<never> {
    return Promise.reject(new StateError("the state is away"));
  }
}

/** The keys that a report asks for their names. */
export function memoryKeys(keys: readonly Pick<KeyRecord, "id" | "name">[]): KeyStore {
  const find = (idOrName: string): KeyRecord | undefined =>
    keys.find(({ id, name }) => id === idOrName || name === idOrName) as KeyRecord | undefined;
  return {
    since: () => Promise.resolve({ keys: keys as KeyRecord[], revision: 1 }),
    insert: () => Promise.resolve(),
    change: () => Promise.resolve(undefined),
    find: (idOrName) => Promise.resolve(find(idOrName)),
    watch: () => () => undefined,
  };
}

const empty = {
  requests: 0,
  failures: 0,
  promptTokens: 0,
  cachedTokens: 0,
  completionTokens: 0,
  spend: 0,
  duration: 0,
};

function added(sum: UsageSum, record: UsageRecord): UsageSum {
  return {
    group: sum.group,
    requests: sum.requests + 1,
    failures: sum.failures + Number(record.outcome !== "complete"),
    promptTokens: sum.promptTokens + record.promptTokens,
    cachedTokens: sum.cachedTokens + record.cachedTokens,
    completionTokens: sum.completionTokens + record.completionTokens,
    spend: sum.spend + record.spend,
    duration: sum.duration + record.duration,
  };
}
