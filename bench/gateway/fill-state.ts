// Fills a state file with keys and with records of the last 90 days:
// tsx bench/gateway/fill-state.ts FILE [--keys 100000] [--records 10000000]
import { parseArgs } from "node:util";
import { newKey } from "../../src/access/issue.ts";
import { silent } from "../../src/core/log.ts";
import { type Database, loadDriver } from "../../src/state/sqlite/database.ts";
import { openSqliteState } from "../../src/state/sqlite/sqlite-state.ts";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { keys: { type: "string", default: "100000" }, records: { type: "string", default: "10000000" } },
});
const [file] = positionals;
if (file === undefined) throw new Error("name the file to fill");
const [keys, records] = [Number(values.keys), Number(values.records)];
const [days, day, keysAtOnce] = [90, 86_400_000, 10_000];

// A few keys make most of the calls, each with two models of its own, and a model is at home in one place.
const insertRecords = `
  WITH RECURSIVE
    given (records, keys, start, gap, key, path, model, provider, agent) AS (SELECT ?, ?, ?, ?, ?, ?, ?, ?, ?),
    numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers, given WHERE n < records),
    chosen AS MATERIALIZED (SELECT n, (random() & 0xfffff) / 1048576.0 AS share, random() & 0xffff AS dice FROM numbers),
    calls AS (SELECT n, dice, CAST(keys * share * share * share AS INTEGER) AS nth, given.* FROM chosen, given),
    routed AS (SELECT *, (nth * 7 + dice % 2) % 20 AS which FROM calls)
  INSERT INTO temp.records SELECT
    CAST(start + n * gap AS INTEGER), n, lower(hex(randomblob(16))), key + nth, path, model + which, provider + which % 3, agent + which % 10,
    100 + dice % 4000, dice % 100, 20 + dice % 700, 0, 10 * (dice % 900), 50 + dice % 300, 400 + dice % 9000,
    600 + dice % 9000, 900 + dice % 40000, iif(dice % 50 = 0, 502, 200), iif(dice % 50 = 0, 2, 0)
  FROM routed`;

const makeRecords = `
  CREATE TEMP TABLE records (
    time, n, id, key, path, model, provider, agent, prompt_tokens, cached_tokens, completion_tokens, counted, spend, first_token,
    duration, bytes_in, bytes_out, status, outcome
  )`;

const insertBatches = `
  INSERT INTO batches (first, last, count, records) SELECT
    min(time), max(time), count(*), CAST(json_group_array(json_array(
      time, id, key, path, model, provider, agent, prompt_tokens, cached_tokens, completion_tokens, counted, spend, first_token,
      duration, bytes_in, bytes_out, status, outcome)) AS BLOB)
  FROM records GROUP BY (n - 1) / 1000`;

const insertBatchKeys = `
  INSERT INTO batch_keys SELECT DISTINCT key, last, sequence
  FROM records JOIN batches ON sequence = (n - 1) / 1000 + 1`;

const insertSums = `
  INSERT INTO sums SELECT
    time / 86400000, key, model, provider, agent, count(*), sum(outcome <> 0), sum(prompt_tokens), sum(cached_tokens),
    sum(completion_tokens), sum(spend), sum(duration)
  FROM records GROUP BY 1, 2, 3, 4, 5`;

const began = performance.now();
const ids = await fillKeys(file);
const db = (await loadDriver())(file);
fillUsage(db, ids);
db.close();
console.log(`${file}: ${keys} keys and ${records} records in ${((performance.now() - began) / 1000).toFixed(1)} s`);

/** As `lair keys import` would. Returns their ids. */
async function fillKeys(path: string): Promise<string[]> {
  const state = await openSqliteState(path, { log: silent });
  const all: string[] = [];
  for (let first = 0; first < keys; first += keysAtOnce) {
    const numbers = Array.from({ length: Math.min(keysAtOnce, keys - first) }, (_, index) => first + index);
    const some = numbers.map((number) => newKey({ name: `filled ${number}` }, Date.now()).record);
    await state.keys.insert(some);
    all.push(...some.map(({ id }) => id));
  }
  await state.close();
  return all;
}

/** Past the store, which would take a few records at a time: as SQL, over all of them at once. */
function fillUsage(db: Database, ids: readonly string[]): void {
  db.exec("PRAGMA synchronous = OFF; PRAGMA cache_size = -262144; PRAGMA temp_store = FILE; BEGIN IMMEDIATE");
  db.exec(makeRecords);
  const insert = db.prepare("INSERT INTO texts (text) VALUES (?) RETURNING id");
  const add = (text: string): number => Number(insert.get([text])![0]);
  // Numbers that follow each other, so that SQL can choose among them.
  const key = ids.map(add)[0] ?? add("");
  const model = Array.from({ length: 20 }, (_, number) => add(`home/llama_cpp:model-${number}`))[0]!;
  const provider = Array.from({ length: 3 }, (_, number) => add(`upstream-${number}`))[0]!;
  const agent = Array.from({ length: 10 }, (_, number) => add(`agent-${number}`))[0]!;
  const path = add("/v1/chat/completions");
  const end = Date.now();
  db.prepare(insertRecords).run([
    records,
    Math.max(1, ids.length),
    end - days * day,
    (days * day) / records,
    key,
    path,
    model,
    provider,
    agent,
  ]);
  db.exec(insertBatches);
  db.exec(insertBatchKeys);
  db.exec(insertSums);
  db.exec("INSERT INTO last_used SELECT key, max(time) FROM records GROUP BY key");
  db.prepare("UPDATE counters SET value = value + ? WHERE name = 'records'").run([records]);
  db.exec("COMMIT; PRAGMA wal_checkpoint(TRUNCATE)");
}
