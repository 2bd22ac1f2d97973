import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import {
  chmodSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { AgentKeys } from "../../src/state/agent-keys.ts";
import { readAgentFile } from "../../src/state/agent-file.ts";

let folder = "";
let file = "";
const opened: AgentKeys[] = [];
const children: ChildProcess[] = [];
beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), "lair-keys-"));
  file = path.join(folder, "data", "agents.json");
});
afterEach(() => {
  vi.useRealTimers();
  for (const keys of opened.splice(0)) keys.close();
  for (const child of children.splice(0)) child.kill("SIGKILL");
  rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
});

function open(): AgentKeys {
  const keys = new AgentKeys(file);
  opened.push(keys);
  return keys;
}

/** Another process that registers `count` agents, and then goes on changing the file if it is told so. */
function another(prefix: string, count: number, ...on: string[]): ChildProcess {
  const script = fileURLToPath(new URL("./change-agents.ts", import.meta.url));
  const args = ["--import", import.meta.resolve("tsx"), script, file, prefix, String(count), ...on];
  const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"] });
  children.push(child);
  return child;
}

/** What `onChange` of a watched file tells, one call after another. */
function changes(keys: AgentKeys): { next: () => Promise<void> } {
  let told = 0;
  let wake = (): void => undefined;
  keys.watch(() => {
    told++;
    wake();
  });
  // `watch` has read once already.
  told = 0;
  return {
    next: async () => {
      while (told === 0) await new Promise<void>((resolve) => (wake = resolve));
      told = 0;
    },
  };
}

describe("a key", () => {
  it("lets its agent in, in this process and in another that reads the file", async () => {
    const { key, keyId } = await open().add("home");
    expect(key).toMatch(/^lla_home_[A-Za-z0-9_-]{43}$/);
    const identity = open().authenticate(key);
    expect(identity).toMatchObject({ name: "home", keyId });
    expect(identity?.refusal()).toBeUndefined();
  });

  it("is in no file", async () => {
    const { key } = await open().add("home");
    const secret = key.slice("lla_home_".length);
    for (const name of readdirSync(path.dirname(file)))
      expect(readFileSync(path.join(path.dirname(file), name), "utf8")).not.toContain(secret);
  });

  it.each([
    ["", "nothing"],
    ["sk-123", "a key of something else"],
    ["lla_home_", "no secret"],
    ["lla_Home_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "another case"],
    ["lla_home_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "a wrong secret"],
    ["lla_away_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "an unknown agent"],
    ["lla___proto___AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "a name that objects have"],
  ])("is refused: %j (%s)", async (text) => {
    const keys = open();
    await keys.add("home");
    expect(keys.authenticate(text)).toBeUndefined();
  });

  it("of one agent is none of another, whatever name it is shown with", async () => {
    const keys = open();
    const { key } = await keys.add("home");
    await keys.add("office");
    expect(keys.authenticate(key.replace("home", "office"))).toBeUndefined();
  });

  it("stops at its expiry, also for a connection that is there, which is told at once", async () => {
    vi.useFakeTimers();
    const keys = open();
    const { key, expires } = await withRealTimers(() => keys.add("home", { expires: 60_000 }));
    const identity = keys.authenticate(key);
    const told = vi.fn<() => void>();
    keys.watch(told);
    told.mockClear();
    vi.setSystemTime(expires! - 1);
    expect(identity?.refusal()).toBeUndefined();
    vi.advanceTimersByTime(60_001);
    expect(told).toHaveBeenCalled();
    expect(identity?.refusal()).toBe("the key k1 has expired");
    expect(keys.authenticate(key)).toBeUndefined();
  });
});

describe("rotation", () => {
  it("has two keys that work at a time, and not three", async () => {
    const keys = open();
    const first = await keys.add("home");
    const second = await keys.rotate("home");
    expect([first, second].map(({ key }) => keys.authenticate(key)?.keyId)).toEqual(["k1", "k2"]);
    await expect(keys.rotate("home")).rejects.toThrow(/two|2 keys that work \(k1, k2\).*revoke home k1/);
    const identity = keys.authenticate(first.key);
    expect(await keys.revoke("home", "k1")).toEqual(["k1"]);
    expect(identity?.refusal()).toBe("the key k1 was revoked");
    expect([first, second].map(({ key }) => keys.authenticate(key)?.keyId)).toEqual([undefined, "k2"]);
    expect((await keys.rotate("home")).keyId).toBe("k3");
  });

  it("never gives an id twice, and forgets the oldest keys that do not work", async () => {
    const keys = open();
    await keys.add("home");
    for (let turn = 0; turn < 12; turn++) {
      await keys.revoke("home");
      await keys.rotate("home");
    }
    expect(keys.list()[0]?.keys.map(({ id }) => id)).toEqual(["k6", "k7", "k8", "k9", "k10", "k11", "k12", "k13"]);
  });

  it("leaves no key of an agent that was removed and registered again", async () => {
    const keys = open();
    const { key } = await keys.add("home");
    const identity = keys.authenticate(key);
    await keys.remove("home");
    expect(identity?.refusal()).toBe("the agent was removed");
    await keys.add("home");
    expect(identity?.refusal()).toBe("the agent was removed");
    expect(keys.authenticate(key)).toBeUndefined();
  });
});

describe("what cannot be done", () => {
  it.each([
    [(keys: AgentKeys) => keys.add("home"), /there is an agent home already.*rotate home/],
    [(keys: AgentKeys) => keys.add("Home"), /"Home" is no name for an agent/],
    [(keys: AgentKeys) => keys.add("a/b"), /is no name/],
    [(keys: AgentKeys) => keys.add("a".repeat(33)), /is no name/],
    [(keys: AgentKeys) => keys.rotate("away"), /no agent "away" \(registered: home\)/],
    [(keys: AgentKeys) => keys.revoke("home", "k9"), /home has no key "k9" \(its keys: k1\)/],
    [(keys: AgentKeys) => keys.remove("away"), /no agent "away"/],
  ])("is said, and changes nothing (%#)", async (act, message) => {
    const keys = open();
    await keys.add("home");
    const before = readFileSync(file, "utf8");
    await expect(act(keys)).rejects.toThrow(message);
    expect(readFileSync(file, "utf8")).toBe(before);
    expect(existsSync(`${file}.lock`)).toBe(false);
  });
});

describe("the file", () => {
  it.skipIf(process.platform === "win32")("is its owner's alone", async () => {
    await open().add("home");
    expect(statSync(file).mode & 0o777).toBe(0o600);
    expect(statSync(path.dirname(file)).mode & 0o777).toBe(0o700);
    chmodSync(file, 0o644);
    await open().add("office");
    expect(statSync(file).mode & 0o777).toBe(0o600);
  });

  it.each([
    ["{", /JSON/],
    ["[]", /no JSON object/],
    ['{"version":2,"agents":{}}', /its version is 2.*newer lair/],
    ['{"version":1}', /agents is missing/],
    ['{"version":1,"agents":{"Home":{}}}', /"Home" is no name/],
    [stored({ sha256: "00" }), /agent home: sha256 of key k1/],
    [stored({ expires: "soon" }), /agent home: expires is no time/],
    [stored({ revoked: 5 }), /agent home: revoked is no time/],
  ])("that is broken lets nobody in, and is named: %s", async (text, reason) => {
    await open().add("home");
    writeFileSync(file, text);
    expect(open).toThrow(reason);
    expect(open).toThrow(`the file of agents ${file} cannot be used, and no agent may connect`);
  });

  it("keeps every agent when three processes register at once", async () => {
    const others = [another("a", 15), another("b", 15)];
    await Promise.all(others.map((child) => once(child.stdout!, "data")));
    const keys = open();
    for (let turn = 0; turn < 15; turn++) await keys.add(`c${turn}`);
    const codes = await Promise.all(others.map(async (child) => child.exitCode ?? (await once(child, "exit"))[0]));
    expect(codes).toEqual([0, 0]);
    expect(readAgentFile(file).size).toBe(45);
  });

  it("is whole, and can be changed at once, after a writer was killed", async () => {
    for (let turn = 0; turn < 3; turn++) {
      const child = another(`t${turn}x`, 10, "on");
      await once(child.stdout!, "data");
      const keys = open();
      const seen = changes(keys);
      while (!keys.has(`t${turn}x9`)) await seen.next();
      // In the middle of its writes: it has made some, and would make more.
      child.kill("SIGKILL");
      await once(child, "exit");
      expect([10, 11]).toContain([...readAgentFile(file).keys()].filter((name) => name.startsWith(`t${turn}`)).length);
      await keys.add(`mine${turn}`);
      expect(keys.has(`mine${turn}`)).toBe(true);
    }
    expect(readdirSync(path.dirname(file))).toEqual(["agents.json"]);
  });

  it("takes over a lock whose holder was killed before it could say who it is", async () => {
    await open().add("home");
    writeFileSync(`${file}.lock`, "");
    utimesSync(`${file}.lock`, 0, Date.now() / 1000 - 3);
    await open().add("office");
    expect(readAgentFile(file).size).toBe(2);
  });

  it("takes over the lock of a process that is gone", async () => {
    const child = another("a", 0);
    await once(child, "exit");
    const { hostname } = await import("node:os");
    await open().add("home");
    writeFileSync(`${file}.lock`, `${child.pid} ${hostname()} x`);
    await open().add("office");
    expect(readAgentFile(file).size).toBe(2);
  });
});

describe("a watched file", () => {
  it("counts when it comes to be, when it changes, and when another process revokes a key", async () => {
    const relay = open();
    const seen = changes(relay);
    const admin = open();
    const { key } = await admin.add("home");
    while (!relay.has("home")) await seen.next();
    const identity = relay.authenticate(key);
    expect(identity?.refusal()).toBeUndefined();
    await admin.revoke("home");
    await seen.next();
    expect(identity?.refusal()).toBe("the key k1 was revoked");
  });

  it("that breaks lets nobody in and cuts those who are in, until it is mended", async () => {
    const relay = open();
    const { key } = await relay.add("home");
    const identity = relay.authenticate(key);
    const good = readFileSync(file, "utf8");
    const seen = changes(relay);
    writeFileSync(file, good.slice(0, 50));
    await seen.next();
    expect(identity?.refusal()).toBe("the relay cannot read its list of agents");
    expect(relay.authenticate(key)).toBeUndefined();
    writeFileSync(file, good);
    await seen.next();
    expect(identity?.refusal()).toBeUndefined();
    expect(relay.authenticate(key)?.name).toBe("home");
  });

  it("remembers when a key was last used, without a write for every connection", async () => {
    const relay = open();
    const { key } = await relay.add("home");
    const seen = changes(relay);
    for (let turn = 0; turn < 50; turn++) relay.authenticate(key);
    await seen.next();
    const before = readFileSync(file, "utf8");
    expect(relay.list()[0]?.keys[0]?.lastUsed).toBeGreaterThan(0);
    relay.authenticate(key);
    await open().add("office");
    expect(JSON.parse(readFileSync(file, "utf8")).agents.home).toEqual(JSON.parse(before).agents.home);
  });
});

function stored(change: object): string {
  const key = { id: "k1", sha256: "0".repeat(64), created: "2026-01-01T00:00:00.000Z", ...change };
  return JSON.stringify({
    version: 1,
    agents: { home: { created: "2026-01-01T00:00:00.000Z", nextKey: 2, keys: [key] } },
  });
}

async function withRealTimers<Result>(work: () => Promise<Result>): Promise<Result> {
  vi.useRealTimers();
  const result = await work();
  vi.useFakeTimers();
  return result;
}
