import type { Log } from "../../core/log.ts";
import { type State, StateError } from "../state.ts";
import { RedisConnection } from "./connection.ts";

export interface RedisStateSettings {
  readonly log: Log;
  readonly replica: string;
  /** The clock in place of Redis's own, in milliseconds since 1970; for tests. */
  readonly now?: () => number;
}

/** Opens a Redis or Valkey as state. Throws `StateError`. */
export async function openRedisState(url: string, settings: RedisStateSettings): Promise<State> {
  const connection = await RedisConnection.open(url, settings);
  await connection.close();
  throw new StateError("Redis as state is not complete yet");
}
