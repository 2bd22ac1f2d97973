import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { silent } from "../../src/core/log.ts";
import { openSqliteState } from "../../src/state/sqlite/sqlite-state.ts";
import type { State } from "../../src/state/state.ts";
import { stateContract } from "./contract.ts";
import { availableDrivers } from "./drivers.ts";

for (const driver of await availableDrivers()) {
  stateContract(`a state in an SQLite file (${driver})`, async (options = {}) => {
    const folder = mkdtempSync(path.join(tmpdir(), "lair-state-"));
    const opened: State[] = [];
    const again = async (): Promise<State> => {
      const state = await openSqliteState(path.join(folder, "state.db"), { log: silent, driver, ...options });
      opened.push(state);
      return state;
    };
    return {
      state: await again(),
      again,
      async close() {
        for (const state of opened) await state.close();
        rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
      },
    };
  });
}
