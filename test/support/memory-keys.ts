import { KeyConflict, type KeyRecord, type KeyStore, type State, StateError } from "../../src/state/state.ts";

/** The keys of a state in this process's memory, which can be taken away and brought back. */
export class MemoryKeys implements KeyStore {
  /** Asked now, it fails with `StateError`. */
  away = false;
  readonly #keys = new Map<string, { key: KeyRecord; revision: number }>();
  readonly #watchers = new Set<() => void>();
  #revision = 0;

  /** As the rest of the program sees it. Nothing else of a state is there. */
  asState(): State {
    const usage = { lastUsed: () => Promise.resolve(new Map<string, number>()) };
    return { keys: this, usage } as unknown as State;
  }

  /** What a store is like that was lost, or set back to another time. */
  replace(keys: readonly KeyRecord[]): void {
    this.#keys.clear();
    this.#revision = 0;
    for (const key of keys) this.#put(key);
    this.tell();
  }

  tell(): void {
    for (const watcher of this.#watchers) watcher();
  }

  since(revision: number): Promise<{ keys: readonly KeyRecord[]; revision: number }> {
    if (this.away) return Promise.reject(new StateError("the state is away"));
    const changed = [...this.#keys.values()].filter((one) => one.revision > revision);
    return Promise.resolve({ keys: changed.map(({ key }) => key), revision: this.#revision });
  }

  insert(keys: readonly KeyRecord[]): Promise<void> {
    for (const { name } of keys)
      if (this.#named(name) !== undefined)
        return Promise.reject(new KeyConflict(`the name ${JSON.stringify(name)} is taken`));
    for (const key of keys) this.#put(key);
    this.tell();
    return Promise.resolve();
  }

  change(idOrName: string, change: (key: KeyRecord) => KeyRecord): Promise<KeyRecord | undefined> {
    const key = this.#named(idOrName);
    if (key === undefined) return Promise.resolve(undefined);
    try {
      const changed = change(key);
      this.#put(changed);
      this.tell();
      return Promise.resolve(changed);
    } catch (error) {
      return Promise.reject(error as Error);
    }
  }

  find(idOrName: string): Promise<KeyRecord | undefined> {
    return Promise.resolve(this.#named(idOrName));
  }

  watch(onChange: () => void): () => void {
    this.#watchers.add(onChange);
    return () => void this.#watchers.delete(onChange);
  }

  #put(key: KeyRecord): void {
    this.#keys.set(key.id, { key, revision: ++this.#revision });
  }

  #named(idOrName: string): KeyRecord | undefined {
    return [...this.#keys.values()].map(({ key }) => key).find(({ id, name }) => id === idOrName || name === idOrName);
  }
}
