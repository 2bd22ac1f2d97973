import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import type { KeyFields } from "../../src/access/key-fields.ts";
import { newKey } from "../../src/access/issue.ts";
import { loadConfig } from "../../src/config/load.ts";
import type { Config } from "../../src/config/schema.ts";
import { silent } from "../../src/core/log.ts";
import { type Gateway, startGateway } from "../../src/gateway.ts";
import { openState } from "../../src/open-state.ts";
import type { State, UsageRecord } from "../../src/state/state.ts";
import { keptLog, type KeptLog, waitUntil } from "./tunnel-log.ts";

/** A folder of a test's own, with a state in it that the servers of the test share, and that is looked into from outside as `lair keys` does. */
export interface Place {
  readonly folder: string;
  /** The state's file, or address. */
  readonly file: string;
  readonly state: State;
  /** The configuration that these variables make; `LAIR_STATE` is the state's file or address. */
  configure(env: Readonly<Record<string, string>>): Promise<Config>;
  /** The text of a new key. */
  createKey(name: string, fields?: KeyFields): Promise<string>;
  /** So many records, newest first: waits until they are there. */
  records(count: number): Promise<UsageRecord[]>;
  close(): Promise<void>;
}

/** `url`: that of a state elsewhere, in place of a file in the folder. */
export async function openPlace(url?: string): Promise<Place> {
  const folder = mkdtempSync(path.join(tmpdir(), "lair-gateway-"));
  const file = url ?? path.join(folder, "state.db");
  const state = await openState(file, { log: silent, replica: "test" });
  return {
    folder,
    file,
    state,
    configure: async (env) => {
      const variables = { LAIR_STATE: file, LAIR_PROVIDERS_OLLAMA_ENABLED: "false", ...env };
      return (await loadConfig({ env: variables, cwd: folder, home: folder })).config;
    },
    createKey: async (name, fields = {}) => {
      const { record, text } = newKey({ ...fields, name }, Date.now());
      await state.keys.insert([record]);
      return text;
    },
    records: async (count) => {
      let found: UsageRecord[] = [];
      await waitUntil(async () => {
        found = await state.usage.list({ limit: 1000 });
        return found.length >= count;
      }, `${count} usage records`);
      return found;
    },
    close: async () => {
      await state.close();
      rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
    },
  };
}

export interface HeldGateway extends Gateway {
  readonly log: KeptLog;
}

/** A gateway in this process before these upstreams, which come as in `LAIR_GATEWAY_UPSTREAMS`. */
export async function holdGateway(
  place: Place,
  upstreams: string,
  env: Readonly<Record<string, string>> = {},
): Promise<HeldGateway> {
  const folders = { XDG_DATA_HOME: place.folder, LOCALAPPDATA: place.folder };
  const servers = { LAIR_GATEWAY_PORT: "0", LAIR_GATEWAY_GRACE: "5s", LAIR_GATEWAY_UPSTREAMS: upstreams };
  const variables = { ...folders, ...servers, ...env };
  const log = keptLog();
  const config = await place.configure(variables);
  const gateway = await startGateway(config, log, { version: "0.0.0-test", env: variables });
  return Object.assign(gateway, { log });
}
