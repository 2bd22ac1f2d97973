import type { RedisScript } from "./connection.ts";

// KEYS: a hash of entries by id, each `<epoch> <JSON>`, and a sorted set of ids by the time of their end.
const now = "local time = redis.call('TIME') local now = time[1] * 1000 + math.floor(time[2] / 1000)";
// With nobody left who writes, nothing stays behind.
const keep =
  "redis.call('PEXPIRE', KEYS[1], 4 * tonumber(ARGV[1])) redis.call('PEXPIRE', KEYS[2], 4 * tonumber(ARGV[1]))";

/** ARGV: lifetime in milliseconds, channel, message, then id and entry of each. */
export const tellScript: RedisScript = {
  name: "agents-tell",
  text: `${now}
for i = 4, #ARGV, 2 do
  redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
  redis.call('ZADD', KEYS[2], now + ARGV[1], ARGV[i])
end
${keep}
return redis.call('PUBLISH', ARGV[2], ARGV[3])`,
};

/** ARGV: lifetime in milliseconds, channel, message, then ids. Puts their end off, takes out those whose end has come; gives the ids that are not there. */
export const beatScript: RedisScript = {
  name: "agents-beat",
  text: `${now}
local missing = {}
for i = 4, #ARGV do
  if redis.call('HEXISTS', KEYS[1], ARGV[i]) == 1 then redis.call('ZADD', KEYS[2], now + ARGV[1], ARGV[i])
  else missing[#missing + 1] = ARGV[i] end
end
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now, 'LIMIT', 0, 500)) do
  redis.call('HDEL', KEYS[1], id)
  redis.call('ZREM', KEYS[2], id)
end
${keep}
redis.call('PUBLISH', ARGV[2], ARGV[3])
return missing`,
};

/** ARGV: channel, who says so, then id and epoch of each. Takes out those that still have this epoch, and tells of them. */
export const dropScript: RedisScript = {
  name: "agents-drop",
  text: `local gone = {}
for i = 3, #ARGV, 2 do
  local entry = redis.call('HGET', KEYS[1], ARGV[i])
  if entry and string.match(entry, '^%d+') == ARGV[i + 1] then
    redis.call('HDEL', KEYS[1], ARGV[i])
    redis.call('ZREM', KEYS[2], ARGV[i])
    gone[#gone + 1] = ARGV[i]
  end
end
if #gone > 0 then redis.call('PUBLISH', ARGV[1], cjson.encode({ relay = ARGV[2], gone = gone })) end
return #gone`,
};

/** The ids whose end has not come. */
export const aliveScript: RedisScript = {
  name: "agents-alive",
  text: `${now}
return redis.call('ZRANGEBYSCORE', KEYS[2], now, '+inf')`,
};
