import { readFile } from "node:fs/promises";
import { type IssuedKey, longestGrace, newKey, revokedKey, rotatedKey, usualGrace } from "../access/issue.ts";
import { readKeyFields, withFields } from "../access/key-fields.ts";
import { readImport } from "../access/key-import.ts";
import { toKeyJson } from "../access/key-json.ts";
import type { Config } from "../config/schema.ts";
import { formatDuration } from "../config/units.ts";
import { nearest } from "../core/nearest.ts";
import type { KeyRecord, State } from "../state/state.ts";
import { type ReadFlags, type Terminal, UsageError } from "./command.ts";
import { readKeysFile } from "./keys-file.ts";
import { byFlags, toDuration, toFields } from "./keys-flags.ts";
import { keyLines, keyTable } from "./keys-tables.ts";

/** What an action works with. */
export interface Job {
  readonly state: State;
  /** The key's name or id, or the file; "" where the action takes none. */
  readonly word: string;
  readonly flags: ReadFlags["flags"];
  readonly config: Config;
  readonly terminal: Terminal;
}

/** `lair keys list` */
export async function list({ state, flags, terminal }: Job): Promise<void> {
  const keys = [...(await state.keys.since(0)).keys].sort((a, b) => (a.name < b.name ? -1 : 1));
  const used = await state.usage.lastUsed(keys.map(({ id }) => id));
  const now = Date.now();
  if (flags["json"] === true)
    terminal.print(
      JSON.stringify(
        keys.map((key) => toKeyJson(key, now, used.get(key.id))),
        null,
        2,
      ),
    );
  else if (keys.length === 0) terminal.print("There is no key yet. Create one: lair keys create NAME");
  else for (const line of keyTable(keys, used, now)) terminal.print(line);
}

/** `lair keys show NAME` */
export async function show({ state, word, flags, terminal }: Job): Promise<void> {
  const key = await known(state, word, state.keys.find(word));
  const lastUsed = (await state.usage.lastUsed([key.id])).get(key.id);
  const now = Date.now();
  if (flags["json"] === true) terminal.print(JSON.stringify(toKeyJson(key, now, lastUsed), null, 2));
  else for (const line of keyLines(key, lastUsed, now)) terminal.print(line);
}

/** `lair keys create NAME` */
export async function create({ state, word, ...job }: Job): Promise<void> {
  const now = Date.now();
  const fields = byFlags(() => readKeyFields({ ...toFields(job.flags, now), name: word }, now));
  const issued = newKey({ ...fields, name: word }, now);
  await state.keys.insert([issued.record]);
  tellKey(issued, job);
}

/** `lair keys change NAME` */
export async function change({ state, word, flags, terminal }: Job): Promise<void> {
  const now = Date.now();
  const given = toFields(flags, now);
  if (Object.keys(given).length === 0)
    throw new UsageError("change wants at least one flag, e.g. --tokens-per-day 100k or --expires never");
  const fields = byFlags(() => readKeyFields(given, now));
  const key = await known(
    state,
    word,
    state.keys.change(word, (current) => withFields(current, fields)),
  );
  if (flags["json"] === true) terminal.print(JSON.stringify(toKeyJson(key, now), null, 2));
  else
    for (const line of keyLines(key, undefined, now).filter((text) => !text.startsWith("last used")))
      terminal.print(line);
}

/** `lair keys rotate NAME` */
export async function rotate({ state, word, flags, ...job }: Job): Promise<void> {
  const grace = typeof flags["grace"] === "string" ? toDuration("grace", flags["grace"]) : usualGrace;
  if (grace > longestGrace) throw new UsageError(`--grace may be at most ${longestGrace / 86_400_000}d`);
  const now = Date.now();
  let issued: IssuedKey | undefined;
  const changed = state.keys.change(word, (current) => (issued = rotatedKey(current, now, grace)).record);
  await known(state, word, changed);
  tellKey(issued as IssuedKey, { flags, ...job });
  if (flags["json"] === true) return;
  job.terminal.print(
    grace === 0
      ? "\nThe old one works no more."
      : `\nThe old one works for ${formatDuration(grace)} more; to end both at once: lair keys revoke ${quoted(word)}`,
  );
}

/** `lair keys revoke NAME` */
export async function revoke({ state, word, flags, terminal }: Job): Promise<void> {
  const now = Date.now();
  const before = await known(state, word, state.keys.find(word));
  const changed = state.keys.change(word, (current) => revokedKey(current, now));
  const key = await known(state, word, changed);
  if (flags["json"] === true) terminal.print(JSON.stringify(toKeyJson(key, now), null, 2));
  else if (before.revoked !== undefined) terminal.print(`${key.name} was revoked before`);
  else terminal.print(`${key.name} (${key.id}) is revoked; servers on this state refuse it within a second`);
}

/** `lair keys import FILE` */
export async function importKeys({ state, word, flags, terminal }: Job): Promise<void> {
  const text = word === "-" ? await readInput(terminal) : await readText(word);
  const records = readImport(readKeysFile(text), Date.now());
  await state.keys.insert(records);
  if (flags["json"] === true)
    terminal.print(
      JSON.stringify(
        records.map(({ id, name }) => ({ id, name })),
        null,
        2,
      ),
    );
  else terminal.print(`${records.length} ${records.length === 1 ? "key" : "keys"} imported. See them: lair keys list`);
}

async function known(state: State, word: string, finding: Promise<KeyRecord | undefined>): Promise<KeyRecord> {
  const found = await finding;
  if (found !== undefined) return found;
  const names = (await state.keys.since(0)).keys.map(({ name }) => name);
  const near = nearest(word, names);
  throw new Error(
    `there is no key ${JSON.stringify(word)}${near === undefined ? "; lair keys list shows all" : `; did you mean ${JSON.stringify(near)}?`}`,
  );
}

/** The key's text, which nobody can tell again, and how it is used. */
function tellKey({ record, text }: IssuedKey, { flags, config, terminal }: Omit<Job, "state" | "word">): void {
  if (flags["json"] === true) {
    terminal.print(JSON.stringify({ key: text, ...toKeyJson(record, Date.now()) }, null, 2));
    return;
  }
  const until = record.expires === undefined ? "" : `, good until ${new Date(record.expires).toISOString()}`;
  const { host, port } = config.gateway;
  for (const line of [
    `The key ${record.name} (${record.id})${until}. It is not shown again:`,
    "",
    `  ${text}`,
    "",
    "Callers send it as `Authorization: Bearer <key>`; OpenAI's clients take it from the environment:",
    "",
    `  OPENAI_BASE_URL=http://${host.includes(":") ? `[${host}]` : host}:${port}/v1`,
    "  OPENAI_API_KEY=<the key>",
  ])
    terminal.print(line);
}

function quoted(word: string): string {
  return /^[\w.@-]+$/.test(word) ? word : JSON.stringify(word);
}

/** Bytes of a file of keys. */
const longestFile = 64 * 1024 * 1024;

async function readText(path: string): Promise<string> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    throw new Error(`the file ${path} cannot be read (${(error as NodeJS.ErrnoException).code})`, { cause: error });
  }
}

async function readInput({ input }: Terminal): Promise<string> {
  const pieces: Buffer[] = [];
  let size = 0;
  for await (const piece of input as AsyncIterable<Buffer | string>) {
    const bytes = Buffer.from(piece);
    size += bytes.length;
    if (size > longestFile) throw new Error(`more than ${longestFile / 1048576} MB are no list of keys`);
    pieces.push(bytes);
  }
  return Buffer.concat(pieces).toString("utf8");
}
