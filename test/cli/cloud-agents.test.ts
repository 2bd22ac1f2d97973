import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { type Ended, run, start } from "./program.ts";

// `lair cloud agents` where the relays' agents stand in a shared state.

let cwd: string;
let inState: Record<string, string>;
beforeEach(() => {
  cwd = mkdtempSync(path.join(tmpdir(), "lair-cloud-agents-"));
  inState = { LAIR_STATE: path.join(cwd, "state.db") };
});
afterEach(() => rmSync(cwd, { recursive: true, force: true, maxRetries: 10 }));

function agents(args: readonly string[], env: Record<string, string> = {}): Promise<Ended> {
  return run(["cloud", "agents", ...args], { cwd, env: { XDG_DATA_HOME: cwd, ...env } });
}

describe("agents in a shared state", () => {
  it("are made there, and not in the file; those of a file are taken over with their keys, once", async () => {
    const before = await agents(["add", "home"]);
    expect(before.code).toBe(0);
    const file = path.join(cwd, "lair", "agents.json");
    const listed = await agents(["list"], inState);
    expect(listed.stdout).toContain("No agent is registered yet");
    expect(listed.stdout).toContain(`lair cloud agents import ${file}`);
    const relay = start(["cloud", "--port", "0"], { cwd, env: { XDG_DATA_HOME: cwd, ...inState } });
    await relay.until(/those of the file: lair cloud agents import/);
    expect((await agents(["import", file], inState)).stdout).toBe("home: taken over, with the keys that they have\n");
    await agents(["add", "work"], inState);
    const [both, one] = await Promise.all([agents(["list", "--json"], inState), agents(["list", "--json"])]);
    const names = ({ stdout }: Ended): string[] => (JSON.parse(stdout) as { name: string }[]).map(({ name }) => name);
    expect([names(both), names(one)]).toEqual([["home", "work"], ["home"]]);
    const again = await agents(["import", file], inState);
    expect([again.code, again.stderr]).toEqual([1, expect.stringContaining("there is an agent home already")]);
    const none = await agents(["import", path.join(cwd, "none.json")], inState);
    expect([none.code, none.stderr]).toEqual([1, expect.stringContaining("there is no agent in")]);
    relay.child.kill();
    await relay.ended;
  }, 60_000);

  it("stand in the file all the same where one is named for them", async () => {
    const env = { ...inState, LAIR_RELAY_AGENTS: "agents.json" };
    expect((await agents(["add", "home"], env)).code).toBe(0);
    expect((await agents(["list"], inState)).stdout).toContain("No agent is registered yet");
    expect((await agents(["list"], env)).stdout).toMatch(/^home +k1/m);
  }, 60_000);
});

describe("a relay that is to share its agents does not start", () => {
  it("without Redis", async () => {
    const env = { XDG_DATA_HOME: cwd, LAIR_RELAY_INTERNAL_PORT: "0" };
    const ended = await run(["cloud", "--port", "0"], { cwd, env });
    expect([ended.code, ended.stderr]).toEqual([1, expect.stringContaining("share their agents through Redis only")]);
  }, 30_000);

  it("with a secret that is too short", async () => {
    const ended = await run(["cloud", "--port", "0"], { cwd, env: { LAIR_RELAY_INTERNAL_SECRET: "short" } });
    expect([ended.code, ended.stderr]).toEqual([2, expect.stringContaining("relay.internal.secret")]);
    expect(ended.stderr).not.toContain('short"');
  }, 30_000);
});
