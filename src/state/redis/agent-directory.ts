import { type AgentSession, decodeSession } from "../../core/agent-session.ts";
import { isObject, type Json, type JsonObject } from "../../core/json.ts";
import type { Log } from "../../core/log.ts";
import { within } from "../../core/within.ts";
import type { RedisConnection } from "./connection.ts";
import { aliveScript, beatScript, dropScript, tellScript } from "./directory-scripts.ts";

/** Milliseconds: how long a session stands that is not told of again, and between two such words. */
const lifetime = 15_000;
const beatInterval = 5000;
/** Without Redis nobody hears of anybody: so long what was known last is believed. */
const lifetimeAlone = 30_000;
/** After Redis was away, until every relay has spoken again. */
const settleTime = 2 * beatInterval;
/** Longest that a caller waits for what is read once more. */
const mostPatience = 500;
/** Sessions in one step, and about how many characters of them: Redis does nothing else meanwhile. */
const atOnce = { sessions: 200, characters: 4 * 1024 * 1024 };

/**
 * The sessions of all relays that share a Redis. Each relay writes its own, with an end that it puts off every few seconds,
 * and holds all others in memory; what changes is published, and with each beat a list of all that a relay has, which
 * mends whatever was missed. Nobody waits for Redis but who calls `reread` or `close`, and they not for long.
 */
export class RedisAgentDirectory {
  readonly sessions: ReadonlyMap<string, AgentSession>;
  readonly #redis: RedisConnection;
  readonly #log: Log;
  readonly #now: () => number;
  readonly #keys: readonly string[];
  readonly #channel: string;
  readonly #sessions = new Map<string, AgentSession>();
  /** When the last word about each came. */
  readonly #heard = new Map<string, number>();
  /** To be read, as they are new or others. */
  readonly #wanted = new Set<string>();
  /** Epochs of our own as they stand in Redis. */
  readonly #written = new Map<string, number>();
  #relay = "";
  #own: () => readonly AgentSession[] = () => [];
  #onChange: () => void = () => undefined;
  #endings: (() => void)[] = [];
  #beaten = 0;
  #touched = false;
  /** Writes follow one another. */
  #writing: Promise<void> = Promise.resolve();
  #reading: Promise<void> | undefined;
  /** When Redis was found again. */
  #found = Number.NEGATIVE_INFINITY;

  /** `now`: milliseconds, whatever the machine's clock is set to. */
  constructor(redis: RedisConnection, log: Log, now: () => number = () => performance.now()) {
    this.#redis = redis;
    this.#log = log;
    this.#now = now;
    this.#keys = [redis.key("agents"), redis.key("agents:ends")];
    this.#channel = redis.key("agents:told");
    this.sessions = this.#sessions;
  }

  open(relay: string, own: () => readonly AgentSession[], onChange: () => void): void {
    this.#relay = relay;
    this.#own = own;
    this.#onChange = onChange;
    const timer = setInterval(() => this.#tick(), 1000).unref();
    this.#endings = [
      () => clearInterval(timer),
      this.#redis.onReady(() => this.#begin()),
      this.#redis.subscribe(this.#channel, (text) => this.#hear(text)),
    ];
    this.#begin();
  }

  touch(): void {
    if (this.#touched) return;
    this.#touched = true;
    // What one turn brings is told together.
    setImmediate(() => {
      this.#touched = false;
      this.#next(() => this.#tell());
    });
  }

  drop(sessions: readonly AgentSession[]): void {
    if (sessions.length === 0) return;
    for (const { id } of sessions) this.#forget(id);
    this.#onChange();
    this.#next(() => this.#drop(sessions.map(({ id, epoch }) => [id, epoch])));
  }

  async reread(): Promise<void> {
    if (!this.#redis.health().ok) return;
    this.#reading ??= this.#readAll().finally(() => (this.#reading = undefined));
    await within(this.#reading, mostPatience);
  }

  async close(): Promise<void> {
    for (const end of this.#endings) end();
    this.#endings = [];
    this.#own = () => [];
    this.#next(() => this.#tell());
    await within(this.#writing, mostPatience);
  }

  /** Redis is there, for the first time or again: it may have lost everything, and we may have missed anything. */
  #begin(): void {
    this.#found = this.#now();
    this.#written.clear();
    this.touch();
    void this.reread();
  }

  #tick(): void {
    const now = this.#now();
    const settled = this.#redis.health().ok && now - this.#found > settleTime;
    const oldest = now - (settled ? lifetime : lifetimeAlone);
    const silent = [...this.#heard].filter(([, time]) => time < oldest).map(([id]) => id);
    for (const id of silent) this.#forget(id);
    if (silent.length > 0) this.#onChange();
    if (now - this.#beaten < beatInterval) return;
    this.#beaten = now;
    this.#next(() => this.#beat());
  }

  #next(work: () => Promise<void>): void {
    this.#writing = this.#writing.then(async () => {
      if (!this.#redis.health().ok) return;
      try {
        await work();
      } catch (error) {
        // Redis says itself that it is away; what was not written is with the next beat, or when it is back.
        this.#log.debug({ error: String(error) }, "the other relays could not be told of the agents here");
      }
    });
  }

  /** Writes what has changed, and takes out what is gone. */
  async #tell(): Promise<void> {
    const own = this.#own();
    const changed = own.filter(({ id, epoch }) => this.#written.get(id) !== epoch);
    for (const piece of inPieces(changed)) {
      const message = { relay: this.#relay, told: piece.map(([{ id }]) => id) };
      const entries = piece.flatMap(([{ id, epoch }, text]) => [id, `${epoch} ${text}`]);
      const args = [lifetime, this.#channel, JSON.stringify(message), ...entries];
      await this.#redis.script(tellScript, this.#keys, args);
      for (const [{ id, epoch }] of piece) this.#written.set(id, epoch);
    }
    const here = new Set(own.map(({ id }) => id));
    await this.#drop([...this.#written].filter(([id]) => !here.has(id)));
  }

  async #drop(gone: readonly (readonly [id: string, epoch: number])[]): Promise<void> {
    if (gone.length === 0) return;
    await this.#redis.script(dropScript, this.#keys, [this.#channel, this.#relay, ...gone.flat()]);
    for (const [id] of gone) this.#written.delete(id);
  }

  async #beat(): Promise<void> {
    await this.#tell();
    const own = this.#own().filter(({ id }) => this.#written.has(id));
    const all = own.map(({ id, epoch, inFlight }) => [id, epoch, inFlight]);
    const args = [lifetime, this.#channel, JSON.stringify({ relay: this.#relay, all }), ...own.map(({ id }) => id)];
    const missing = (await this.#redis.script(beatScript, this.#keys, args)) as readonly string[];
    if (missing.length === 0) return;
    for (const id of missing) this.#written.delete(id);
    await this.#tell();
  }

  #hear(text: string): void {
    const message = readMessage(text);
    if (message === undefined || message.relay === this.#relay) return;
    const { relay, told, gone, all } = message;
    for (const id of texts(told)) this.#want(id);
    // That somebody thinks so of ours, the next beat finds out.
    for (const id of texts(gone)) this.#forget(id);
    if (Array.isArray(all)) this.#compare(relay as string, all);
    this.#onChange();
    if (this.#wanted.size > 0) void this.#readWanted();
  }

  /** With all that a relay has. */
  #compare(relay: string, all: readonly Json[]): void {
    const now = this.#now();
    const there = new Set<string>();
    for (const one of all) {
      const [id, epoch, inFlight] = Array.isArray(one) ? one : [];
      if (typeof id !== "string" || typeof inFlight !== "number") continue;
      there.add(id);
      const known = this.#sessions.get(id);
      if (known?.epoch !== epoch) this.#want(id);
      else if (known !== undefined) {
        this.#heard.set(id, now);
        if (known.inFlight !== inFlight) this.#sessions.set(id, { ...known, inFlight });
      }
    }
    const gone = [...this.#sessions.values()].filter((one) => one.relay === relay && !there.has(one.id));
    for (const { id } of gone) this.#forget(id);
  }

  #want(id: string): void {
    this.#wanted.add(id);
  }

  async #readAll(): Promise<void> {
    try {
      for (const id of (await this.#redis.script(aliveScript, this.#keys, [])) as readonly string[]) this.#want(id);
      await this.#readWanted();
    } catch (error) {
      this.#log.debug({ error: String(error) }, "the agents of other relays could not be read");
    }
  }

  async #readWanted(): Promise<void> {
    const own = `${this.#relay}/`;
    const ids = [...this.#wanted].filter((id) => !id.startsWith(own));
    this.#wanted.clear();
    const pieces = Array.from({ length: Math.ceil(ids.length / atOnce.sessions) }, (_, at) =>
      ids.slice(at * atOnce.sessions, (at + 1) * atOnce.sessions),
    );
    try {
      for (const piece of pieces) {
        const entries = (await this.#redis.command(["HMGET", this.#keys[0] as string, ...piece])) as (string | null)[];
        entries.forEach((entry, at) => this.#learn(piece[at] as string, entry));
      }
    } catch (error) {
      this.#log.debug({ error: String(error) }, "agents of other relays could not be read");
    }
    if (ids.length > 0) this.#onChange();
  }

  #learn(id: string, entry: string | null): void {
    const session = entry === null ? undefined : decodeSession(entry.slice(entry.indexOf(" ") + 1));
    if (session === undefined || session.id !== id) return;
    const known = this.#sessions.get(id);
    if (known !== undefined && known.epoch > session.epoch) return;
    this.#sessions.set(id, session);
    this.#heard.set(id, this.#now());
  }

  #forget(id: string): void {
    this.#heard.delete(id);
    this.#sessions.delete(id);
  }
}

/** A relay's word to the others; undefined for what is none. */
function readMessage(text: string): JsonObject | undefined {
  try {
    const json = JSON.parse(text) as Json;
    return isObject(json) && typeof json.relay === "string" ? json : undefined;
  } catch {
    return undefined;
  }
}

function texts(list: Json | undefined): string[] {
  return Array.isArray(list) ? list.filter((one) => typeof one === "string") : [];
}

/** Sessions with their texts, as many as go in one step. */
function* inPieces(sessions: readonly AgentSession[]): Generator<(readonly [AgentSession, string])[]> {
  let piece: (readonly [AgentSession, string])[] = [];
  let size = 0;
  for (const session of sessions) {
    const text = JSON.stringify(session);
    if (piece.length >= atOnce.sessions || (piece.length > 0 && size + text.length > atOnce.characters)) {
      yield piece;
      piece = [];
      size = 0;
    }
    piece.push([session, text]);
    size += text.length;
  }
  if (piece.length > 0) yield piece;
}
