import { randomBytes } from "node:crypto";
import { type DocumentStore, StateError } from "../state.ts";
import type { RedisConnection, RedisScript } from "./connection.ts";
import type { Loss, RedisMarks } from "./marks.ts";
import { checkLength } from "./texts.ts";

interface Held {
  readonly text: string;
  /** How often it was written, a dot, and something random: a version that Redis has lost is not taken for the one that is written in its place. */
  readonly version: string;
}

const none = "0";

const mostAttempts = 1000;

/** KEYS: schema, document. ARGV: channel, the version that was read, the next one, text. Answers 1, or 0 when somebody else was faster. */
const changeScript: RedisScript = {
  name: "change document",
  text: `
    if (redis.call('HGET', KEYS[2], 'version') or '0') ~= ARGV[2] then return 0 end
    redis.call('HSET', KEYS[2], 'text', ARGV[4], 'version', ARGV[3])
    redis.call('HINCRBY', KEYS[1], 'documents', 1)
    redis.call('PUBLISH', ARGV[1], 'documents')
    return 1`,
};

/** KEYS: schema, document. ARGV: channel, revision that is remembered, version, text. Answers whether it was put back. */
const restoreScript: RedisScript = {
  name: "restore document",
  text: `
    local revision = math.max(tonumber(redis.call('HGET', KEYS[1], 'documents') or 0), tonumber(ARGV[2]))
    local function count(version) return tonumber(string.match(version, '^%d+')) end
    local older = count(redis.call('HGET', KEYS[2], 'version') or '0') < count(ARGV[3])
    if older then redis.call('HSET', KEYS[2], 'text', ARGV[4], 'version', ARGV[3]) end
    redis.call('HSET', KEYS[1], 'documents', string.format('%.0f', revision + (older and 1 or 0)))
    if older then redis.call('PUBLISH', ARGV[1], 'documents') end
    return older and 1 or 0`,
};

/** Documents in Redis, each with a version by which two who change it at once find out. What was read is remembered, see `RedisMarks`. */
export class RedisDocuments implements DocumentStore {
  readonly #connection: RedisConnection;
  readonly #marks: RedisMarks;
  readonly #known = new Map<string, Held>();

  constructor(connection: RedisConnection, marks: RedisMarks) {
    this.#connection = connection;
    this.#marks = marks;
    marks.remember({ subject: "documents", restore: (loss) => this.#restore(loss) });
  }

  async read(name: string): Promise<string | undefined> {
    return (await this.#read(name))?.text;
  }

  async change(name: string, change: (text: string | undefined) => string): Promise<string> {
    for (let attempt = 0; attempt < mostAttempts; attempt++) {
      const before = await this.#read(name);
      const text = change(before?.text);
      checkLength(`the document "${name}"`, text);
      const version = `${countOf(before?.version ?? none) + 1}.${randomBytes(6).toString("hex")}`;
      const args = [this.#marks.channel, before?.version ?? none, version, text];
      const reply = await this.#connection.script(changeScript, this.#keys(name), args);
      if (reply !== 1) continue;
      this.#known.set(name, { text, version });
      return text;
    }
    throw new StateError(`the document "${name}" is changed by others all the time`);
  }

  watch(name: string, onChange: () => void): () => void {
    // What was changed since it was last read here is news, too.
    let version = this.#known.get(name)?.version ?? none;
    let over = false;
    const look = async (): Promise<void> => {
      const now = await this.#versionOf(name);
      if (now === version || over) return;
      version = now;
      onChange();
    };
    void look().catch(() => undefined);
    const stop = this.#marks.watch("documents", () => void look().catch(() => undefined));
    return () => {
      over = true;
      stop();
    };
  }

  async #read(name: string): Promise<Held | undefined> {
    const reply = await this.#connection.command(["HMGET", this.#keys(name)[1]!, "text", "version"]);
    const [text, version] = reply as (string | null)[];
    if (typeof text !== "string") return undefined;
    const held = { text, version: version ?? none };
    this.#known.set(name, held);
    return held;
  }

  async #versionOf(name: string): Promise<string> {
    return String((await this.#connection.command(["HGET", this.#keys(name)[1]!, "version"])) ?? none);
  }

  async #restore({ revision }: Loss): Promise<number> {
    let restored = 0;
    for (const [name, { text, version }] of this.#known) {
      const args = [this.#marks.channel, revision, version, text];
      restored += Number(await this.#connection.script(restoreScript, this.#keys(name), args));
    }
    return restored;
  }

  #keys(name: string): readonly string[] {
    return [this.#marks.key, this.#connection.key(`document:${name}`)];
  }
}

function countOf(version: string): number {
  return Number.parseInt(version, 10);
}
