import { silent } from "../../src/core/log.ts";
import { Journal } from "../../src/usage/journal.ts";
import { MemoryUsage } from "./memory-usage.ts";
import { usageRecord } from "./usage-record.ts";

// A program that writes so many records into a journal whose state is away, says what became of them, and waits to be killed.
const [folder = "", count = "0"] = process.argv.slice(2);
const usage = new MemoryUsage();
usage.leaves();
const journal = await Journal.open(folder, { state: { usage, health: () => usage.health() }, log: silent });
for (let number = 0; number < Number(count); number++) journal.append(usageRecord({ id: `record-${number}` }));
console.log(JSON.stringify(journal.health()));
setInterval(() => undefined, 1000);
