import { afterEach, describe, expect, test } from "vitest";
import { digestOf, newKey, revokedKey, rotatedKey } from "../../src/access/issue.ts";
import { withFields } from "../../src/access/key-fields.ts";
import { KeyRing } from "../../src/access/key-ring.ts";
import { type Log, silent } from "../../src/core/log.ts";
import type { Principal } from "../../src/core/access.ts";
import { MemoryKeys } from "../support/memory-keys.ts";

const now = Date.UTC(2026, 10, 23);
const minute = 60_000;
let ring: KeyRing | undefined;
afterEach(() => {
  ring?.close();
  ring = undefined;
});

async function open(
  keys: MemoryKeys,
  log: Log = silent,
): Promise<(text: string, time?: number) => Principal | undefined> {
  const opened = await KeyRing.open(keys.asState(), log);
  ring = opened;
  return (text, time = now) => opened.find(digestOf(text), time);
}

describe("the keys of a state", () => {
  test("are found by their text, with what they may do", async () => {
    const keys = new MemoryKeys();
    const a = newKey({ name: "a", models: ["qwen*", "coder"], roles: ["metrics"], limits: { concurrent: 3 } }, now);
    const b = newKey({ name: "b" }, now);
    await keys.insert([a.record, b.record]);
    const find = await open(keys);
    expect(find(a.text)).toMatchObject({ id: a.record.id, name: "a", limits: { concurrent: 3 } });
    expect([...(find(a.text)?.roles ?? [])]).toEqual(["metrics"]);
    expect(["qwen3", "coder", "coder2", "xqwen"].map((model) => find(a.text)?.allows?.(model))).toEqual([
      true,
      true,
      false,
      false,
    ]);
    expect(find(b.text)?.allows).toBeUndefined();
    expect(find(`${a.text}x`)).toBeUndefined();
    expect(find("")).toBeUndefined();
  });

  test("end at their time, without anybody being told", async () => {
    const keys = new MemoryKeys();
    const { record, text } = newKey({ name: "a", expires: now + minute }, now);
    await keys.insert([record]);
    const find = await open(keys);
    expect(find(text, now + minute - 1)?.name).toBe("a");
    expect(find(text, now + minute)).toBeUndefined();
    // A clock that is set back.
    expect(find(text, now - minute)?.name).toBe("a");
  });

  test("are followed: new ones, revoked ones, changed ones", async () => {
    const keys = new MemoryKeys();
    const find = await open(keys);
    expect(ring?.size).toBe(0);
    const { record, text } = newKey({ name: "a" }, now);
    await keys.insert([record]);
    await ring?.refresh();
    expect(find(text)?.name).toBe("a");
    await keys.change("a", (key) => withFields(key, { name: "z", limits: { tokensPerDay: 5 } }));
    await ring?.refresh();
    expect(find(text)).toMatchObject({ name: "z", limits: { tokensPerDay: 5 } });
    await keys.change("z", (key) => revokedKey(key, now));
    await ring?.refresh();
    expect(find(text)).toBeUndefined();
    // A server that has had keys asks for one for ever.
    expect(ring?.size).toBe(1);
  });

  test("are followed without being asked to", async () => {
    const keys = new MemoryKeys();
    const find = await open(keys);
    const heard = new Promise<void>((resolve) => ring?.onChange(resolve));
    const { record, text } = newKey({ name: "a" }, now);
    await keys.insert([record]);
    await heard;
    expect(find(text)?.name).toBe("a");
  });

  test("have two texts after a rotation, until the old one's time, and one after the next", async () => {
    const keys = new MemoryKeys();
    const first = newKey({ name: "a" }, now);
    await keys.insert([first.record]);
    const find = await open(keys);
    const second = rotatedKey(first.record, now, minute);
    await keys.change("a", () => second.record);
    await ring?.refresh();
    expect(find(second.text)?.name).toBe("a");
    expect(find(first.text, now + minute - 1)?.name).toBe("a");
    expect(find(first.text, now + minute)).toBeUndefined();
    const third = rotatedKey(second.record, now, 0);
    await keys.change("a", () => third.record);
    await ring?.refresh();
    expect([first, second, third].map(({ text }) => find(text) !== undefined)).toEqual([false, false, true]);
    const fourth = rotatedKey(third.record, now, minute);
    await keys.change("a", () => revokedKey(fourth.record, now));
    await ring?.refresh();
    expect([third, fourth].map(({ text }) => find(text))).toEqual([undefined, undefined]);
  });
});

describe("a state that does not answer", () => {
  test("cannot be opened", async () => {
    const keys = new MemoryKeys();
    keys.away = true;
    await expect(KeyRing.open(keys.asState(), silent)).rejects.toThrow("the state is away");
  });

  test("leaves the last known keys at work, says so once, and is followed again", async () => {
    const keys = new MemoryKeys();
    const a = newKey({ name: "a" }, now);
    await keys.insert([a.record]);
    const lines: string[] = [];
    const write = (_fields: object, message: string): void => void lines.push(message);
    const find = await open(keys, { ...silent, warn: write, info: write });
    keys.away = true;
    await ring?.refresh();
    await ring?.refresh();
    expect(find(a.text)?.name).toBe("a");
    keys.away = false;
    const b = newKey({ name: "b" }, now);
    await keys.insert([b.record]);
    await ring?.refresh();
    expect(find(b.text)?.name).toBe("b");
    expect(lines).toEqual(["keys cannot be read; those known last go on", "the keys are followed again"]);
  });

  test("is asked again by itself", async () => {
    const keys = new MemoryKeys();
    const find = await open(keys);
    keys.away = true;
    await ring?.refresh();
    const a = newKey({ name: "a" }, now);
    await keys.insert([a.record]);
    await ring?.refresh();
    expect(find(a.text)).toBeUndefined();
    const heard = new Promise<void>((resolve) => ring?.onChange(resolve));
    keys.away = false;
    await heard;
    expect(find(a.text)?.name).toBe("a");
  });

  test("and comes back empty has lost them: those known last go on", async () => {
    const keys = new MemoryKeys();
    const a = newKey({ name: "a" }, now);
    await keys.insert([a.record]);
    const find = await open(keys);
    keys.replace([]);
    await ring?.refresh();
    expect(find(a.text)?.name).toBe("a");
  });

  test("and comes back as it once was, is believed", async () => {
    const keys = new MemoryKeys();
    const [a, b] = [newKey({ name: "a" }, now), newKey({ name: "b" }, now)];
    await keys.insert([a.record, b.record]);
    const find = await open(keys);
    keys.replace([b.record]);
    await ring?.refresh();
    expect([find(a.text)?.name, find(b.text)?.name]).toEqual([undefined, "b"]);
  });
});
