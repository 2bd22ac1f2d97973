import { KeyConflict, type KeyRecord, type KeyStore, StateError } from "../state.ts";
import type { RedisConnection, RedisReply, RedisScript } from "./connection.ts";
import { changeKey, idsSince, insertKeys, liftRevisions, lackingKeys, restoreKeys } from "./key-scripts.ts";
import type { Loss, RedisMarks } from "./marks.ts";

interface Held {
  readonly record: KeyRecord;
  /** How often it was changed, and one. */
  readonly version: number;
}

const pageSize = 2000;
const mostAttempts = 1000;
/** More than are made within the second that a Redis may lose in a crash. */
const recentRevisions = 1000;

/**
 * Keys in Redis: a hash of records, a sorted set of ids by revision, and a hash each for names and digests, so that all three are unique. What
 * was read or written is remembered, to be put back when Redis loses it; see `RedisMarks`.
 */
export class RedisKeys implements KeyStore {
  readonly #connection: RedisConnection;
  readonly #marks: RedisMarks;
  readonly #known = new Map<string, Held>();
  readonly #keys: readonly string[];
  /** The revision that was read last. */
  #read: number | undefined;

  constructor(connection: RedisConnection, marks: RedisMarks) {
    this.#connection = connection;
    this.#marks = marks;
    const names = ["keys", "keys:revisions", "keys:names", "keys:digests"];
    this.#keys = [marks.key, ...names.map((name) => connection.key(name))];
    marks.remember({ subject: "keys", restore: (loss) => this.#restore(loss) });
  }

  async since(revision: number): Promise<{ readonly keys: readonly KeyRecord[]; readonly revision: number }> {
    const isStrange = this.#marks.suspect("keys");
    const [life, now, ids] = (await this.#script(idsSince, [revision])) as [string, number, string[]];
    if (isStrange(life, now)) {
      await this.#marks.look();
      return this.since(revision);
    }
    const keys: KeyRecord[] = [];
    for (let start = 0; start < ids.length; start += pageSize) {
      const page = ids.slice(start, start + pageSize);
      const reply = await this.#connection.command(["HMGET", this.#keys[1]!, ...page]);
      for (const text of reply as (string | null)[]) if (text !== null) keys.push(this.#remember(text).record);
    }
    this.#marks.saw("keys", now);
    this.#read = now;
    return { keys, revision: now };
  }

  async insert(keys: readonly KeyRecord[]): Promise<void> {
    if (keys.length === 0) return;
    const held = keys.map((record): Held => ({ record, version: 1 }));
    const reply = await this.#script(insertKeys, [this.#marks.channel, ...held.flatMap(toArguments)], keys.length);
    if (Array.isArray(reply)) throw toConflict(reply);
    for (const each of held) this.#known.set(each.record.id, each);
    this.#marks.saw("keys", Number(reply));
  }

  async change(idOrName: string, change: (key: KeyRecord) => KeyRecord): Promise<KeyRecord | undefined> {
    for (let attempt = 0; attempt < mostAttempts; attempt++) {
      const before = await this.#find(idOrName);
      if (before === undefined) return undefined;
      const now: Held = { record: { ...change(before.record), id: before.record.id }, version: before.version + 1 };
      const [id, name, digest, previous, text] = toArguments(now);
      const [, ...indexes] = toArguments(before).slice(0, 4);
      const args = [this.#marks.channel, id, before.version, text, ...indexes, name, digest, previous];
      const reply = await this.#script(changeKey, args);
      if (Array.isArray(reply)) throw toConflict(reply);
      if (reply === "again") continue;
      this.#known.set(id, now);
      this.#marks.saw("keys", Number(reply));
      return now.record;
    }
    throw new StateError(`the key "${idOrName}" is changed by others all the time`);
  }

  async find(idOrName: string): Promise<KeyRecord | undefined> {
    return (await this.#find(idOrName))?.record;
  }

  watch(onChange: () => void): () => void {
    const stop = this.#marks.watch("keys", onChange);
    // Seen by a look after it was last read, when nobody watched.
    if (this.#read !== undefined && this.#read < this.#marks.revision("keys")) setImmediate(onChange);
    return stop;
  }

  async #find(idOrName: string): Promise<Held | undefined> {
    const [, records, , names] = this.#keys as [string, string, string, string];
    const [text, id] = await this.#connection.pipeline([
      ["HGET", records, idOrName],
      ["HGET", names, idOrName],
    ]);
    if (typeof text === "string") return this.#remember(text);
    const named = typeof id === "string" ? await this.#connection.command(["HGET", records, id]) : null;
    return typeof named === "string" ? this.#remember(named) : undefined;
  }

  /** Reads a record, and keeps the latest of what was read of it. */
  #remember(text: string): Held {
    const held = decodeKey(text);
    const known = this.#known.get(held.record.id);
    if (known === undefined || known.version < held.version) this.#known.set(held.record.id, held);
    return held;
  }

  async #restore({ revision, all }: Loss): Promise<number> {
    await this.#script(liftRevisions, [revision, all ? "-inf" : revision - recentRevisions], this.#known.size);
    const known = [...this.#known.values()];
    let restored = 0;
    for (let start = 0; start < known.length; start += pageSize) {
      const page = known.slice(start, start + pageSize);
      const asked = page.flatMap(({ record, version }) => [record.id, version, toFlag(record)]);
      const lacking = (await this.#script(lackingKeys, asked)) as string[];
      if (lacking.length === 0) continue;
      const args = lacking.flatMap((id) => toArguments(this.#known.get(id)!));
      restored += Number(await this.#script(restoreKeys, [this.#marks.channel, ...args]));
    }
    return restored;
  }

  /** `count`: the keys that Redis is at work on; a hundred thousand keep it busy for a while. */
  #script(script: RedisScript, args: readonly (string | number)[], count = 0): Promise<RedisReply> {
    return this.#connection.script(script, this.#keys, args, 1000 + count / 5);
  }
}

function toArguments(held: Held): [id: string, name: string, digest: string, previous: string, text: string] {
  const { id, name, digest, previous } = held.record;
  return [id, name, toText(digest), previous === undefined ? "" : toText(previous.digest), encodeKey(held)];
}

function encodeKey({ record, version }: Held): string {
  const { digest, previous, ...rest } = record;
  const before = previous === undefined ? {} : { previous: { ...previous, digest: toText(previous.digest) } };
  return `${version}${toFlag(record)}${JSON.stringify({ ...rest, ...before, digest: toText(digest) })}`;
}

function decodeKey(text: string): Held {
  const start = text.indexOf("{");
  const { digest, previous, ...rest } = JSON.parse(text.slice(start));
  const before = previous === undefined ? {} : { previous: { ...previous, digest: toBytes(previous.digest) } };
  return { record: { ...rest, ...before, digest: toBytes(digest) }, version: Number.parseInt(text, 10) };
}

function toFlag(record: KeyRecord): string {
  return record.revoked === undefined ? "-" : "r";
}

function toText(digest: Buffer): string {
  return digest.toString("base64");
}

function toBytes(text: string): Buffer {
  return Buffer.from(text, "base64");
}

function toConflict([kind, who]: readonly RedisReply[]): KeyConflict {
  if (kind === "name") return new KeyConflict(`there is a key named "${String(who)}" already: choose another name`);
  if (kind === "id") return new KeyConflict(`there is a key with the id ${String(who)} already`);
  return new KeyConflict(`this very key is there already, with the id ${String(who)}`);
}
