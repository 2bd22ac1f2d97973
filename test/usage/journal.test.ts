import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import {
  appendFileSync,
  chmodSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { afterPoll } from "../../src/core/after-poll.ts";
import type { UsageRecord } from "../../src/state/state.ts";
import { Journal, type JournalHealth, type JournalSettings } from "../../src/usage/journal.ts";
import { MemoryUsage } from "../support/memory-usage.ts";
import { usageRecord } from "../support/usage-record.ts";

let folder: string;
let usage: MemoryUsage;
const journals: Journal[] = [];
const children: ChildProcess[] = [];
const said: string[] = [];
const note = (fields: object, message: string): void => void said.push(`${message} ${JSON.stringify(fields)}`);
const log = { debug: note, info: note, warn: note, error: note };

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "lair-journal-"));
  usage = new MemoryUsage();
  said.length = 0;
});

afterEach(async () => {
  for (const child of children.splice(0)) if (child.exitCode === null) child.kill("SIGKILL");
  usage.returns();
  await Promise.all(journals.splice(0).map((journal) => journal.close()));
  rmSync(folder, { recursive: true, force: true });
});

async function open(settings: Partial<JournalSettings> = {}): Promise<Journal> {
  const journal = await Journal.open(folder, { state: { usage, health: () => usage.health() }, log, ...settings });
  journals.push(journal);
  return journal;
}

function append(journal: Journal, count: number, name = "record"): void {
  for (let number = 0; number < count; number++) journal.append(usageRecord({ id: `${name}-${number}` }));
}

function ids(records: readonly UsageRecord[] = usage.records): string[] {
  return records.map(({ id }) => id);
}

function files(): string[] {
  return readdirSync(folder).map((name) => join(folder, name));
}

const numbered = (count: number): string[] => Array.from({ length: count }, (_, number) => `record-${number}`);

const writer = fileURLToPath(new URL("../support/usage-writer.ts", import.meta.url));

/** A process that has written so many records, which no state has. */
async function startWriter(
  count: number,
  before: readonly string[] = [],
): Promise<{ child: ChildProcess; health: JournalHealth }> {
  const args = ["--import", import.meta.resolve("tsx"), writer, folder, String(count)];
  const [program = "", ...rest] = [...before, process.execPath, ...args];
  const child = spawn(program, rest, { stdio: ["ignore", "pipe", "inherit"] });
  children.push(child);
  const [line] = (await once(createInterface({ input: child.stdout }), "line")) as [string];
  return { child, health: JSON.parse(line) as JournalHealth };
}

async function kill(child: ChildProcess): Promise<void> {
  const gone = once(child, "exit");
  child.kill("SIGKILL");
  await gone;
}

describe("a record", () => {
  it("is in a file for the owner alone when it was appended, and comes into the state as it was", async () => {
    const journal = await open();
    const records = [
      usageRecord(),
      usageRecord({ firstToken: null, model: 'a "b"\n\\ \u2028 ü 😀', key: "", agent: "" }),
      usageRecord({ content: { request: "line\nline", reply: "" } }),
    ];
    for (const record of records) journal.append(record);
    const [file = ""] = files();
    expect(readFileSync(file, "utf8").trimEnd().split("\n")).toHaveLength(3);
    if (process.platform !== "win32") expect(statSync(file).mode & 0o777).toBe(0o600);
    expect(journal.health()).toEqual({ ok: true, backlog: 3, lost: 0 });
    await journal.flush();
    expect(usage.records).toEqual(records);
    expect(files()).toEqual([]);
    expect(journal.health()).toEqual({ ok: true, backlog: 0, lost: 0 });
  });

  it("of an answer that is sent in this turn is in the file before that", async () => {
    const journal = await open();
    for (const id of ["one", "two"]) journal.appendInTurn(usageRecord({ id }));
    expect(files()).toEqual([]);
    const seen = await new Promise<string>((resolve) => afterPoll(() => resolve(readFileSync(files()[0]!, "utf8"))));
    expect(seen.trimEnd().split("\n")).toHaveLength(2);
    journal.appendInTurn(usageRecord({ id: "three" }));
    await journal.flush();
    expect(ids()).toEqual(["one", "two", "three"]);
  });

  it("can be put right until it is on its way", async () => {
    const journal = await open();
    const first = usageRecord({ id: "first" });
    const second = usageRecord({ id: "second" });
    journal.append(first);
    journal.append(second);
    expect(journal.replace(first, { ...first, completionTokens: 77, counted: "tokenized" })).toBe(true);
    const [file = ""] = files();
    const text = readFileSync(file, "utf8");
    await journal.flush();
    expect(usage.records.map(({ completionTokens }) => completionTokens)).toEqual([77, 20]);
    expect(journal.replace(second, first)).toBe(false);
    // Who finds the file of a process that died reads the same.
    writeFileSync(join(folder, "00000000-1-00000000.1.jsonl"), text);
    utimesSync(join(folder, "00000000-1-00000000.1.jsonl"), 1, 1);
    await journal.flush();
    expect(usage.records.slice(2).map(({ completionTokens }) => completionTokens)).toEqual([77, 20]);
  });

  it("is carried in batches of a thousand", async () => {
    const journal = await open();
    append(journal, 2500);
    await journal.flush();
    expect(usage.asked.map(({ records }) => records.length)).toEqual([1000, 1000, 500]);
    expect(usage.asked.map(({ sequence }) => sequence)).toEqual([1, 2, 3]);
    expect(ids()).toEqual(numbered(2500));
  });
});

describe("a state that is away", () => {
  it("gets each record once and in order when it is back, also when only its answers were lost", async () => {
    const journal = await open();
    usage.leaves();
    append(journal, 1200);
    await expect(journal.flush()).rejects.toThrow("the state is away");
    expect(journal.health()).toEqual({ ok: false, problem: "the state is away", backlog: 1200, lost: 0 });
    usage.leaves("after");
    await expect(journal.flush()).rejects.toThrow();
    await expect(journal.flush()).rejects.toThrow();
    usage.returns();
    journal.append(usageRecord({ id: "record-1200" }));
    await journal.flush();
    expect(ids()).toEqual(numbered(1201));
    expect(journal.health()).toEqual({ ok: true, backlog: 0, lost: 0 });
    expect(said.filter((line) => line.startsWith("usage cannot be carried"))).toHaveLength(1);
  });

  it("for very long costs the oldest records, which are counted, and files and memory stay within their bounds", async () => {
    usage.leaves();
    const journal = await open({ mostBytes: 1_500_000 });
    append(journal, 20_000);
    const size = files().reduce((sum, file) => sum + statSync(file).size, 0);
    expect(size).toBeLessThan(2_000_000);
    const { lost, backlog } = journal.health();
    expect(lost).toBeGreaterThan(5000);
    expect(lost + backlog).toBe(20_000);
    expect(said.some((line) => line.startsWith("usage records are lost"))).toBe(true);
    usage.returns();
    await journal.flush();
    expect(usage.records).toHaveLength(backlog);
    expect(ids()).toEqual(expect.arrayContaining(numbered(20_000).slice(-1000)));
  });

  it("leaves what it did not take for the next start", async () => {
    const journal = await open();
    usage.leaves();
    append(journal, 30);
    await journal.close();
    expect(said.at(-1)).toContain('"backlog":30');
    usage.returns();
    await (await open()).flush();
    expect(ids()).toEqual(numbered(30));
    expect(files()).toEqual([]);
  });

  it("that takes everything but one batch gets the others, and that one is put aside", async () => {
    const journal = await open();
    usage.refuses = ({ id }) => id === "odd-3";
    append(journal, 5, "odd");
    let failures = 0;
    while (
      await journal.flush().then(
        () => false,
        () => true,
      )
    )
      failures++;
    expect(failures).toBeGreaterThanOrEqual(5);
    append(journal, 5);
    await journal.flush();
    expect(ids()).toEqual(numbered(5));
    expect(journal.health().lost).toBe(5);
    const refused = files().filter((file) => file.endsWith(".refused"));
    expect(refused.map((file) => readFileSync(file, "utf8"))).toEqual([expect.stringContaining("odd-4")]);
  });
});

describe("a process that dies", () => {
  it("leaves its records to the next that opens the folder, though the last was torn", async () => {
    const { child } = await startWriter(1500);
    const journal = await open();
    await journal.flush();
    expect(usage.records, "a living process carries its own").toEqual([]);
    await kill(child);
    const last = files().find((file) => file.includes(".2.")) as string;
    truncateSync(last, statSync(last).size - 10);
    await journal.flush();
    expect(ids()).toEqual(numbered(1499));
    expect(files()).toEqual([]);
    expect(journal.health().lost).toBe(0);
  });

  it("just when its batch was added has it counted once", async () => {
    const { child } = await startWriter(1500);
    await kill(child);
    usage.leaves("after");
    const journal = await open();
    await expect(journal.flush()).rejects.toThrow();
    usage.returns();
    const other = await open();
    await Promise.all([journal.flush(), other.flush()]);
    expect(ids().toSorted()).toEqual(numbered(1500).toSorted());
  });

  it("leaves damaged lines, and strangers' files, that harm nobody", async () => {
    const { child } = await startWriter(3);
    await kill(child);
    const [file = ""] = files();
    const lines = readFileSync(file, "utf8").split("\n");
    writeFileSync(file, [lines[0], "\0\0\0\0", '["half"]', "[5,[1]]", lines[1], lines[2], ""].join("\n"));
    appendFileSync(join(folder, "notes.txt"), "not ours");
    const journal = await open();
    await journal.flush();
    expect(ids()).toEqual(numbered(3));
    expect(journal.health().lost).toBe(3);
    expect(files()).toEqual([join(folder, "notes.txt")]);
  });

  it("elsewhere counts as dead only when its files have been quiet for minutes", async () => {
    const { child } = await startWriter(5);
    await kill(child);
    const [file = ""] = files();
    const elsewhere = join(folder, `ffffffff-${child.pid}-00000000.1.jsonl`);
    writeFileSync(elsewhere, readFileSync(file));
    rmSync(file);
    const journal = await open();
    await journal.flush();
    expect(usage.records).toEqual([]);
    const before = Date.now() / 1000 - 600;
    utimesSync(elsewhere, before, before);
    await journal.flush();
    expect(ids()).toEqual(numbered(5));
  });
});

describe("a disk that takes nothing", () => {
  it("costs no record while the process lives, and the folder is tried again", async () => {
    if (process.platform === "win32" || process.getuid?.() === 0) rmSync(folder, { recursive: true });
    else chmodSync(folder, 0o500);
    // For root, who may write everywhere, a file stands in the folder's place.
    if (process.platform === "win32" || process.getuid?.() === 0) writeFileSync(folder, "");
    const journal = await open();
    append(journal, 10);
    expect(journal.health()).toMatchObject({ ok: false, backlog: 10, lost: 0 });
    expect(said.filter((line) => line.startsWith("the usage journal cannot be written"))).toHaveLength(1);
    await expect(journal.flush().catch(() => undefined)).resolves.toBeUndefined();
    rmSync(folder, { recursive: true, force: true });
    append(journal, 1, "later");
    await journal.flush();
    expect(ids()).toEqual([...numbered(10), "later-0"]);
    expect(journal.health()).toEqual({ ok: true, backlog: 0, lost: 0 });
  });

  it("bounds what is held in memory, and counts what is lost", async () => {
    rmSync(folder, { recursive: true });
    writeFileSync(folder, "");
    usage.leaves();
    const journal = await open({ mostHeld: 3000 });
    append(journal, 10_000);
    const { backlog, lost } = journal.health();
    expect(backlog + lost).toBe(10_000);
    expect(backlog).toBeLessThan(6000);
  });

  it.skipIf(process.platform === "win32")("when it is full in the middle of a line keeps the whole lines", async () => {
    // 64 blocks of 512 or 1024 bytes: no file may be larger.
    const limited = ["sh", "-c", "trap '' XFSZ; ulimit -f 64; exec \"$@\"", "sh"];
    const { child, health } = await startWriter(900, limited);
    expect(health).toMatchObject({ ok: false, backlog: 900, lost: 0 });
    await kill(child);
    const [file = ""] = files();
    expect(readFileSync(file, "utf8").endsWith("\n")).toBe(true);
    const journal = await open();
    await journal.flush();
    expect(usage.records.length).toBeGreaterThan(100);
    expect(ids()).toEqual(numbered(usage.records.length));
    expect(journal.health().lost).toBe(0);
  });
});
