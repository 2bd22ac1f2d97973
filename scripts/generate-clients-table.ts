// `npm run docs:clients`: keeps the results of the last `npm run test:clients` and makes the tables of docs/clients.md of them.
import { readFileSync, writeFileSync } from "node:fs";
import { type Results, resultsFile } from "../test/clients/results.ts";
import { withTables } from "./clients-table.ts";

const page = new URL("../docs/clients.md", import.meta.url);
const kept = new URL("../test/clients/results.json", import.meta.url);

const results = JSON.parse(readFileSync(resultsFile, "utf8")) as Results;
if (!results.complete) {
  process.stderr.write("the last run left tests out; run all of them: npm run test:clients\n");
  process.exit(1);
}
writeFileSync(kept, `${JSON.stringify(results.rows, null, 2)}\n`);
writeFileSync(page, withTables(readFileSync(page, "utf8"), results.rows));
