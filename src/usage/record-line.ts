import type { Json } from "../core/json.ts";
import type { UsageRecord } from "../state/state.ts";

/** A record of a segment, or what takes the place of one: the segment's `index`th. */
export type RecordLine =
  | { readonly record: UsageRecord; readonly index?: undefined }
  | { readonly record: UsageRecord; readonly index: number };

/** The record as one line, its end included. Written out, which costs half of `JSON.stringify`: once for every call. */
export function encodeRecord(record: UsageRecord): string {
  const { id, time, key, path, model, provider, agent, content } = record;
  const { promptTokens, cachedTokens, completionTokens, counted, spend, firstToken, duration } = record;
  const { bytesIn, bytesOut, status, outcome } = record;
  const texts = `${quoted(id)},${time},${quoted(key)},${quoted(path)},${quoted(model)},${quoted(provider)},${quoted(agent)}`;
  const counts = `${promptTokens},${cachedTokens},${completionTokens},"${counted}",${spend},${firstToken},${duration}`;
  const said = content === undefined ? "" : `,${quoted(content.request)},${quoted(content.reply)}`;
  return `[${texts},${counts},${bytesIn},${bytesOut},${status},"${outcome}"${said}]\n`;
}

function quoted(text: string): string {
  return /^[ !#-[\]-~]*$/.test(text) ? `"${text}"` : JSON.stringify(text);
}

/** A line that takes the place of the segment's `index`th record. */
export function encodeReplacement(index: number, record: UsageRecord): string {
  return `[${index},${encodeRecord(record).trimEnd()}]\n`;
}

/** Undefined: the line is torn or damaged. */
export function decodeLine(line: string): RecordLine | undefined {
  let json: Json;
  try {
    json = JSON.parse(line) as Json;
  } catch {
    return undefined;
  }
  if (!Array.isArray(json)) return undefined;
  const [index, values] = json;
  if (typeof index === "number") {
    const record = Array.isArray(values) ? toRecord(values) : undefined;
    return record === undefined || !Number.isSafeInteger(index) ? undefined : { record, index };
  }
  const record = toRecord(json);
  return record === undefined ? undefined : { record };
}

/** Of the values in their order, without the names of the fields, which would be half of a line. */
const kinds = "snsssssnnnsnmnnnns";

function toRecord(values: readonly Json[]): UsageRecord | undefined {
  if (values.length !== kinds.length && values.length !== kinds.length + 2) return undefined;
  if (!values.every((value, index) => fits(value, kinds[index] ?? "s"))) return undefined;
  const [id, time, key, path, model, provider, agent, ...numbers] = values;
  const [promptTokens, cachedTokens, completionTokens, counted, spend, firstToken, duration, ...rest] = numbers;
  const [bytesIn, bytesOut, status, outcome, request, reply] = rest;
  const texts = { id, time, key, path, model, provider, agent };
  const counts = { promptTokens, cachedTokens, completionTokens, counted, spend, firstToken, duration };
  const record = { ...texts, ...counts, bytesIn, bytesOut, status, outcome } as unknown as UsageRecord;
  return request === undefined
    ? record
    : { ...record, content: { request: request as string, reply: reply as string } };
}

/** `s`: text; `n`: a number; `m`: a number or null. */
function fits(value: Json, kind: string): boolean {
  if (kind === "s") return typeof value === "string";
  return typeof value === "number" || (kind === "m" && value === null);
}
