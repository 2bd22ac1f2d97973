import { ApiError } from "../core/errors.ts";
import { isObject, type Json } from "../core/json.ts";
import type { KeyRecord } from "../state/state.ts";
import { digestOf, importedKey } from "./issue.ts";
import { fieldNames, readKeyFields, refuseUnknown } from "./key-fields.ts";

/** One key that comes from elsewhere: its fields, and `key`, its text, or `digest`, the text's SHA-256 in 64 hexadecimal digits. */
export interface ImportEntry {
  /** Where it stands, e.g. `line 3`, `keys[2]`. */
  readonly place: string;
  readonly json: Json;
}

/** Shorter texts can be guessed. */
const leastLength = 16;
const longestText = 4096;
const mostProblems = 20;
const mostImported = 10_000;

/** The keys of all entries. Throws `ApiError` that lists what is wrong with which, and never repeats a key's text. */
export function readImport(entries: readonly ImportEntry[], now: number): KeyRecord[] {
  if (entries.length === 0) throw new ApiError("invalid_value", "there is no key to import", { param: "keys" });
  if (entries.length > mostImported)
    throw new ApiError("invalid_value", `${entries.length} keys are too many at once; ${mostImported} may be imported`);
  const problems: string[] = [];
  const records: KeyRecord[] = [];
  const names = new Map<string, string>();
  const digests = new Map<string, string>();
  for (const { place, json } of entries) {
    try {
      const record = readEntry(json, now);
      once(names, record.name, place, `the name ${JSON.stringify(record.name)}`);
      once(digests, record.digest.toString("latin1"), place, "the same key");
      records.push(record);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      problems.push(`${place}: ${error.message}`);
    }
  }
  if (problems.length === 0) return records;
  const more = problems.length - mostProblems;
  throw new ApiError(
    "invalid_value",
    `nothing was imported:\n${problems.slice(0, mostProblems).join("\n")}${more > 0 ? `\nand ${more} more` : ""}`,
    { param: "keys" },
  );
}

function readEntry(json: Json, now: number): KeyRecord {
  if (!isObject(json)) throw new ApiError("invalid_type", "must be a JSON object");
  refuseUnknown(json, [...fieldNames, "key", "digest"], "");
  const { key, digest, ...rest } = json;
  const fields = readKeyFields(rest, now);
  if (fields.name === undefined) throw new ApiError("missing_required_parameter", "name is missing");
  if ((key === undefined) === (digest === undefined))
    throw new ApiError("invalid_value", "needs either key (its text) or digest (the text's SHA-256)");
  const secret = digest === undefined ? fromText(key) : { digest: fromHex(digest), ending: "" };
  return importedKey(secret, { ...fields, name: fields.name }, now);
}

function fromText(text: Json | undefined): Pick<KeyRecord, "digest" | "ending"> {
  if (typeof text !== "string") throw new ApiError("invalid_type", "key must be a string");
  if (!/^[\x21-\x7e]*$/.test(text)) throw new ApiError("invalid_value", "key must be visible ASCII without spaces");
  if (text.length < leastLength || text.length > longestText)
    throw new ApiError(
      "invalid_value",
      `key must have ${leastLength} to ${longestText} characters, and has ${text.length}`,
    );
  return { digest: digestOf(text), ending: text.slice(-4) };
}

function fromHex(digest: Json | undefined): Buffer {
  if (typeof digest === "string" && /^[0-9a-f]{64}$/i.test(digest)) return Buffer.from(digest, "hex");
  throw new ApiError("invalid_value", "digest must be a SHA-256, 64 hexadecimal digits");
}

function once(seen: Map<string, string>, value: string, place: string, what: string): void {
  const first = seen.get(value);
  if (first !== undefined) throw new ApiError("invalid_value", `has ${what} as ${first}`);
  seen.set(value, place);
}
