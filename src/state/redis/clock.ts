/** Whose clock scripts go by. */
export interface Clock {
  /** In place of Redis's own, in milliseconds since 1970. */
  readonly now: (() => number) | undefined;
  /** The first argument of a script that begins with `readClock`. */
  argument(): string | number;
}

/** Redis's own clock, or the one that is given. */
export function toClock(now: (() => number) | undefined): Clock {
  return { now, argument: now ?? (() => "") };
}

/** The beginning of a script: `now` is the time of its first argument or, where that is empty, of Redis, in milliseconds. */
export const readClock = `
    local now = tonumber(ARGV[1])
    if not now then
      local time = redis.call('TIME')
      now = time[1] * 1000 + time[2] / 1000
    end`;
