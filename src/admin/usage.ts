import { type Call, type Handler, jsonReply, type Reply } from "../core/call.ts";
import { ApiError } from "../core/errors.ts";
import type { JsonObject } from "../core/json.ts";
import { type State, StateError, type UsageRecord } from "../state/state.ts";
import { keyId, keyNames, readReport, recordsCsv, type Report, reportCsv, type Totals } from "../usage/report.ts";

const words = ["from", "to", "by", "key", "model", "format"] as const;
const recordWords = ["before", "key", "limit", "format"] as const;
/** Records of one answer: where nothing is said, and most. */
const usualRecords = 100;
const mostRecords = 1000;

/**
 * `/admin/usage?from=2026-11-01&to=…&by=day,key,model&key=<id or name>&model=…&format=json|csv`: sums, spend in the
 * prices' currency. `/admin/usage/records?before=<time>&key=…&limit=100&format=json|csv`: single calls, newest first.
 */
export function usageRoutes(state: State): Readonly<Record<string, Handler>> {
  return {
    "/admin/usage": (call) => guarded(() => report(state, call)),
    "/admin/usage/records": (call) => guarded(() => records(state, call)),
  };
}

async function guarded(run: () => Promise<Reply>): Promise<Reply> {
  try {
    const reply = await run();
    return { ...reply, headers: { ...reply.headers, "cache-control": "no-store" } };
  } catch (error) {
    if (!(error instanceof StateError)) throw error;
    throw new ApiError("service_unavailable", `usage cannot be read: ${error.message}`, { cause: error });
  }
}

async function report(state: State, call: Call): Promise<Reply> {
  const { format, ...asked } = readWords(call, words);
  const found = await readReport(state, asked);
  return isCsv(format) ? csvReply(reportCsv(found), "usage.csv") : jsonReply(200, toJson(found));
}

async function records(state: State, call: Call): Promise<Reply> {
  const { format, before, key, limit } = readWords(call, recordWords);
  const id = await keyId(state.keys, key);
  const found = await state.usage.list({
    limit: readLimit(limit),
    ...(before === undefined ? {} : { before: readTime(before) }),
    ...(id === undefined ? {} : { key: id }),
  });
  if (isCsv(format)) return csvReply(recordsCsv(found), "usage-records.csv");
  const names = await keyNames(state.keys, new Set(found.map((record) => record.key)));
  return jsonReply(200, { records: found.map((record) => recordJson(record, names)) });
}

function readWords<Word extends string>(call: Call, known: readonly Word[]): { readonly [word in Word]?: string } {
  const asked = Object.fromEntries(new URLSearchParams(call.search));
  const stranger = Object.keys(asked).find((name) => !known.some((word) => word === name));
  if (stranger === undefined) return asked as { readonly [word in Word]?: string };
  throw new ApiError(
    "unsupported_parameter",
    `${call.path} knows ${known.join(", ")}, not ${JSON.stringify(stranger.slice(0, 40))}`,
    { param: stranger.slice(0, 40) },
  );
}

function isCsv(format: string | undefined): boolean {
  if (format === undefined || format === "json" || format === "csv") return format === "csv";
  throw new ApiError("invalid_value", "format is json or csv", { param: "format" });
}

function readLimit(text: string | undefined): number {
  const limit = text === undefined ? usualRecords : Number(text);
  if (Number.isInteger(limit) && limit >= 1 && limit <= mostRecords) return limit;
  throw new ApiError("invalid_value", `limit is a whole number from 1 to ${mostRecords}`, { param: "limit" });
}

function readTime(text: string): number {
  const time = /^\d{1,15}$/.test(text) ? Number(text) : Date.parse(text);
  if (Number.isFinite(time)) return time;
  throw new ApiError("invalid_value", "before is a time such as 2026-11-22T10:00:00Z, or milliseconds since 1970", {
    param: "before",
  });
}

function csvReply(body: string, name: string): Reply {
  const headers = {
    "content-type": "text/csv; charset=utf-8; header=present",
    "content-disposition": `attachment; filename="${name}"`,
    "x-content-type-options": "nosniff",
  };
  return { status: 200, headers, body };
}

function toJson({ query, sums, total, names }: Report): JsonObject {
  const { by, ...asked } = query;
  return {
    ...asked,
    by: [...by],
    sums: sums.map(({ group, ...counts }) => ({ ...group, ...nameOf(group.key, names), ...inCurrency(counts) })),
    total: { ...inCurrency(total) },
  };
}

function recordJson(record: UsageRecord, names: ReadonlyMap<string, string>): JsonObject {
  const { content, ...rest } = record;
  const said = content === undefined ? {} : { content: { ...content } };
  return { ...rest, ...nameOf(record.key, names), spend: record.spend / 1e6, ...said };
}

function nameOf(key: string | undefined, names: ReadonlyMap<string, string>): { keyName?: string } {
  const name = key === undefined ? undefined : names.get(key);
  return name === undefined ? {} : { keyName: name };
}

function inCurrency(counts: Totals): Totals {
  return { ...counts, spend: counts.spend / 1e6 };
}
