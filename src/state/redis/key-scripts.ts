import type { RedisScript } from "./connection.ts";

// KEYS of all: schema, records, revisions, names, digests. A record is its version, `r` or `-` for revoked or not, and JSON.

/**
 * ARGV: channel, then for each key: id, name, digest, previous digest or "", record. Answers the revision, or what is taken: its kind and
 * the name or id of who has it.
 */
export const insertKeys: RedisScript = {
  name: "insert keys",
  text: `
    local seen = { id = {}, name = {}, digest = {} }
    local function owner(kind, value, id)
      local held = seen[kind][value]
      if not held and kind == 'id' and redis.call('HEXISTS', KEYS[2], value) == 1 then held = value end
      if not held and kind == 'name' then held = redis.call('HGET', KEYS[4], value) end
      if not held and kind == 'digest' then held = redis.call('HGET', KEYS[5], value) end
      seen[kind][value] = id
      return held
    end
    for i = 2, #ARGV, 5 do
      local id = ARGV[i]
      if owner('id', id, id) then return { 'id', id } end
      if owner('name', ARGV[i + 1], id) then return { 'name', ARGV[i + 1] } end
      for d = i + 2, i + 3 do
        local other = ARGV[d] ~= '' and owner('digest', ARGV[d], id)
        if other then return { 'digest', other } end
      end
    end
    local revision = redis.call('HINCRBY', KEYS[1], 'keys', 1)
    for i = 2, #ARGV, 5 do
      redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 4])
      redis.call('ZADD', KEYS[3], revision, ARGV[i])
      redis.call('HSET', KEYS[4], ARGV[i + 1], ARGV[i])
      redis.call('HSET', KEYS[5], ARGV[i + 2], ARGV[i])
      if ARGV[i + 3] ~= '' then redis.call('HSET', KEYS[5], ARGV[i + 3], ARGV[i]) end
    end
    redis.call('PUBLISH', ARGV[1], 'keys')
    return revision`,
};

/**
 * ARGV: channel, id, the version that was read, record, then the same three of before and of now: name, digest, previous digest or "".
 * Answers the revision, `again` when somebody else was faster, or what is taken.
 */
export const changeKey: RedisScript = {
  name: "change key",
  text: `
    local id = ARGV[2]
    local held = redis.call('HGET', KEYS[2], id)
    if not held or string.match(held, '^%d+') ~= ARGV[3] then return 'again' end
    local other = redis.call('HGET', KEYS[4], ARGV[8])
    if other and other ~= id then return { 'name', ARGV[8] } end
    for d = 9, 10 do
      other = ARGV[d] ~= '' and redis.call('HGET', KEYS[5], ARGV[d])
      if other and other ~= id then return { 'digest', other } end
    end
    redis.call('HDEL', KEYS[4], ARGV[5])
    redis.call('HDEL', KEYS[5], ARGV[6], ARGV[7])
    redis.call('HSET', KEYS[4], ARGV[8], id)
    redis.call('HSET', KEYS[5], ARGV[9], id)
    if ARGV[10] ~= '' then redis.call('HSET', KEYS[5], ARGV[10], id) end
    redis.call('HSET', KEYS[2], id, ARGV[4])
    local revision = redis.call('HINCRBY', KEYS[1], 'keys', 1)
    redis.call('ZADD', KEYS[3], revision, id)
    redis.call('PUBLISH', ARGV[1], 'keys')
    return revision`,
};

/** ARGV: revision. Answers the life, the revision now, and the ids of what was changed after it. */
export const idsSince: RedisScript = {
  name: "ids since",
  text: `
    local marks = redis.call('HMGET', KEYS[1], 'life', 'keys')
    return { marks[1] or '', tonumber(marks[2] or 0), redis.call('ZRANGEBYSCORE', KEYS[3], '(' .. ARGV[1], '+inf') }`,
};

/**
 * After a loss. ARGV: the highest revision that is remembered, and another. What has a revision between them counts as changed now, so that all
 * read it anew: revisions that were lost are given out again, and mean something else.
 */
export const liftRevisions: RedisScript = {
  name: "lift revisions",
  text: `
    local revision = tonumber(redis.call('HGET', KEYS[1], 'keys') or 0)
    revision = math.max(revision, tonumber(ARGV[1])) + 1
    redis.call('HSET', KEYS[1], 'keys', string.format('%.0f', revision))
    local ids = redis.call('ZRANGEBYSCORE', KEYS[3], ARGV[2], ARGV[1])
    for _, id in ipairs(ids) do redis.call('ZADD', KEYS[3], revision, id) end
    return #ids`,
};

/** Whether a version with that flag is to take the place of what is kept of the key: it is newer, or revoked alone. */
const isLacking = `
    local function isLacking(id, version, flag)
      local held, revoked = string.match(redis.call('HGET', KEYS[2], id) or '0-', '^(%d+)([-r])')
      if revoked ~= flag then return flag == 'r' end
      return tonumber(held) < tonumber(version)
    end`;

/** ARGV: for each key: id, version, `r` or `-`. Answers the ids of those that are lacking. */
export const lackingKeys: RedisScript = {
  name: "lacking keys",
  text: `
    ${isLacking}
    local lacking = {}
    for i = 1, #ARGV, 3 do
      if isLacking(ARGV[i], ARGV[i + 1], ARGV[i + 2]) then lacking[#lacking + 1] = ARGV[i] end
    end
    return lacking`,
};

/**
 * ARGV as of `insertKeys`. Puts back those that are lacking, for another process may have been faster, and answers how many. A name or
 * digest that another key has stays with that one.
 */
export const restoreKeys: RedisScript = {
  name: "restore keys",
  text: `
    ${isLacking}
    local revision, restored = redis.call('HINCRBY', KEYS[1], 'keys', 1), 0
    for i = 2, #ARGV, 5 do
      local version, flag = string.match(ARGV[i + 4], '^(%d+)([-r])')
      if isLacking(ARGV[i], version, flag) then
        restored = restored + 1
        local held = redis.call('HGET', KEYS[2], ARGV[i])
        if held then
          local before = cjson.decode(string.match(held, '{.*'))
          if redis.call('HGET', KEYS[4], before.name) == ARGV[i] then redis.call('HDEL', KEYS[4], before.name) end
          redis.call('HDEL', KEYS[5], before.digest, before.previous and before.previous.digest or '')
        end
        redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 4])
        redis.call('ZADD', KEYS[3], revision, ARGV[i])
        redis.call('HSETNX', KEYS[4], ARGV[i + 1], ARGV[i])
        redis.call('HSETNX', KEYS[5], ARGV[i + 2], ARGV[i])
        if ARGV[i + 3] ~= '' then redis.call('HSETNX', KEYS[5], ARGV[i + 3], ARGV[i]) end
      end
    end
    redis.call('PUBLISH', ARGV[1], 'keys')
    return restored`,
};
