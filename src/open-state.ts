import type { Log } from "./core/log.ts";
import { type State, StateError } from "./state/state.ts";

export interface StateSettings {
  readonly log: Log;
  /** Names this process among those that share the state. */
  readonly replica: string;
}

/**
 * Opens what outlives the process: a path (or `sqlite:path`) is an SQLite file, made where there is none; `redis://`, `rediss://` and `unix:` are a
 * Redis or Valkey. Loads only the one that is asked for. Throws `StateError`, whose message holds no password.
 */
export async function openState(url: string, settings: StateSettings): Promise<State> {
  // A scheme has two letters at least: `C:\…` is a path.
  const [, scheme] = /^([a-z][a-z\d+.-]+):/i.exec(url) ?? [];
  switch (scheme?.toLowerCase()) {
    case "redis":
    case "rediss":
    case "unix": {
      const { openRedisState } = await import("./state/redis/redis-state.ts");
      return openRedisState(url, settings);
    }
    case "sqlite":
    case undefined: {
      const { openSqliteState } = await import("./state/sqlite/sqlite-state.ts");
      return openSqliteState(scheme === undefined ? url : url.slice("sqlite:".length), settings);
    }
    default:
      throw new StateError(`${scheme}: is no state; give the path of a file, or redis://host:6379`);
  }
}
