import { resolve } from "node:path";
import type { Log } from "../../core/log.ts";
import type { State } from "../state.ts";
import { type Driver, loadDriver } from "./database.ts";
import { SqliteDocuments } from "./document-store.ts";
import { KeyBackup } from "./key-backup.ts";
import { SqliteKeys } from "./key-store.ts";
import { SqliteMeters } from "./meter-store.ts";
import { SqliteResponses } from "./response-store.ts";
import { StateFile } from "./state-file.ts";
import { SqliteUsage } from "./usage-store.ts";

export interface SqliteStateSettings {
  readonly log: Log;
  /** The clock of meters, places held and lifetimes; the machine's where it is absent. */
  readonly now?: () => number;
  /** Milliseconds for which what is asked waits while another process has the file locked; 5000 where it is absent. */
  readonly patience?: number;
  /** The library to use; the best there is where it is absent. */
  readonly driver?: Driver;
}

/**
 * Opens the state in that file, and makes it where there is none. What it says was written outlives the process, however
 * that ends; a power cut may take what was written last, never what was there before. Throws `StateError` with what is
 * wrong and what to do.
 */
export async function openSqliteState(path: string, settings: SqliteStateSettings): Promise<State> {
  const { log, now = Date.now, patience = 5000 } = settings;
  const driver = await loadDriver(settings.driver && [settings.driver]);
  const file = await StateFile.open(resolve(path), { driver, log, patience });
  const keys = new SqliteKeys(file);
  const backup = new KeyBackup(file.path, () => keys.since(0), log);
  const unwatch = keys.watch(() => backup.changed());
  if (!backup.exists()) backup.changed();
  return {
    kind: "sqlite",
    place: file.path,
    keys,
    usage: new SqliteUsage(file),
    meters: new SqliteMeters(file, now),
    responses: new SqliteResponses(file, now),
    documents: new SqliteDocuments(file),
    health: () => file.health(),
    async close() {
      unwatch();
      await backup.flush();
      await file.close();
    },
  };
}
