import { createHash } from "node:crypto";
import { Redis } from "ioredis";
import type { Log } from "../../core/log.ts";
import { type StateHealth, StateError } from "../state.ts";
import { type RedisAddress, readRedisAddress } from "./address.ts";
import { type RedisProblem, readServer, toProblem } from "./failures.ts";
import { RedisLine } from "./line.ts";
import { RedisMessages } from "./messages.ts";

export type RedisReply = string | number | null | readonly RedisReply[];
export type RedisCommand = readonly [name: string, ...args: (string | number)[]];

/** A Lua script; its name is for messages. What it answers is texts and whole numbers. */
export interface RedisScript {
  readonly name: string;
  readonly text: string;
}

export interface RedisSettings {
  readonly log: Log;
  /** Names this process in Redis's list of clients. */
  readonly replica: string;
}

/** Milliseconds: for connecting, until an opening is given up, between looks at a server that cannot be used yet. */
const timings = { connect: 2000, open: 3000, again: 500 };

/**
 * The one door to Redis: commands on one connection, messages on another, both of which come back by themselves. While
 * Redis is away a command fails at once, and one under way within about a second, also when Redis is only frozen: nothing
 * waits in a queue. Everything is thrown as `StateError` that names the place, and never the password.
 *
 * For a store of your own: `open`, then `command`, `pipeline` and `script` on keys made by `key`, `subscribe` on channels made by
 * `key`, and `onReady`, which says that messages may have been missed.
 */
export class RedisConnection {
  readonly address: RedisAddress;
  readonly #log: Log;
  readonly #line: RedisLine;
  readonly #messages: RedisMessages;
  readonly #readyListeners = new Set<() => void>();
  readonly #digests = new Map<RedisScript, string>();
  #problem: RedisProblem | undefined = { text: "is not connected yet", lasting: false };
  #since = Date.now();
  #refusal: { readonly text: string; readonly since: number } | undefined;
  #run = "";
  #again: NodeJS.Timeout | undefined;
  #told: (() => void) | undefined;

  /** Connects; rejects with `StateError`, at once when only the operator can mend it, else after 3 seconds. */
  static async open(url: string, settings: RedisSettings): Promise<RedisConnection> {
    const connection = new RedisConnection(readRedisAddress(url), settings);
    try {
      await connection.#opened();
    } catch (error) {
      await connection.close();
      throw error;
    }
    return connection;
  }

  private constructor(address: RedisAddress, { log, replica }: RedisSettings) {
    this.address = address;
    this.#log = log;
    const options = toOptions(address, replica);
    this.#line = new RedisLine(new Redis(options), {
      ready: () => void this.#greet(),
      lost: (error) => this.#lose(toProblem(error)),
    });
    this.#messages = new RedisMessages(
      () => new Redis(options),
      () => this.#tellReady(),
    );
  }

  /** The address without credentials. */
  get place(): string {
    return this.address.place;
  }

  /** Another text after Redis was started anew or another one answers at its address; "" where it does not say. */
  get run(): string {
    return this.#run;
  }

  /** The full name of a key or channel. */
  key(name: string): string {
    return `${this.address.prefix}:${name}`;
  }

  /** `patience`, here and below: milliseconds for which Redis may be at work on it without a word; default one second. */
  async command([name, ...args]: RedisCommand, patience?: number): Promise<RedisReply> {
    return this.#guarded(() => this.#line.ask((client) => client.call(name, args), patience));
  }

  /** Several commands in one round trip, each by itself; rejects when one of them fails. */
  pipeline(commands: readonly RedisCommand[], patience?: number): Promise<RedisReply[]> {
    return Promise.all(commands.map((command) => this.command(command, patience)));
  }

  /** One step, between whose parts nobody comes. */
  async script(
    script: RedisScript,
    keys: readonly string[],
    args: readonly (string | number)[],
    patience?: number,
  ): Promise<RedisReply> {
    const rest = [keys.length, ...keys, ...args];
    return this.#guarded(async () => {
      try {
        return await this.#line.ask((client) => client.call("EVALSHA", [this.#digestOf(script), ...rest]), patience);
      } catch (error) {
        // It is new to this server, or the server has forgotten it in a restart.
        if (!(error instanceof Error && error.message.startsWith("NOSCRIPT"))) throw error;
        return await this.#line.ask((client) => client.call("EVAL", [script.text, ...rest]), patience);
      }
    });
  }

  /** Hears what is published on the channel, as long as the connection stands; see `onReady`. Returns what ends that. */
  subscribe(channel: string, listener: (text: string) => void): () => void {
    return this.#messages.subscribe(channel, listener);
  }

  /** Told after each time that Redis was away, and when messages are heard again: what was published meanwhile is lost, so look. */
  onReady(listener: () => void): () => void {
    this.#readyListeners.add(listener);
    return () => void this.#readyListeners.delete(listener);
  }

  health(): StateHealth {
    if (this.#problem !== undefined) return { ok: false, problem: this.#say(this.#problem.text), since: this.#since };
    if (this.#refusal === undefined) return { ok: true, since: this.#since };
    return { ok: false, problem: this.#say(this.#refusal.text), since: this.#refusal.since };
  }

  /** Waits for what is under way, then ends both connections. */
  async close(): Promise<void> {
    if (this.#problem === undefined) await this.#line.ask((client) => client.call("PING", [])).catch(() => undefined);
    clearTimeout(this.#again);
    this.#problem = { text: "is closed", lasting: true };
    this.#readyListeners.clear();
    this.#messages.close();
    this.#line.close();
  }

  async #guarded(ask: () => Promise<unknown>): Promise<RedisReply> {
    if (this.#problem !== undefined) throw new StateError(this.#say(this.#problem.text));
    try {
      return (await ask()) as RedisReply;
    } catch (error) {
      throw this.#toStateError(error as Error);
    }
  }

  #toStateError(error: Error): StateError {
    const { text, writing } = toProblem(error);
    if (writing === true && this.#refusal === undefined) {
      this.#refusal = { text, since: Date.now() };
      this.#log.error({ state: this.place }, this.#say(text));
      this.#tryWriting();
    }
    return new StateError(this.#say(text));
  }

  /** After a refused write: tries a small one until it is taken. On a replica the connection is made anew: its name may lead to the new primary. */
  #tryWriting(): void {
    clearTimeout(this.#again);
    this.#again = setTimeout(() => void this.#writeAgain(), timings.again).unref();
  }

  async #writeAgain(): Promise<void> {
    if (this.#problem !== undefined) return;
    try {
      await this.#line.ask((client) => client.call("SET", [this.key("probe"), "1", "PX", 1000]));
      this.#refusal = undefined;
      this.#log.info({ state: this.place }, this.#say("takes writes again"));
    } catch (error) {
      if ((error as Error).message.startsWith("READONLY")) this.#line.drop(error as Error);
      else this.#tryWriting();
    }
  }

  async #greet(): Promise<void> {
    try {
      const { run, problem, warning } = readServer(String(await this.#line.ask((client) => client.call("INFO", []))));
      if (problem !== undefined) return this.#greetAgain(problem);
      if (warning !== undefined) this.#log.warn({ state: this.place }, this.#say(warning));
      this.#run = run;
    } catch (error) {
      return this.#greetAgain(toProblem(error as Error));
    }
    clearTimeout(this.#again);
    if (this.#problem !== undefined) {
      this.#problem = undefined;
      this.#since = Date.now();
    }
    if (this.#told === undefined) this.#log.info({ state: this.place }, this.#say("answers again"));
    this.#told?.();
    this.#tellReady();
  }

  #greetAgain(problem: RedisProblem): void {
    this.#setProblem(problem);
    clearTimeout(this.#again);
    this.#again = setTimeout(() => this.#line.drop(new Error(problem.text)), timings.again).unref();
  }

  #lose(problem: RedisProblem): void {
    clearTimeout(this.#again);
    this.#refusal = undefined;
    this.#setProblem(problem);
  }

  #setProblem(problem: RedisProblem): void {
    if (this.#problem === undefined) {
      this.#since = Date.now();
      this.#log.error({ state: this.place }, this.#say(problem.text));
    }
    this.#problem = problem;
    this.#told?.();
  }

  #opened(): Promise<void> {
    return new Promise((resolve, reject) => {
      const end = (problem: RedisProblem | undefined): void => {
        clearTimeout(timer);
        this.#told = undefined;
        if (problem === undefined) resolve();
        else reject(new StateError(this.#say(problem.text)));
      };
      const timer = setTimeout(() => end(this.#problem), timings.open);
      this.#told = () => {
        if (this.#problem === undefined || this.#problem.lasting) end(this.#problem);
      };
    });
  }

  #tellReady(): void {
    if (this.#problem === undefined) for (const listener of this.#readyListeners) listener();
  }

  #digestOf(script: RedisScript): string {
    const known = this.#digests.get(script);
    if (known !== undefined) return known;
    const digest = createHash("sha1").update(script.text).digest("hex");
    this.#digests.set(script, digest);
    return digest;
  }

  #say(text: string): string {
    return `Redis at ${this.place} ${text}`;
  }
}

function toOptions(address: RedisAddress, replica: string) {
  return {
    ...address.server,
    connectionName: `lair-${replica.replace(/[^\w.-]/g, "-").slice(0, 100)}`,
    // Nothing that is not answered is kept for later: who asked has gone on without it.
    enableOfflineQueue: false,
    autoResendUnfulfilledCommands: false,
    autoResubscribe: false,
    maxRetriesPerRequest: 0,
    enableReadyCheck: false,
    disableClientInfo: true,
    protocol: 2 as const,
    connectTimeout: timings.connect,
    // A socket that is closed already would hold the process for this long.
    disconnectTimeout: 50,
    retryStrategy: (attempts: number) => Math.min(50 * 2 ** Math.min(attempts, 10), 1000) * (0.75 + Math.random() / 2),
  };
}
