import type { UsageBatch, UsageQuery, UsageRecord, UsageStore, UsageSum } from "../state.ts";
import type { RedisConnection, RedisScript } from "./connection.ts";
import { decodeRecord, encodeRecord, recordBeginning, Report, sumUp, toDay } from "./usage-text.ts";

type ListQuery = Parameters<UsageStore["list"]>[0];
type TrimBounds = Parameters<UsageStore["trim"]>[0];

/** Most in one step of reading and of forgetting. */
const stepSize = 1000;
/** Records that are looked through in one step for those of one key. */
const searchSize = 5000;
const daysAtOnce = 8;

/**
 * KEYS: writers, records, last uses, days, then each day's sums. ARGV: writer, sequence, most records, number of last uses, of records, then
 * key and time of each last use, time and text of each record, and for each day its name, how many sums, and of each its name and seven counts.
 */
const addScript: RedisScript = {
  name: "add usage",
  text: `
    local before = redis.call('HGET', KEYS[1], ARGV[1])
    if before and tonumber(before) >= tonumber(ARGV[2]) then return 0 end
    redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
    local a = 6
    for _ = 1, ARGV[4] do
      local last = redis.call('HGET', KEYS[3], ARGV[a])
      if not last or tonumber(last) < tonumber(ARGV[a + 1]) then redis.call('HSET', KEYS[3], ARGV[a], ARGV[a + 1]) end
      a = a + 2
    end
    for _ = 1, ARGV[5] do
      redis.call('ZADD', KEYS[2], ARGV[a], ARGV[a + 1])
      a = a + 2
    end
    local over = redis.call('ZCARD', KEYS[2]) - ARGV[3]
    if over > 0 then redis.call('ZREMRANGEBYRANK', KEYS[2], 0, over - 1) end
    for k = 5, #KEYS do
      redis.call('SADD', KEYS[4], ARGV[a])
      local sums = ARGV[a + 1]
      a = a + 2
      for _ = 1, sums do
        local held, now = redis.call('HGET', KEYS[k], ARGV[a]), {}
        for count in string.gmatch(held or '0 0 0 0 0 0 0', '%S+') do
          now[#now + 1] = string.format('%.17g', count + ARGV[a + #now + 1])
        end
        redis.call('HSET', KEYS[k], ARGV[a], table.concat(now, ' '))
        a = a + 8
      end
    end
    return 1`,
};

/**
 * KEYS: records. ARGV: before or "", how many of those are known, how many to look at, the beginning of those that are sought. Answers how many were
 * looked at, and those that were found.
 */
const listScript: RedisScript = {
  name: "list usage",
  text: `
    local first = tonumber(ARGV[2])
    if ARGV[1] ~= '' then first = first + redis.call('ZCOUNT', KEYS[1], ARGV[1], '+inf') end
    local seen, found = redis.call('ZREVRANGE', KEYS[1], first, first + ARGV[3] - 1), {}
    for _, text in ipairs(seen) do
      if string.sub(text, 1, #ARGV[4]) == ARGV[4] then found[#found + 1] = text end
    end
    return { #seen, found }`,
};

/** KEYS: records. ARGV: before, most, step. Answers how many are gone; fewer than the step: all that should be. */
const trimScript: RedisScript = {
  name: "trim usage",
  text: `
    local over = redis.call('ZCARD', KEYS[1]) - ARGV[2]
    local old = redis.call('ZCOUNT', KEYS[1], '-inf', '(' .. ARGV[1])
    local count = math.min(math.max(over, old, 0), tonumber(ARGV[3]))
    if count > 0 then redis.call('ZREMRANGEBYRANK', KEYS[1], 0, count - 1) end
    return count`,
};

/**
 * Usage in Redis: a sorted set of records by time, a hash of sums for each day, a hash of when each key was last used and one of each
 * writer's last sequence. As all of it lives in memory, about 300 bytes for a record, there are never more records than the address allows by
 * `?records=`, 1,000,000 by itself: the oldest go first, their sums stay.
 */
export class RedisUsage implements UsageStore {
  readonly #connection: RedisConnection;
  readonly #writers: string;
  readonly #records: string;
  readonly #last: string;
  readonly #days: string;

  constructor(connection: RedisConnection) {
    this.#connection = connection;
    this.#writers = connection.key("usage:writers");
    this.#records = connection.key("usage:records");
    this.#last = connection.key("usage:last");
    this.#days = connection.key("usage:days");
  }

  async add(batch: UsageBatch): Promise<boolean> {
    const { writer, sequence, records } = batch;
    const last = new Map<string, number>();
    for (const { key, time } of records) last.set(key, Math.max(time, last.get(key) ?? 0));
    const days = [...sumUp(records)];
    const args = [writer, sequence, this.#connection.address.records, last.size, records.length, ...[...last].flat()];
    for (const [turn, { time }] of records.entries()) args.push(time, encodeRecord(batch, turn));
    for (const [day, sums] of days) {
      args.push(day, sums.size);
      for (const [name, counts] of sums) args.push(name, ...counts);
    }
    const keys = [this.#writers, this.#records, this.#last, this.#days, ...days.map(([day]) => this.#sumsKey(day))];
    return (await this.#connection.script(addScript, keys, args)) === 1;
  }

  async lastSequence(writer: string): Promise<number> {
    return Number(await this.#connection.command(["HGET", this.#writers, writer]));
  }

  async sums(query: UsageQuery): Promise<UsageSum[]> {
    const all = (await this.#connection.command(["SMEMBERS", this.#days])) as string[];
    const days = all.filter((day) => day >= query.from && day <= query.to);
    const report = new Report(query.by);
    for (let start = 0; start < days.length; start += daysAtOnce) {
      const page = days.slice(start, start + daysAtOnce);
      await Promise.all(page.map(async (day) => this.#addDay(report, day, query)));
    }
    return report.lines();
  }

  async list({ before, key, limit }: ListQuery): Promise<UsageRecord[]> {
    // A set: what is added meanwhile moves the others on, so that some are seen twice.
    const found = new Set<string>();
    const size = key === undefined ? limit : searchSize;
    const beginning = key === undefined ? "" : recordBeginning(key);
    for (let known = 0; ; known += size) {
      const args = [before ?? "", known, size, beginning];
      const reply = await this.#connection.script(listScript, [this.#records], args);
      const [seen, texts] = reply as [number, string[]];
      for (const text of texts) found.add(text);
      if (found.size >= limit || seen < size) return [...found].slice(0, limit).map(decodeRecord);
    }
  }

  async lastUsed(keys: readonly string[]): Promise<ReadonlyMap<string, number>> {
    const times = new Map<string, number>();
    for (let start = 0; start < keys.length; start += stepSize) {
      const page = keys.slice(start, start + stepSize);
      const reply = (await this.#connection.command(["HMGET", this.#last, ...page])) as (string | null)[];
      for (const [turn, time] of reply.entries()) if (time !== null) times.set(page[turn]!, Number(time));
    }
    return times;
  }

  async trim({ before, most, sumsBefore }: TrimBounds): Promise<number> {
    let gone = 0;
    for (;;) {
      const reply = await this.#connection.script(trimScript, [this.#records], [before, most, stepSize]);
      gone += Number(reply);
      if (Number(reply) < stepSize) break;
    }
    const days = (await this.#connection.command(["SMEMBERS", this.#days])) as string[];
    for (const day of days.filter((each) => each < toDay(sumsBefore))) {
      await this.#connection.command(["UNLINK", this.#sumsKey(day)]);
      await this.#connection.command(["SREM", this.#days, day]);
    }
    return gone;
  }

  async #addDay(report: Report, day: string, query: UsageQuery): Promise<void> {
    // A scan may say a thing twice.
    const seen = new Set<string>();
    let cursor = "0";
    do {
      const reply = await this.#connection.command(["HSCAN", this.#sumsKey(day), cursor, "COUNT", stepSize]);
      const [next, fields] = reply as [string, string[]];
      for (let turn = 0; turn < fields.length; turn += 2) {
        const name = fields[turn]!;
        if (!seen.has(name)) report.add(day, name, fields[turn + 1]!, query);
        seen.add(name);
      }
      cursor = next;
    } while (cursor !== "0");
  }

  #sumsKey(day: string): string {
    return this.#connection.key(`usage:sums:${day}`);
  }
}
