import { setImmediate as yieldToOthers } from "node:timers/promises";
import { KeyConflict, type KeyRecord, type KeyStore, StateError } from "../state.ts";
import { readCounter } from "./counters.ts";
import type { Database, Value } from "./database.ts";
import { addKeys, findKey, readKeys, replaceKey } from "./key-rows.ts";
import type { StateFile } from "./state-file.ts";

/** Keys read in one go, some 5 ms long, before others get their turn. */
const step = 1000;

export class SqliteKeys implements KeyStore {
  readonly #file: StateFile;

  constructor(file: StateFile) {
    this.#file = file;
  }

  async since(revision: number): Promise<{ keys: KeyRecord[]; revision: number }> {
    // A file that has taken the place of one that was ahead of it: nothing of it is known.
    const ahead = revision > (await this.#file.read((db) => readCounter(db, "revision")));
    const found = new Map<string, KeyRecord>();
    let reached = ahead ? 0 : revision;
    for (;;) {
      const page = await this.#file.read((db) => readKeys(db, reached, step));
      for (const key of page.keys) found.set(key.id, key);
      reached = page.revision;
      if (page.keys.length < step) return { keys: [...found.values()], revision: reached };
      await yieldToOthers();
    }
  }

  async insert(keys: readonly KeyRecord[]): Promise<void> {
    assertDistinct(keys);
    await this.#file.write((db) => {
      for (const key of keys) assertFree(db, key);
      addKeys(db, keys);
    });
    this.#file.changed();
  }

  async change(idOrName: string, change: (key: KeyRecord) => KeyRecord): Promise<KeyRecord | undefined> {
    const changed = await this.#file.write((db) => {
      const before = findKey(db, idOrName);
      if (before === undefined) return undefined;
      const after = change(before);
      if (after.id !== before.id) throw new StateError(`the key ${before.id} cannot get another id`);
      assertFree(db, after, before.id);
      replaceKey(db, after);
      return after;
    });
    this.#file.changed();
    return changed;
  }

  find(idOrName: string): Promise<KeyRecord | undefined> {
    return this.#file.read((db) => findKey(db, idOrName));
  }

  watch(onChange: () => void): () => void {
    return this.#file.watch(lastRevision, onChange);
  }
}

function lastRevision(db: Database): number {
  return Number(db.prepare("SELECT max(revision) FROM keys").get()?.[0] ?? 0);
}

function assertDistinct(keys: readonly KeyRecord[]): void {
  const [ids, names, digests] = [new Set<string>(), new Set<string>(), new Set<string>()];
  for (const { id, name, digest } of keys) {
    if (ids.size === ids.add(id).size) throw new KeyConflict(`two of the keys to be added have the id ${id}`);
    if (names.size === names.add(name).size)
      throw new KeyConflict(`two of the keys to be added have the name "${name}"`);
    if (digests.size === digests.add(digest.toString("latin1")).size) {
      throw new KeyConflict(`two of the keys to be added have the same text; one is named "${name}"`);
    }
  }
}

/** Throws when something of the key is another's; it may be `own`'s. */
function assertFree(db: Database, { id, name, digest }: KeyRecord, own?: string): void {
  const isTaken = (where: string, values: readonly Value[]): boolean =>
    db
      .prepare(`SELECT id FROM keys WHERE ${where}`)
      .all(values)
      .some(([holder]) => holder !== own);
  if (isTaken("id = ?", [id])) throw new KeyConflict(`there is a key with the id ${id} already`);
  if (isTaken("name = ?", [name])) throw new KeyConflict(`there is a key named "${name}" already; choose another name`);
  if (isTaken("digest = ? OR previous = ?", [digest, digest])) {
    throw new KeyConflict(`the text of the key "${name}" belongs to another key already`);
  }
}
