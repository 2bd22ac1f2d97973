import { randomBytes } from "node:crypto";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import {
  holdTime,
  KeyConflict,
  type KeyRecord,
  type Meter,
  type MeterExchange,
  type MeterGrant,
  type State,
  StateError,
  type UsageGroup,
  usageGroups,
  type UsageRecord,
} from "../../src/state/state.ts";
import { noon, someKey, someRecord } from "./records.ts";

export { someKey, someRecord };

/** A state of its own, empty, as a suite opens one for each test. */
export interface OpenState {
  readonly state: State;
  /** A further handle on the same state, as another process would have it; `close` closes it too. */
  again(): Promise<State>;
  close(): Promise<void>;
}

export interface OpenOptions {
  /** The clock of meters, holds and the lifetimes of responses, in milliseconds since 1970. */
  readonly now?: () => number;
}

/** Everything that `State` promises, over one implementation of it. */
export function stateContract(name: string, open: (options?: OpenOptions) => Promise<OpenState>): void {
  describe(name, () => {
    const clock = { now: 0 };
    let opened: OpenState;
    let state: State;
    let other: State;
    beforeEach(async () => {
      clock.now = noon;
      opened = await open({ now: () => clock.now });
      state = opened.state;
      other = await opened.again();
    });
    afterEach(() => opened.close());
    const handles = (): Handles => ({ state, other, clock });

    it("says where it is, and that it is well", () => {
      expect(state.place.length).toBeGreaterThan(0);
      expect(other.place).toBe(state.place);
      expect(state.health()).toMatchObject({ ok: true });
      expect(state.health().since).toBeGreaterThan(0);
    });
    describe("keys", () => keyContract(handles));
    describe("usage", () => usageContract(handles));
    describe("reports", () => reportContract(handles));
    describe("meters", () => meterContract(handles));
    describe("places held", () => holdContract(handles));
    describe("responses", () => responseContract(handles));
    describe("documents", () => documentContract(handles));
  });
}

interface Handles {
  readonly state: State;
  readonly other: State;
  readonly clock: { now: number };
}

const day = 86_400_000;
const forever = noon + 1000 * day;

function keyContract(handles: () => Handles): void {
  it("come back as they were given, by id, by name and in a list", async () => {
    const { state, other } = handles();
    const plain = someKey();
    const full = someKey({
      name: "büro — 鍵",
      owner: "Ana",
      previous: { digest: randomBytes(32), until: noon + day },
      expires: noon + 30 * day,
      revoked: noon + 5,
      roles: ["inference", "admin", "metrics"],
      models: ["home/*", "qwen3"],
      limits: { requestsPerMinute: 60, spendPerMonth: 0.125, concurrent: 2 },
    });
    await state.keys.insert([plain, full]);
    expect(await other.keys.find(plain.id)).toEqual(plain);
    expect(await other.keys.find(full.name)).toEqual(full);
    expect(Buffer.isBuffer((await other.keys.find(full.id))!.digest)).toBe(true);
    expect(byId((await other.keys.since(0)).keys)).toEqual(byId([plain, full]));
    expect(await other.keys.find("kzzzzzzzzzzzz")).toBeUndefined();
    expect(await other.keys.find("")).toBeUndefined();
  });

  it.each(["name", "id", "digest"] as const)(
    "of which one has a %s that is taken are not added, none of them",
    async (field) => {
      const { state, other } = handles();
      const first = someKey();
      await state.keys.insert([first]);
      const [before, good] = [await state.keys.since(0), someKey()];
      const added = other.keys.insert([good, someKey({ [field]: first[field] }), someKey()]);
      await expect(added).rejects.toThrow(KeyConflict);
      await expect(added).rejects.toThrow(field === "digest" ? /key/ : String(first[field]));
      await expect(added).rejects.not.toThrow(first.digest.toString("hex"));
      expect(await state.keys.since(0)).toEqual(before);
      expect(await state.keys.find(good.name)).toBeUndefined();
    },
  );

  it.each(["name", "id", "digest"] as const)("that are added together may not share a %s", async (field) => {
    const { state } = handles();
    const first = someKey();
    await expect(state.keys.insert([first, someKey({ [field]: first[field] })])).rejects.toThrow(KeyConflict);
    expect((await state.keys.since(0)).keys).toEqual([]);
  });

  it("of one name, added by two at once, are added once", async () => {
    const { state, other } = handles();
    const tries = Array.from({ length: 20 }, (_, turn) => {
      return (turn % 2 === 0 ? state : other).keys.insert([someKey({ name: "the one" })]);
    });
    const ends = await Promise.allSettled(tries);
    expect(ends.filter(({ status }) => status === "fulfilled").length).toBe(1);
    for (const end of ends) if (end.status === "rejected") expect(end.reason).toBeInstanceOf(KeyConflict);
    expect((await state.keys.since(0)).keys.length).toBe(1);
  });

  it("change under two who do it at once, without a change lost", async () => {
    const { state, other } = handles();
    const first = someKey({ limits: { concurrent: 0 } });
    await state.keys.insert([first]);
    const raise = (held: KeyRecord): KeyRecord => ({ ...held, limits: { concurrent: held.limits.concurrent! + 1 } });
    await Promise.all(
      Array.from({ length: 50 }, (_, turn) => {
        return (turn % 2 === 0 ? state : other).keys.change(turn % 3 === 0 ? first.name : first.id, raise);
      }),
    );
    expect((await other.keys.find(first.id))!.limits).toEqual({ concurrent: 50 });
  });

  it("are found by their new name once they have one, and a fresh digest takes the place of the old", async () => {
    const { state, other } = handles();
    const first = someKey({ name: "before" });
    await state.keys.insert([first]);
    const digest = randomBytes(32);
    const renamed = { ...first, name: "after", digest, previous: { digest: first.digest, until: noon + 60_000 } };
    expect(await other.keys.change("before", () => renamed)).toEqual(renamed);
    expect(await state.keys.find("after")).toEqual(renamed);
    expect(await state.keys.find("before")).toBeUndefined();
    await state.keys.insert([someKey({ name: "before" })]);
  });

  it("cannot take the name of another", async () => {
    const { state } = handles();
    const [first, second] = [someKey(), someKey()];
    await state.keys.insert([first, second]);
    const taking = state.keys.change(second.id, (held) => ({ ...held, name: first.name }));
    await expect(taking).rejects.toThrow(KeyConflict);
    await expect(taking).rejects.toThrow(first.name);
    expect(await state.keys.find(second.id)).toEqual(second);
    expect((await state.keys.find(first.name))!.id).toBe(first.id);
  });

  it("stay as they are when the change throws, which passes on", async () => {
    const { state } = handles();
    const first = someKey();
    await state.keys.insert([first]);
    const { revision } = await state.keys.since(0);
    const refusal = new TypeError("no");
    const changed = state.keys.change(first.id, () => {
      throw refusal;
    });
    await expect(changed).rejects.toBe(refusal);
    expect(await state.keys.since(revision)).toEqual({ keys: [], revision });
    expect(await state.keys.change("nobody", (held) => held)).toBeUndefined();
  });

  it("since a revision are those that were changed after it, in their last form", async () => {
    const { state, other } = handles();
    const [first, second] = [someKey(), someKey()];
    await state.keys.insert([first, second]);
    const before = await other.keys.since(0);
    expect(await other.keys.since(before.revision)).toEqual({ keys: [], revision: before.revision });
    for (const revoked of [1, 2, 3]) await state.keys.change(first.id, (held) => ({ ...held, revoked }));
    const after = await other.keys.since(before.revision);
    expect(after.keys).toEqual([{ ...first, revoked: 3 }]);
    expect(after.revision).toBeGreaterThan(before.revision);
    expect(byId((await other.keys.since(0)).keys)).toEqual(byId([{ ...first, revoked: 3 }, second]));
  });

  it("are all seen by one who follows the revision while two add and change", async () => {
    const { state, other } = handles();
    const added: KeyRecord[] = [];
    const write = async (writer: State): Promise<void> => {
      for (let turn = 0; turn < 60; turn++) {
        const fresh = someKey();
        await writer.keys.insert([fresh]);
        added.push((await writer.keys.change(fresh.id, (held) => ({ ...held, revoked: turn })))!);
      }
    };
    const seen = new Map<string, KeyRecord>();
    let revision = 0;
    const follow = async (): Promise<void> => {
      const step = await state.keys.since(revision);
      expect(step.revision).toBeGreaterThanOrEqual(revision);
      revision = step.revision;
      for (const held of step.keys) seen.set(held.id, held);
    };
    let over = false;
    const writing = Promise.all([write(state), write(other)]).finally(() => (over = true));
    while (!over) {
      await follow();
      await new Promise(setImmediate);
    }
    await writing;
    await follow();
    expect(byId([...seen.values()])).toEqual(byId(added));
  });

  it("tell who watches of what another process changes, and of what this one does, until that is ended", async () => {
    const { state, other } = handles();
    const told = { here: 0, there: 0 };
    let wake = (): void => undefined;
    const stop = state.keys.watch(() => {
      told.here++;
      wake();
    });
    const stopThere = other.keys.watch(() => {
      told.there++;
      wake();
    });
    const both = async (): Promise<void> => {
      while (told.here === 0 || told.there === 0) await new Promise<void>((resolve) => (wake = resolve));
      Object.assign(told, { here: 0, there: 0 });
    };
    const first = someKey();
    await other.keys.insert([first]);
    await both();
    await state.keys.change(first.id, (held) => ({ ...held, revoked: noon }));
    await both();
    stop();
    stop();
    Object.assign(told, { here: 0, there: 0 });
    await state.keys.insert([someKey()]);
    while (told.there === 0) await new Promise<void>((resolve) => (wake = resolve));
    expect(told.here).toBe(0);
    stopThere();
  });

  it("are imported by the ten thousand, and found", async () => {
    const { state, other } = handles();
    const many = Array.from({ length: 10_000 }, () => someKey());
    await state.keys.insert(many);
    const { keys, revision } = await other.keys.since(0);
    expect(new Set(keys.map(({ id }) => id)).size).toBe(10_000);
    expect(keys.length).toBe(10_000);
    expect((await other.keys.since(revision)).keys).toEqual([]);
    expect(await other.keys.find(many[7777]!.name)).toEqual(many[7777]);
    await expect(state.keys.insert([someKey(), many[9999]!])).rejects.toThrow(KeyConflict);
  });
}

function usageContract(handles: () => Handles): void {
  it("come back as they were given", async () => {
    const { state, other } = handles();
    const plain = someRecord({ time: noon + 1 });
    const odd = someRecord({
      time: noon,
      key: "",
      model: "a/b:c *'\" 模型",
      provider: "",
      agent: "home",
      counted: "estimated",
      firstToken: null,
      duration: 0,
      spend: 9_000_000_000_000,
      bytesOut: 5_000_000_000,
      status: 502,
      outcome: "failed",
      content: { request: '{"a":"\\u0000 ü"}', reply: "" },
    });
    expect(await state.usage.add({ writer: "w", sequence: 1, records: [plain, odd] })).toBe(true);
    expect(await other.usage.list({ limit: 10 })).toEqual([plain, odd]);
  });

  it("of one batch count once, however often it is added, by whom and when", async () => {
    const { state, other } = handles();
    const batch = { writer: "journal-1", sequence: 1, records: [someRecord(), someRecord()] };
    const ends = await Promise.all([state, other, state, other].map(({ usage }) => usage.add(batch)));
    expect(ends.filter(Boolean).length).toBe(1);
    expect(await state.usage.add({ ...batch, sequence: 2, records: [someRecord()] })).toBe(true);
    expect(await other.usage.add(batch)).toBe(false);
    expect(await other.usage.add({ ...batch, writer: "journal-2" })).toBe(true);
    expect((await other.usage.list({ limit: 100 })).length).toBe(5);
    expect(await total(other)).toMatchObject({ requests: 5, promptTokens: 50 });
  });

  it("of one large batch count once, when two add it at the same time", async () => {
    const { state, other } = handles();
    const records = Array.from({ length: 3000 }, (_, turn) => someRecord({ time: noon + turn, key: `k${turn % 700}` }));
    const ends = await Promise.all([state, other].map(({ usage }) => usage.add({ writer: "w", sequence: 1, records })));
    expect(ends.filter(Boolean).length).toBe(1);
    expect(await total(state)).toMatchObject({ requests: 3000, promptTokens: 30_000 });
    expect((await pages(other, 1000)).map(({ id }) => id)).toEqual(records.map(({ id }) => id).toReversed());
  });

  it("have a last sequence for each writer", async () => {
    const { state, other } = handles();
    expect(await state.usage.lastSequence("one")).toBe(0);
    await state.usage.add({ writer: "one", sequence: 3, records: [someRecord()] });
    await state.usage.add({ writer: "one", sequence: 900_000_000_000, records: [] });
    await state.usage.add({ writer: "two", sequence: 1, records: [someRecord()] });
    expect(await other.usage.lastSequence("one")).toBe(900_000_000_000);
    expect(await other.usage.lastSequence("two")).toBe(1);
    expect(await state.usage.add({ writer: "one", sequence: 4, records: [someRecord()] })).toBe(false);
  });

  it("are listed newest first, in pages, of all keys or of one", async () => {
    const { state } = handles();
    const all = Array.from({ length: 250 }, (_, turn) => {
      return someRecord({ time: noon + turn * 7, key: turn % 5 === 0 ? "krare" : "kusual" });
    });
    // Journals come late and out of turn.
    await state.usage.add({ writer: "late", sequence: 1, records: all.slice(100) });
    await state.usage.add({ writer: "w", sequence: 1, records: all.slice(0, 100) });
    const newest = all.toReversed();
    expect(await pages(state, 40)).toEqual(newest);
    expect(await pages(state, 7, "krare")).toEqual(newest.filter(({ key }) => key === "krare"));
    expect(await state.usage.list({ key: "nobody", limit: 10 })).toEqual([]);
    expect(await state.usage.list({ before: noon, limit: 10 })).toEqual([]);
  });

  it("tell when a key was last used, also after the records are gone and when an older one comes late", async () => {
    const { state, other } = handles();
    const add = (sequence: number, key: string, time: number): Promise<boolean> =>
      state.usage.add({ writer: "w", sequence, records: [someRecord({ key, time })] });
    await add(1, "ka", noon + 5000);
    await add(2, "kb", noon + 100);
    await add(3, "ka", noon);
    const expected = new Map([
      ["ka", noon + 5000],
      ["kb", noon + 100],
    ]);
    expect(new Map(await other.usage.lastUsed(["ka", "kb", "kc"]))).toEqual(expected);
    await state.usage.trim({ before: forever, most: 0, sumsBefore: 0 });
    expect(new Map(await other.usage.lastUsed(["ka", "kb"]))).toEqual(expected);
    expect((await state.usage.lastUsed([])).size).toBe(0);
    const many = Array.from({ length: 3000 }, (_, turn) => `k${turn}`);
    expect((await state.usage.lastUsed([...many, "kb"])).size).toBe(1);
  });

  it("are forgotten by age and by number, while every sum stays", async () => {
    const { state, other } = handles();
    const times = Array.from({ length: 3000 }, (_, turn) => noon - turn * 60_000);
    await state.usage.add({ writer: "w", sequence: 1, records: times.map((time) => someRecord({ time })) });
    const before = await other.usage.sums({ ...allDays, by: ["day", "key"] });
    expect(await state.usage.trim({ before: noon - 2000 * 60_000, most: 10_000, sumsBefore: 0 })).toBe(999);
    expect(await state.usage.trim({ before: noon - 2000 * 60_000, most: 10_000, sumsBefore: 0 })).toBe(0);
    expect(await state.usage.trim({ before: 0, most: 700, sumsBefore: 0 })).toBe(1301);
    const left = await pages(other, 1000);
    expect(left.map(({ time }) => time)).toEqual(times.slice(0, 700));
    expect(await other.usage.sums({ ...allDays, by: ["day", "key"] })).toEqual(before);
    expect(await state.usage.add({ writer: "w", sequence: 1, records: [someRecord()] })).toBe(false);
  });

  it("are forgotten with what was said in them", async () => {
    const { state } = handles();
    const content = { request: "what was asked", reply: "what was answered" };
    const said = [someRecord({ content }), someRecord({ time: noon + 1, content })];
    await state.usage.add({ writer: "w", sequence: 1, records: said });
    expect(await state.usage.trim({ before: noon + 1, most: 10, sumsBefore: 0 })).toBe(1);
    expect(await state.usage.list({ limit: 10 })).toEqual([said[1]]);
  });
}

function reportContract(handles: () => Handles): void {
  const calls = (): UsageRecord[] => [
    someRecord({ time: at("2026-10-31T23:59:59.999Z"), key: "ka", model: "m1", provider: "p1", agent: "x" }),
    someRecord({
      time: at("2026-11-01T00:00:00Z"),
      key: "ka",
      model: "m1",
      provider: "p1",
      agent: "x",
      outcome: "left",
    }),
    someRecord({ time: at("2026-11-01T12:00:00Z"), key: "ka", model: "m2", provider: "p2", agent: "" }),
    someRecord({
      time: at("2026-11-01T12:00:00Z"),
      key: "kb",
      model: "m1",
      provider: "p1",
      agent: "y",
      outcome: "failed",
    }),
    someRecord({
      time: at("2026-11-30T12:00:00Z"),
      key: "kb",
      model: "m2",
      provider: "p2",
      agent: "x",
      spend: 1_000_000,
    }),
    someRecord({ time: at("2026-12-01T00:00:00Z"), key: "", model: "", provider: "", agent: "", outcome: "refused" }),
  ];
  beforeEach(async () => {
    const { state, other } = handles();
    await state.usage.add({ writer: "one", sequence: 1, records: calls().slice(0, 3) });
    await other.usage.add({ writer: "two", sequence: 1, records: calls().slice(3) });
  });

  it("add up everything that is counted", async () => {
    const { state } = handles();
    expect(await state.usage.sums({ ...allDays, by: [] })).toEqual([
      {
        group: {},
        requests: 6,
        failures: 3,
        promptTokens: 60,
        cachedTokens: 24,
        completionTokens: 18,
        spend: 1_000_035,
        duration: 1500,
      },
    ]);
  });

  it.each<[readonly UsageGroup[], readonly string[]]>([
    [["day"], ["2026-10-31 1", "2026-11-01 3", "2026-11-30 1", "2026-12-01 1"]],
    [["month"], ["2026-10 1", "2026-11 4", "2026-12 1"]],
    [["key"], [" 1", "ka 3", "kb 2"]],
    [["model"], [" 1", "m1 3", "m2 2"]],
    [["provider"], [" 1", "p1 3", "p2 2"]],
    [["agent"], [" 2", "x 3", "y 1"]],
    [
      ["month", "key"],
      ["2026-10 ka 1", "2026-11 ka 2", "2026-11 kb 2", "2026-12  1"],
    ],
    [
      ["model", "day"],
      [" 2026-12-01 1", "m1 2026-10-31 1", "m1 2026-11-01 2", "m2 2026-11-01 1", "m2 2026-11-30 1"],
    ],
  ])("are grouped by %j, in that order", async (by, lines) => {
    const sums = await handles().state.usage.sums({ ...allDays, by });
    expect(sums.map(({ group, requests }) => [...by.map((part) => group[part]), requests].join(" "))).toEqual(lines);
    for (const { group } of sums) expect(Object.keys(group).toSorted()).toEqual(by.toSorted());
  });

  it("have every group at once", async () => {
    const sums = await handles().other.usage.sums({ ...allDays, by: usageGroups });
    expect(sums.length).toBe(6);
    expect(sums[0]!.group).toEqual({
      day: "2026-10-31",
      month: "2026-10",
      key: "ka",
      model: "m1",
      provider: "p1",
      agent: "x",
    });
  });

  it("are of the days that are asked for, the first and the last among them, by UTC", async () => {
    const { state } = handles();
    const count = async (from: string, to: string, only: { key?: string; model?: string } = {}): Promise<number> =>
      (await state.usage.sums({ from, to, by: [], ...only }))[0]?.requests ?? 0;
    expect(await count("2026-11-01", "2026-11-30")).toBe(4);
    expect(await count("2026-11-01", "2026-11-01")).toBe(3);
    expect(await count("2026-11-02", "2026-11-29")).toBe(0);
    expect(await count("2026-11-30", "2026-11-01")).toBe(0);
    expect(await count("2026-10-01", "2026-12-31", { key: "ka" })).toBe(3);
    expect(await count("2026-10-01", "2026-12-31", { key: "ka", model: "m1" })).toBe(2);
    expect(await count("2026-10-01", "2026-12-31", { key: "" })).toBe(1);
    expect(await count("2026-10-01", "2026-12-31", { model: "m9" })).toBe(0);
    expect(await state.usage.sums({ from: "2026-11-02", to: "2026-11-29", by: [] })).toEqual([]);
  });

  it("lose only the sums of days before the one that is named", async () => {
    const { state, other } = handles();
    await state.usage.trim({ before: 0, most: 10_000, sumsBefore: at("2026-11-01T00:00:00Z") });
    const days = await other.usage.sums({ ...allDays, by: ["day"] });
    expect(days.map(({ group }) => group.day)).toEqual(["2026-11-01", "2026-11-30", "2026-12-01"]);
    await state.usage.trim({ before: 0, most: 10_000, sumsBefore: at("2026-11-01T18:00:00Z") });
    expect((await other.usage.sums({ ...allDays, by: ["day"] })).length).toBe(3);
  });
}

function meterContract(handles: () => Handles): void {
  const meter = (fields: Partial<Meter> = {}): Meter => ({
    id: "m",
    capacity: 10,
    refill: 0,
    expires: forever,
    ...fields,
  });
  const take = async (from: State, meterOf: Meter, want: number, least = 1): Promise<MeterGrant> =>
    (await from.meters.exchange([{ meter: meterOf, give: 0, want, least }]))[0]!;
  const give = async (to: State, meterOf: Meter, back: number): Promise<number> =>
    (await to.meters.exchange([{ meter: meterOf, give: back, want: 0, least: 0 }]))[0]!.level;

  it("begin full, and are shared", async () => {
    const { state, other } = handles();
    expect(await take(state, meter(), 4)).toEqual({ granted: 4, level: 6 });
    expect(await take(other, meter(), 1)).toEqual({ granted: 1, level: 5 });
    expect(await take(other, meter({ id: "n" }), 1)).toEqual({ granted: 1, level: 9 });
  });

  it("give as much as there is, but nothing when that is less than the least", async () => {
    const { state } = handles();
    expect(await take(state, meter(), 15, 11)).toEqual({ granted: 0, level: 10 });
    expect(await take(state, meter(), 15, 10)).toEqual({ granted: 10, level: 0 });
    expect(await take(state, meter(), 5, 0)).toEqual({ granted: 0, level: 0 });
    expect(await take(state, meter(), 5, 1)).toEqual({ granted: 0, level: 0 });
  });

  it("get back what was not used, never beyond their capacity, before they give", async () => {
    const { state } = handles();
    await take(state, meter(), 10);
    expect(await state.meters.exchange([{ meter: meter(), give: 3, want: 5, least: 1 }])).toEqual([
      { granted: 3, level: 0 },
    ]);
    expect(await give(state, meter(), 4)).toBe(4);
    expect(await give(state, meter(), 400)).toBe(10);
  });

  it("go into debt where more was used than was had, and give nothing until that is paid", async () => {
    const { state, other, clock } = handles();
    const refilling = meter({ refill: 2 });
    await take(state, refilling, 10);
    expect(await give(state, refilling, -6)).toBe(-6);
    expect(await take(other, refilling, 5, 0)).toEqual({ granted: 0, level: -6 });
    clock.now += 3000;
    expect(await take(other, refilling, 5)).toEqual({ granted: 0, level: 0 });
    clock.now += 1000;
    expect(await take(other, refilling, 5)).toEqual({ granted: 2, level: 0 });
  });

  it("fill up again by the second, in fractions, up to their capacity", async () => {
    const { state, clock } = handles();
    const slow = meter({ refill: 0.5 });
    await take(state, slow, 10);
    // Looked at often, it fills as fast as when it is left alone.
    for (let turn = 0; turn < 30; turn++) {
      clock.now += 100;
      await give(state, slow, 0);
    }
    const { granted, level } = await take(state, slow, 10, 1);
    expect(granted).toBeCloseTo(1.5, 9);
    expect(level).toBeCloseTo(0, 9);
    clock.now += 3_600_000;
    expect(await take(state, slow, 25)).toEqual({ granted: 10, level: 0 });
  });

  it("hold large numbers and small ones exactly", async () => {
    const { state } = handles();
    const wide = meter({ capacity: 9_000_000_000_000 });
    expect(await take(state, wide, 1)).toEqual({ granted: 1, level: 8_999_999_999_999 });
    expect(await take(state, wide, 0.25, 0.25)).toEqual({ granted: 0.25, level: 8_999_999_999_998.75 });
  });

  it("do many exchanges in one call, each in its place, also several with one meter", async () => {
    const { state } = handles();
    const many = Array.from({ length: 500 }, (_, turn): MeterExchange => {
      return { meter: meter({ id: `m${turn % 250}` }), give: 0, want: 6, least: 1 };
    });
    const grants = await state.meters.exchange(many);
    expect(grants.slice(0, 250)).toEqual(Array(250).fill({ granted: 6, level: 4 }));
    expect(grants.slice(250)).toEqual(Array(250).fill({ granted: 4, level: 0 }));
    expect(await state.meters.exchange([])).toEqual([]);
  });

  it("never give more than they hold, however many ask at once", async () => {
    const { state, other } = handles();
    const grants = await Promise.all(
      Array.from({ length: 80 }, (_, turn) => take(turn % 2 === 0 ? state : other, meter({ capacity: 100 }), 3)),
    );
    expect(grants.reduce((sum, { granted }) => sum + granted, 0)).toBe(100);
    expect((await take(state, meter({ capacity: 100 }), 1)).granted).toBe(0);
  });

  it("neither give nor take when the clock jumps backwards, and fill on from there", async () => {
    const { state, other, clock } = handles();
    const refilling = meter({ refill: 1 });
    await take(state, refilling, 8);
    clock.now -= 3_600_000;
    expect(await take(other, refilling, 0, 0)).toEqual({ granted: 0, level: 2 });
    clock.now += 5000;
    expect(await take(state, refilling, 10)).toEqual({ granted: 7, level: 0 });
  });

  it("keep what is used when their capacity changes", async () => {
    const { state, other } = handles();
    await take(state, meter(), 8);
    expect(await take(other, meter({ capacity: 30 }), 1)).toEqual({ granted: 1, level: 21 });
    expect((await take(state, meter({ capacity: 5 }), 1)).granted).toBe(0);
    expect((await take(other, meter({ capacity: 30 }), 1)).level).toBe(20);
  });

  it("are forgotten after their time", async () => {
    const { state, clock } = handles();
    await take(state, meter({ expires: noon + 60_000 }), 8);
    clock.now += 59_000;
    expect((await take(state, meter({ expires: noon + 60_000 }), 1)).level).toBe(1);
    clock.now += 2000;
    expect((await take(state, meter({ expires: noon + 600_000 }), 1)).level).toBe(9);
  });
}

function holdContract(handles: () => Handles): void {
  const hold = async (at: State, replica: string, want: number, most = 10): Promise<number> =>
    (await at.meters.hold(replica, [{ id: "calls", most, want }]))[0]!;

  it("are never more than allowed, over all replicas", async () => {
    const { state, other } = handles();
    expect(await hold(state, "a", 6)).toBe(6);
    expect(await hold(other, "b", 6)).toBe(4);
    expect(await hold(other, "c", 1)).toBe(0);
    expect(await hold(state, "a", 6)).toBe(6);
    expect(await hold(state, "a", 8)).toBe(6);
    expect(await hold(state, "a", 2)).toBe(2);
    expect(await hold(other, "c", 9)).toBe(4);
    expect(await other.meters.hold("b", [])).toEqual([]);
  });

  it("are never more than allowed when many ask at once", async () => {
    const { state, other } = handles();
    const held = await Promise.all(
      Array.from({ length: 40 }, (_, turn) => hold(turn % 2 === 0 ? state : other, `r${turn}`, 3, 50)),
    );
    expect(held.reduce((sum, count) => sum + count, 0)).toBe(50);
  });

  it("are free again when their replica is not heard of", async () => {
    const { state, other, clock } = handles();
    await hold(state, "dead", 10);
    clock.now += holdTime - 1;
    expect(await hold(other, "b", 5)).toBe(0);
    clock.now += 2;
    expect(await hold(other, "b", 5)).toBe(5);
    // It was away, not dead: what it had is taken.
    expect(await hold(state, "dead", 10)).toBe(5);
  });

  it("stay with a replica that goes on asking", async () => {
    const { state, other, clock } = handles();
    for (let turn = 0; turn < 5; turn++) {
      expect(await hold(state, "a", 7)).toBe(7);
      clock.now += holdTime - 1;
      expect(await hold(other, `b${turn}`, 10)).toBe(3);
      clock.now += 2;
      await hold(state, "a", 7);
      clock.now += holdTime - 1;
    }
  });

  it("can always become fewer, also when fewer are allowed than before", async () => {
    const { state, other } = handles();
    await hold(state, "a", 6);
    await hold(other, "b", 4);
    expect(await hold(state, "a", 5, 3)).toBe(5);
    expect(await hold(other, "c", 1, 3)).toBe(0);
    expect(await hold(state, "a", 0, 3)).toBe(0);
    expect(await hold(other, "b", 1, 3)).toBe(1);
    expect(await hold(other, "c", 9, 3)).toBe(2);
  });

  it("are free in time when the clock has jumped backwards", async () => {
    const { state, other, clock } = handles();
    await hold(state, "dead", 10);
    clock.now -= 3_600_000;
    expect(await hold(other, "b", 5)).toBe(0);
    clock.now += holdTime + 1;
    expect(await hold(other, "b", 5)).toBe(5);
  });

  it("are held by several meters in one call", async () => {
    const { state } = handles();
    const holds = Array.from({ length: 300 }, (_, turn) => ({ id: `calls-${turn}`, most: 3, want: turn % 5 }));
    expect(await state.meters.hold("a", holds)).toEqual(holds.map(({ want }) => Math.min(3, want)));
  });
}

/** What every store of responses promises, wherever it is. */
export interface ResponseHandles {
  readonly state: Pick<State, "responses">;
  readonly other: Pick<State, "responses">;
  readonly clock: { now: number };
}

export function responseContract(handles: () => ResponseHandles): void {
  it("are there for the one who got them, whole, until deleted", async () => {
    const { state, other } = handles();
    const text = JSON.stringify({ said: "ü 模型 \u0000 \u{1F600}", many: "x".repeat(100_000) });
    await state.responses.put("ka", "resp_1", `${text}\u0000`, day);
    expect(await other.responses.get("ka", "resp_1")).toBe(`${text}\u0000`);
    expect(await other.responses.get("kb", "resp_1")).toBeUndefined();
    expect(await other.responses.get("ka", "resp_2")).toBeUndefined();
    expect(await other.responses.delete("kb", "resp_1")).toBe(false);
    expect(await other.responses.delete("ka", "resp_1")).toBe(true);
    expect(await other.responses.delete("ka", "resp_1")).toBe(false);
    expect(await state.responses.get("ka", "resp_1")).toBeUndefined();
  });

  it("are not mixed up where principal and id join alike", async () => {
    const { state } = handles();
    await state.responses.put("a:b", "c", "first", day);
    await state.responses.put("a", "b:c", "second", day);
    await state.responses.put("", "a:b:c", "third", day);
    expect(await state.responses.get("a:b", "c")).toBe("first");
    expect(await state.responses.get("a", "b:c")).toBe("second");
    expect(await state.responses.get("", "a:b:c")).toBe("third");
  });

  it("are gone after their lifetime, and a new text begins a new one", async () => {
    const { state, other, clock } = handles();
    await state.responses.put("ka", "short", "text", 60_000);
    await state.responses.put("ka", "again", "old", 60_000);
    clock.now += 59_000;
    expect(await other.responses.get("ka", "short")).toBe("text");
    await other.responses.put("ka", "again", "new", 60_000);
    clock.now += 2000;
    expect(await other.responses.get("ka", "short")).toBeUndefined();
    expect(await other.responses.delete("ka", "short")).toBe(false);
    expect(await state.responses.get("ka", "again")).toBe("new");
  });

  it("that are too long are refused, and leave what was there", async () => {
    const { state } = handles();
    await state.responses.put("ka", "long", "ü".repeat(4_000_000), day);
    expect((await state.responses.get("ka", "long"))!.length).toBe(4_000_000);
    await expect(state.responses.put("ka", "long", "ü".repeat(4_200_000), day)).rejects.toThrow(StateError);
    expect((await state.responses.get("ka", "long"))!.length).toBe(4_000_000);
  });
}

function documentContract(handles: () => Handles): void {
  it("are there, whole, once they were written", async () => {
    const { state, other } = handles();
    const text = JSON.stringify({ said: "ü 模型 \u0000" });
    expect(await state.documents.read("agents")).toBeUndefined();
    expect(await state.documents.change("agents", (before) => `${before ?? ""}${text}`)).toBe(text);
    expect(await other.documents.read("agents")).toBe(text);
    expect(await other.documents.read("agents2")).toBeUndefined();
    expect(await other.documents.change("agents", () => "")).toBe("");
    expect(await state.documents.read("agents")).toBe("");
  });

  it("change under two who do it at once, without a change lost", async () => {
    const { state, other } = handles();
    await Promise.all(
      Array.from({ length: 50 }, (_, turn) => {
        return (turn % 2 === 0 ? state : other).documents.change("list", (text) => `${text ?? ""}${turn},`);
      }),
    );
    const turns = (await state.documents.read("list"))!.split(",").slice(0, -1).map(Number);
    expect(turns.toSorted((a, b) => a - b)).toEqual(Array.from({ length: 50 }, (_, turn) => turn));
  });

  it("stay as they are when the change throws, which passes on, or is too long", async () => {
    const { state } = handles();
    await state.documents.change("d", () => "good");
    const refusal = new RangeError("no");
    const changed = state.documents.change("d", () => {
      throw refusal;
    });
    await expect(changed).rejects.toBe(refusal);
    await expect(state.documents.change("d", () => "x".repeat(8_400_000))).rejects.toThrow(StateError);
    expect(await state.documents.read("d")).toBe("good");
  });

  it("tell who watches them of every change, here and elsewhere, and of no other's", async () => {
    const { state, other } = handles();
    let told = 0;
    let wake = (): void => undefined;
    const stop = state.documents.watch("mine", () => {
      told++;
      wake();
    });
    let others = 0;
    const stopOther = state.documents.watch("yours", () => void others++);
    const next = async (): Promise<void> => {
      while (told === 0) await new Promise<void>((resolve) => (wake = resolve));
      told = 0;
    };
    await other.documents.change("mine", () => "there");
    await next();
    await state.documents.change("mine", () => "here");
    await next();
    expect(others).toBe(0);
    stop();
    stopOther();
  });
}

const allDays = { from: "2026-01-01", to: "2027-12-31" };

function at(text: string): number {
  return Date.parse(text);
}

function byId(keys: readonly KeyRecord[]): KeyRecord[] {
  return keys.toSorted((a, b) => (a.id < b.id ? -1 : 1));
}

async function total(state: State): Promise<object | undefined> {
  return (await state.usage.sums({ ...allDays, by: [] }))[0];
}

/** Every record, page by page. */
async function pages(state: State, limit: number, key?: string): Promise<UsageRecord[]> {
  const all: UsageRecord[] = [];
  for (let before = forever; ;) {
    const page = await state.usage.list({ before, limit, ...(key === undefined ? {} : { key }) });
    all.push(...page);
    if (page.length < limit) return all;
    before = page.at(-1)!.time;
  }
}
