import type { ResponseStore } from "../state.ts";
import { type Clock, readClock } from "./clock.ts";
import type { RedisConnection, RedisScript } from "./connection.ts";
import { checkLength } from "./texts.ts";

/** ARGV: clock, lifetime, text. */
const putScript: RedisScript = {
  name: "put response",
  text: `
    ${readClock}
    redis.call('HSET', KEYS[1], 'text', ARGV[3], 'until', string.format('%.17g', now + ARGV[2]))
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
    return 1`,
};

const getScript: RedisScript = {
  name: "get response",
  text: `
    ${readClock}
    local ends = redis.call('HGET', KEYS[1], 'until')
    if not ends or tonumber(ends) <= now then return false end
    return redis.call('HGET', KEYS[1], 'text')`,
};

const deleteScript: RedisScript = {
  name: "delete response",
  text: `
    ${readClock}
    local ends = redis.call('HGET', KEYS[1], 'until')
    redis.call('DEL', KEYS[1])
    if ends and tonumber(ends) > now then return 1 end
    return 0`,
};

/** Answers in Redis, which forgets them by itself. */
export class RedisResponses implements ResponseStore {
  readonly #connection: RedisConnection;
  readonly #clock: Clock;

  constructor(connection: RedisConnection, clock: Clock) {
    this.#connection = connection;
    this.#clock = clock;
  }

  async put(principal: string, id: string, text: string, lifetime: number): Promise<void> {
    checkLength("the response", text);
    const args = [this.#clock.argument(), Math.max(1, Math.ceil(lifetime)), text];
    await this.#connection.script(putScript, [this.#key(principal, id)], args);
  }

  async get(principal: string, id: string): Promise<string | undefined> {
    const reply = await this.#connection.script(getScript, [this.#key(principal, id)], [this.#clock.argument()]);
    return typeof reply === "string" ? reply : undefined;
  }

  async delete(principal: string, id: string): Promise<boolean> {
    return (await this.#connection.script(deleteScript, [this.#key(principal, id)], [this.#clock.argument()])) === 1;
  }

  #key(principal: string, id: string): string {
    return this.#connection.key(`response:${JSON.stringify([principal, id])}`);
  }
}
