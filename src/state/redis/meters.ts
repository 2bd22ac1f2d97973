import { holdTime, type MeterExchange, type MeterGrant, type MeterHold, type MeterStore } from "../state.ts";
import { type Clock, readClock } from "./clock.ts";
import type { RedisConnection, RedisScript } from "./connection.ts";

/** Most meters in one script, which nobody else's command interrupts. */
const pageSize = 500;
/** Milliseconds: the longest and shortest that a meter is kept. */
const kept = { least: 1000, most: 400 * 86_400_000 };

/**
 * A meter is one text: level, when that was, capacity, until when; numbers with 17 digits, which give back the very same double. ARGV: clock, then
 * for each key capacity, refill, lifetime, give, want, least.
 */
const exchangeScript: RedisScript = {
  name: "exchange",
  text: `
    ${readClock}
    local grants = {}
    for i, key in ipairs(KEYS) do
      local a = 6 * i - 4
      local capacity, refill, lifetime = tonumber(ARGV[a]), tonumber(ARGV[a + 1]), tonumber(ARGV[a + 2])
      local give, want, least = tonumber(ARGV[a + 3]), tonumber(ARGV[a + 4]), tonumber(ARGV[a + 5])
      local level = capacity
      local held = redis.call('GET', key)
      if held then
        local before, time, size, ends = string.match(held, '(%S+) (%S+) (%S+) (%S+)')
        if now < tonumber(ends) then
          level = before + math.max(0, now - time) / 1000 * refill + (capacity - size)
        end
      end
      level = math.min(capacity, level + give)
      local granted = 0
      if level >= least then granted = math.max(0, math.min(want, level)) end
      level = level - granted
      redis.call('SET', key, string.format('%.17g %.17g %.17g %.17g', level, now, capacity, now + lifetime), 'PX', lifetime)
      grants[2 * i - 1] = string.format('%.17g', granted)
      grants[2 * i] = string.format('%.17g', level)
    end
    return grants`,
};

/** A hash of replicas: how many each holds, until when. ARGV: clock, replica, then for each key most and want. */
const holdScript: RedisScript = {
  name: "hold",
  text: `
    ${readClock}
    local latest = now + ${holdTime}
    local grants = {}
    for i, key in ipairs(KEYS) do
      local most, want = tonumber(ARGV[2 * i + 1]), tonumber(ARGV[2 * i + 2])
      local mine, others = 0, 0
      local all = redis.call('HGETALL', key)
      for f = 1, #all, 2 do
        local count, ends = string.match(all[f + 1], '(%S+) (%S+)')
        if tonumber(ends) <= now then
          redis.call('HDEL', key, all[f])
        elseif all[f] == ARGV[2] then
          mine = tonumber(count)
        else
          others = others + count
          -- The clock has jumped backwards since.
          if tonumber(ends) > latest then redis.call('HSET', key, all[f], string.format('%s %.17g', count, latest)) end
        end
      end
      local granted = want
      if want > mine then granted = math.min(want, math.max(mine, most - others)) end
      if granted > 0 then
        redis.call('HSET', key, ARGV[2], string.format('%.0f %.17g', granted, latest))
      else
        redis.call('HDEL', key, ARGV[2])
      end
      redis.call('PEXPIRE', key, ${2 * holdTime})
      grants[i] = string.format('%.0f', granted)
    end
    return grants`,
};

/** Meters in Redis, by its own clock: an exchange of many meters is one round trip and one step for each 500. */
export class RedisMeters implements MeterStore {
  readonly #connection: RedisConnection;
  readonly #clock: Clock;

  constructor(connection: RedisConnection, clock: Clock) {
    this.#connection = connection;
    this.#clock = clock;
  }

  async exchange(exchanges: readonly MeterExchange[]): Promise<MeterGrant[]> {
    const here = this.#clock.now?.() ?? Date.now();
    const replies = await this.#paged(exchanges, async (page) => {
      const keys = page.map(({ meter }) => this.#connection.key(`meter:${meter.id}`));
      const rest = page.flatMap(({ meter, give, want, least }) => {
        // By this process's clock, as its id is: Redis's may show another day.
        const lifetime = Math.ceil(Math.min(kept.most, Math.max(kept.least, meter.expires - here)));
        return [meter.capacity, meter.refill, lifetime, give, want, least];
      });
      const reply = await this.#connection.script(exchangeScript, keys, [this.#clock.argument(), ...rest]);
      return (reply as string[]).map(Number);
    });
    return exchanges.map((_, turn) => ({ granted: replies[2 * turn]!, level: replies[2 * turn + 1]! }));
  }

  hold(replica: string, holds: readonly MeterHold[]): Promise<number[]> {
    return this.#paged(holds, async (page) => {
      const keys = page.map(({ id }) => this.#connection.key(`hold:${id}`));
      const rest = page.flatMap(({ most, want }) => [most, want]);
      const reply = await this.#connection.script(holdScript, keys, [this.#clock.argument(), replica, ...rest]);
      return (reply as string[]).map(Number);
    });
  }

  async #paged<T>(all: readonly T[], ask: (page: readonly T[]) => Promise<number[]>): Promise<number[]> {
    if (all.length <= pageSize) return all.length === 0 ? [] : ask(all);
    const pages = Array.from({ length: Math.ceil(all.length / pageSize) }, (_, turn) =>
      ask(all.slice(turn * pageSize, (turn + 1) * pageSize)),
    );
    return (await Promise.all(pages)).flat();
  }
}
