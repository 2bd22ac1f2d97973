import { chmodSync, readFileSync, readdirSync, statSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { PrefixStore, type PrefixStoreOptions } from "../../src/engines/llama/prefix/prefix-store.ts";
import { chatRequest } from "../support/chat-request.ts";
import { randomDecoder } from "../support/gguf.ts";
import { readAnswer, startEngine, writeModel } from "../support/llama.ts";
import {
  type Bench,
  distance,
  job,
  modelFile,
  newFolder,
  openBench,
  trace,
  words,
} from "../support/llama-scheduler.ts";

const model = modelFile(randomDecoder({ architecture: "qwen2" }));
const conversation = words(150);

function storeIn(folder: string, more: Partial<PrefixStoreOptions> = {}): PrefixStore {
  const options = { folder, bytes: 1 << 30, key: Buffer.alloc(32, 7), rewindsFreely: true, onWarning: () => undefined };
  return new PrefixStore({ ...options, ...more });
}

/** A process of the engine, as far as its caches go: asks one thing, and saves what it has when it ends. */
async function live(
  folder: string,
  prompt: string,
  more: Partial<PrefixStoreOptions> = {},
): Promise<{ bench: Bench; warnings: string[] }> {
  const warnings: string[] = [];
  let store = storeIn(folder);
  const bench = await openBench(model, {
    store: () => (store = storeIn(folder, { onWarning: (message) => void warnings.push(message), ...more })),
  });
  bench.scheduler.submit(job(1, prompt));
  await bench.run();
  while (bench.scheduler.save("all")) await store.settled();
  bench.close();
  return { bench, warnings };
}

const cachedBy = ({ bench }: { bench: Bench }): number => bench.done(1).usage?.cachedTokens ?? -1;
const onlyFile = (folder: string): string => join(folder, readdirSync(folder)[0] ?? "none");

describe("after a restart", () => {
  test("a conversation goes on from the disk, and is answered as it would be cold", async () => {
    const folder = newFolder();
    const first = await live(folder, conversation);
    expect(cachedBy(first)).toBe(0);
    const next = `${conversation} and now the sea`;
    const warm = await live(folder, next);
    expect(cachedBy(warm)).toBeGreaterThan(440);
    const cold = await live(newFolder(), next);
    expect(distance(trace(warm.bench, 1), trace(cold.bench, 1))).toBeLessThan(0.05);
    const rows = warm.bench.steps.flat().reduce((sum, { rows: count }) => sum + count, 0);
    expect(rows).toBeLessThan(30);
  });

  test("a prompt that only begins alike takes the part in common", async () => {
    const folder = newFolder();
    await live(folder, conversation);
    const other = `${words(110)} ${words(60, 5)}`;
    const warm = await live(folder, other);
    const shared = cachedBy(warm);
    expect(shared).toBeGreaterThan(300);
    expect(shared).toBeLessThan(440);
    const cold = await live(newFolder(), other);
    expect(distance(trace(warm.bench, 1), trace(cold.bench, 1))).toBeLessThan(0.05);
  });

  test("requests that come together read the file once and copy it", async () => {
    const folder = newFolder();
    await live(folder, conversation);
    const bench = await openBench(model, { store: () => storeIn(folder) });
    for (const id of [1, 2, 3]) bench.scheduler.submit(job(id, `${conversation} ${"abc"[id - 1]}`));
    await bench.run();
    for (const id of [1, 2, 3]) expect(bench.done(id).usage?.cachedTokens).toBeGreaterThan(440);
  });

  test("a state of another model, or of other settings, is not touched", async () => {
    const folder = newFolder();
    await live(folder, conversation);
    const other = await live(folder, conversation, { key: Buffer.alloc(32, 8) });
    expect(cachedBy(other)).toBe(0);
    expect(readdirSync(folder)).toHaveLength(2);
    expect(cachedBy(await live(folder, conversation))).toBeGreaterThan(400);
  });
});

describe("a damaged file", () => {
  const sound = newFolder();
  const at = (content: Buffer): Record<string, Buffer> => {
    const tokens = content.readUInt32LE(40);
    const head = 48 + 16 + tokens * 4 + 4;
    const flipped = (position: number): Buffer => {
      const copy = Buffer.from(content);
      copy[position] = (copy[position] ?? 0) ^ 1;
      return copy;
    };
    return {
      magic: flipped(3),
      key: flipped(20),
      "number of tokens": flipped(40),
      "many tokens": Buffer.concat([content.subarray(0, 40), Buffer.alloc(4, 0xff), content.subarray(44)]),
      "number of parts": flipped(44),
      "length of a part": flipped(48),
      "checksum of a part": flipped(52),
      "size of a part": flipped(56),
      "high half of the size": flipped(63),
      "a token": flipped(64 + 40),
      "checksum of the head": flipped(head - 1),
      "first byte of the state": flipped(head),
      "middle of the state": flipped(head + Math.floor((content.length - head) / 2)),
      "last byte": flipped(content.length - 1),
      "cut in the head": content.subarray(0, 30),
      "cut in the tokens": content.subarray(0, head - 50),
      "cut in the state": content.subarray(0, content.length - 1),
      "something behind": Buffer.concat([content, Buffer.alloc(1)]),
      empty: Buffer.alloc(0),
      "another file": Buffer.from("not a state at all ".repeat(1000)),
    };
  };

  test("is never used, whichever byte it is, and removed", async () => {
    await live(sound, conversation);
    const name = readdirSync(sound)[0] ?? "none";
    const content = readFileSync(join(sound, name));
    const prompt = conversation;
    for (const [what, bytes] of Object.entries(at(content))) {
      const folder = newFolder();
      writeFileSync(join(folder, name), bytes);
      const store = storeIn(folder);
      const bench = await openBench(model, { sessions: 4, store: () => store });
      bench.scheduler.submit(job(1, prompt, { maxTokens: 1 }));
      await bench.run();
      expect([what, bench.done(1).usage?.cachedTokens]).toEqual([what, 0]);
      expect([what, readdirSync(folder)]).toEqual([what, []]);
      bench.close();
    }
  });

  test("that llama.cpp itself refuses is gone on without", async () => {
    const folder = newFolder();
    await live(folder, conversation);
    // Sound in itself, but of a context with another number of sequences.
    const store = storeIn(folder);
    const bench = await openBench(model, { sessions: 2, store: () => store });
    bench.scheduler.submit(job(1, conversation));
    await bench.run();
    expect(bench.done(1).usage?.cachedTokens).toBe(0);
    const cold = await live(newFolder(), conversation);
    expect(distance(trace(bench, 1), trace(cold.bench, 1))).toBeLessThan(0.05);
  });
});

describe("the folder", () => {
  test("is the user's alone", async () => {
    const folder = join(newFolder(), "made", "here");
    await live(folder, conversation);
    if (process.platform !== "win32") {
      expect(statSync(folder).mode & 0o777).toBe(0o700);
      expect(statSync(onlyFile(folder)).mode & 0o777).toBe(0o600);
    }
  });

  test("holds a growing conversation once", async () => {
    const folder = newFolder();
    await live(folder, conversation);
    await live(folder, `${conversation} ${words(120, 9)}`);
    expect(readdirSync(folder)).toHaveLength(1);
  });

  test("keeps to its budget, and gives up what was unused for longest", async () => {
    const folder = newFolder();
    await live(folder, conversation);
    const first = onlyFile(folder);
    const { size } = statSync(first);
    utimesSync(first, new Date(2020, 1), new Date(2020, 1));
    const bytes = Math.floor(size * 2.5);
    await live(folder, words(150, 3), { bytes });
    const second = readdirSync(folder).find((name) => join(folder, name) !== first) ?? "none";
    utimesSync(join(folder, second), new Date(2021, 1), new Date(2021, 1));
    // Found again: now the second one is the one unused for longest.
    await live(folder, conversation, { bytes });
    await live(folder, words(150, 4), { bytes });
    const names = readdirSync(folder);
    expect(names).toHaveLength(2);
    expect(names).not.toContain(second);
  });

  test("takes no state that is larger than the budget", async () => {
    const folder = newFolder();
    await live(folder, conversation, { bytes: 1000 });
    expect(readdirSync(folder)).toEqual([]);
  });

  test.skipIf(process.platform === "win32" || process.getuid?.() === 0)(
    "that cannot be written is told of once",
    async () => {
      const folder = newFolder();
      chmodSync(folder, 0o500);
      const { warnings } = await live(folder, conversation);
      expect(warnings).toEqual([expect.stringContaining("EACCES")]);
    },
  );
});

test("a conversation whose slot is needed is put on disk first", async () => {
  const folder = newFolder();
  const store = storeIn(folder);
  const bench = await openBench(model, { sessions: 1, store: () => store });
  bench.scheduler.submit(job(1, conversation));
  await bench.run();
  bench.scheduler.submit(job(2, words(150, 3)));
  await bench.run();
  await store.settled();
  expect(readdirSync(folder)).toHaveLength(1);
  bench.scheduler.submit(job(3, conversation));
  await bench.run();
  expect(bench.done(3).usage?.cachedTokens).toBeGreaterThan(400);
});

const never = new AbortController().signal;

/** Messages of a chat: a system prompt, then what the user says. */
function said(...texts: string[]) {
  return texts.map((text, index) => ({
    role: index === 0 ? ("system" as const) : ("user" as const),
    content: [{ type: "text" as const, text }],
  }));
}

test("the engine keeps a conversation over its own end", async () => {
  const path = writeModel("kept.gguf", randomDecoder({ architecture: "qwen2" }));
  const cacheFolder = newFolder();
  const ask = async (text: string): Promise<number | undefined> => {
    const engine = startEngine({ model: path, cacheFolder });
    const request = chatRequest("kept", "", { messages: said(conversation, text), maxTokens: 4 });
    const answer = await readAnswer(engine.chat(request, never));
    await engine.close();
    return answer.usage?.cachedTokens;
  };
  expect(await ask("First")).toBe(0);
  expect(readdirSync(cacheFolder).filter((name) => name.endsWith(".kv"))).toHaveLength(1);
  expect(await ask("Second")).toBeGreaterThan(440);
});

test("the message is named in which a prompt differs from what was cached", async () => {
  const path = writeModel("changed.gguf", randomDecoder({ architecture: "qwen2" }));
  const engine = startEngine({ model: path, maxSessions: 1 });
  const ask = async (...texts: string[]): Promise<unknown> => {
    const request = chatRequest("changed", "", { messages: said(...texts), maxTokens: 2 });
    const answer = await readAnswer(engine.chat(request, never));
    return answer.events.find((event) => event.type === "finish")?.timings?.cacheMiss;
  };
  expect(await ask(words(60), "the north", "the sea")).toMatchObject({ reason: "new" });
  expect(await ask(words(60), "the stone", "the sea")).toMatchObject({ reason: "changed", message: 1 });
});
