// Another process at the same state file, started by the tests: adds keys and batches of usage and changes a document until
// it is killed, and prints what was confirmed, a line each: write-state FILE WRITER DRIVER
import { writeSync } from "node:fs";
import { silent } from "../../src/core/log.ts";
import type { Driver } from "../../src/state/sqlite/database.ts";
import { openSqliteState } from "../../src/state/sqlite/sqlite-state.ts";
import { someKey, someRecord } from "./records.ts";

const [file = "", writer = "", driver] = process.argv.slice(2);
const state = await openSqliteState(file, { log: silent, driver: driver as Driver });
for (let sequence = (await state.usage.lastSequence(writer)) + 1; ; sequence++) {
  const key = someKey();
  await state.keys.insert([key]);
  writeSync(1, `key ${key.id}\n`);
  await state.keys.change(key.id, (held) => ({ ...held, revoked: sequence }));
  writeSync(1, `revoked ${key.id}\n`);
  const records = Array.from({ length: 20 }, () => someRecord({ key: key.id, agent: writer }));
  await state.usage.add({ writer, sequence, records });
  writeSync(1, `batch ${sequence}\n`);
  await state.documents.change("count", (text) => String(Number(text ?? 0) + 1));
  writeSync(1, "counted\n");
}
