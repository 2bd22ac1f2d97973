import { loadConfig } from "../config/load.ts";
import { ApiError } from "../core/errors.ts";
import type { State } from "../state/state.ts";
import { keyId, keyNames, readReport, recordsCsv, reportCsv, type ReportWords } from "../usage/report.ts";
import {
  type Command,
  type Options,
  plainText,
  type ReadFlags,
  readFlags,
  type Terminal,
  UsageError,
} from "./command.ts";
import { flagLines, settingFlags } from "./setting-flags.ts";
import { recordLines, reportLines } from "./usage-tables.ts";
import { withState } from "./with-state.ts";

const text = { type: "string" } as const;
const own = {
  from: text,
  to: text,
  by: text,
  key: text,
  model: text,
  limit: text,
  records: { type: "boolean" },
  csv: { type: "boolean" },
  json: { type: "boolean" },
} as const satisfies Options;

/** Single calls that are shown: where nothing is said, and most. */
const usualRecords = 20;
const mostRecords = 1000;

export const usage: Command = {
  help: `usage: lair usage [flags]                what was used, by day and model
       lair usage --records [flags]      single calls, newest first

flags:
  --from <2026-11-01>        First day (UTC). Default: the first of the month of the last.
  --to <2026-11-30>          Last day. Default: today.
  --by <day,key,…>           What each line is about, of day, month, key, model, provider, agent. Default: day,model.
  --key <name or id>         Only this key's.
  --model <name>             Only this model's, as callers write it.
  --records                  Single calls; --key and --limit belong to it.
  --limit <number>           Most of them, up to ${mostRecords}. Default: ${usualRecords}.
  --csv                      For a spreadsheet.
  --json                     Machine-readable.
${flagLines("usage").join("\n")}

examples:
  lair usage
  lair usage --by key --from 2026-11-01
  lair usage --by day,key,model --csv > november.csv
  lair usage --records --key laptop

exit codes: 0 done · 1 the state cannot be read · 2 the command line or the configuration is wrong`,
  async run(args, terminal) {
    const { words, flags } = readFlags(args, { ...settingFlags("usage"), ...own });
    if (words.length > 0) throw new UsageError(`it takes flags only, not ${JSON.stringify(words[0])}`);
    checkFlags(flags);
    const settings = Object.fromEntries(Object.entries(flags).filter(([flag]) => !(flag in own)));
    const { config } = await loadConfig({ flags: settings, command: "usage", env: terminal.env });
    const show = flags["records"] === true ? showRecords : showReport;
    return withState({ command: "usage", config, terminal }, (state) => show(state, flags, terminal));
  },
};

type Flags = ReadFlags["flags"];

function checkFlags(flags: Flags): void {
  if (flags["csv"] === true && flags["json"] === true) throw new UsageError("--csv and --json exclude each other");
  const records = flags["records"] === true;
  const strays = records ? ["from", "to", "by", "model"] : ["limit"];
  const stray = strays.find((flag) => flag in flags);
  if (stray !== undefined)
    throw new UsageError(`--${stray} ${records ? "does not belong to" : "belongs to"} lair usage --records`);
}

async function showReport(state: State, flags: Flags, terminal: Terminal): Promise<void> {
  const report = await readReport(state, toWords(flags)).catch(asUsageError);
  if (flags["csv"] === true) terminal.write(reportCsv(report));
  else if (flags["json"] === true) {
    const { query, sums, total, names } = report;
    terminal.print(JSON.stringify({ ...query, sums, total, names: Object.fromEntries(names) }, null, 2));
  } else for (const line of reportLines(report)) terminal.print(plainText(line));
}

async function showRecords(state: State, flags: Flags, terminal: Terminal): Promise<void> {
  const key = await keyId(state.keys, toWords(flags).key);
  const records = await state.usage.list({ limit: readLimit(flags["limit"]), ...(key === undefined ? {} : { key }) });
  if (flags["csv"] === true) terminal.write(recordsCsv(records));
  else if (flags["json"] === true) terminal.print(JSON.stringify(records, null, 2));
  else {
    const names = await keyNames(state.keys, new Set(records.map((record) => record.key)));
    for (const line of recordLines(records, names)) terminal.print(plainText(line));
  }
}

function toWords(flags: Flags): ReportWords {
  const word = (name: keyof ReportWords): string | undefined => {
    const value = flags[name];
    return typeof value === "string" ? value : undefined;
  };
  return { from: word("from"), to: word("to"), by: word("by"), key: word("key"), model: word("model") };
}

/** What a flag says wrongly, said of the flag. */
function asUsageError(error: unknown): never {
  if (error instanceof ApiError) throw new UsageError(`${error.param === null ? "" : "--"}${error.message}`);
  throw error;
}

function readLimit(value: Flags[string]): number {
  const limit = value === undefined ? usualRecords : Number(value);
  if (Number.isInteger(limit) && limit >= 1 && limit <= mostRecords) return limit;
  throw new UsageError(`--limit wants a whole number from 1 to ${mostRecords}`);
}
