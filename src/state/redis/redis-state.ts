import type { Log } from "../../core/log.ts";
import type { State } from "../state.ts";
import { toClock } from "./clock.ts";
import { RedisConnection } from "./connection.ts";
import { RedisDocuments } from "./documents.ts";
import { RedisKeys } from "./keys.ts";
import { RedisMarks } from "./marks.ts";
import { RedisMeters } from "./meters.ts";
import { RedisResponses } from "./responses.ts";
import { RedisUsage } from "./usage.ts";

export interface RedisStateSettings {
  readonly log: Log;
  /** Names this process in Redis's list of clients. */
  readonly replica: string;
  /** The clock of meters and of the lifetimes of responses in place of Redis's own, in milliseconds since 1970. */
  readonly now?: () => number;
}

/**
 * Opens a Redis (6.2 or newer, best 7) or Valkey as state, at an address as `readRedisAddress` describes it. Everything is kept under one prefix that
 * a cluster keeps together. Throws `StateError` within about 3 seconds when it is not there or cannot be used.
 */
export async function openRedisState(url: string, settings: RedisStateSettings): Promise<State> {
  const connection = await RedisConnection.open(url, settings);
  try {
    const marks = await RedisMarks.open(connection, settings.log);
    return toState(connection, marks, settings.now);
  } catch (error) {
    await connection.close();
    throw error;
  }
}

function toState(connection: RedisConnection, marks: RedisMarks, now: (() => number) | undefined): State {
  const clock = toClock(now);
  return {
    kind: "redis",
    place: connection.place,
    keys: new RedisKeys(connection, marks),
    usage: new RedisUsage(connection),
    meters: new RedisMeters(connection, clock),
    responses: new RedisResponses(connection, clock),
    documents: new RedisDocuments(connection, marks),
    health: () => marks.health(),
    async close() {
      marks.close();
      await connection.close();
    },
  };
}
