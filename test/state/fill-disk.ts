// A state on a disk that is small, started by the tests: fills it, makes room, and prints what it saw as JSON: fill-disk FILE
import { rmSync, writeFileSync } from "node:fs";
import { silent } from "../../src/core/log.ts";
import { openSqliteState } from "../../src/state/sqlite/sqlite-state.ts";
import type { UsageBatch } from "../../src/state/state.ts";
import { someKey, someRecord } from "./records.ts";

const [file = ""] = process.argv.slice(2);
const ballast = `${file}.ballast`;
const state = await openSqliteState(file, { log: silent });
const key = someKey();
await state.keys.insert([key]);
writeFileSync(ballast, Buffer.alloc(300_000));
let sequence = 1;
const batch = (): UsageBatch => ({ writer: "w", sequence, records: Array.from({ length: 100 }, () => someRecord()) });
const failure = await (async () => {
  for (; ; sequence++) await state.usage.add(batch());
})().catch(String);
const health = state.health().ok;
const readable = (await state.keys.find(key.id))?.name === key.name;
rmSync(ballast);
const again = await state.usage.add(batch());
const [sum] = await state.usage.sums({ from: "2026-01-01", to: "2026-12-31", by: [] });
const complete = sum?.requests === sequence * 100;
await state.close();
process.stdout.write(JSON.stringify({ failure, health, readable, again, complete }));
