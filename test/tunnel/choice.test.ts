import { describe, expect, it } from "vitest";
import { answerJson, type Arrived, type ScriptedAgent } from "../support/tunnel-agent.ts";
import { readReply, settled } from "../support/tunnel-calls.ts";
import { answering, startFleet, type TestFleet } from "../support/tunnel-fleet.ts";

/** Starts a call that is not answered yet. */
async function begin({ ask }: TestFleet, headers: Record<string, string> = {}): Promise<void> {
  void ask({ json: { model: "demo" }, headers }).catch(() => undefined);
  await settled();
}

function under(agents: readonly ScriptedAgent[]): number[] {
  return agents.map(({ calls }) => calls.length);
}

/** The session's agent among several that are idle. */
async function agentOf({ chat }: TestFleet, session: string, header = "x-session-id"): Promise<unknown> {
  return (await chat("demo", { [header]: session })).json.by;
}

describe("calls for a model that several agents have", () => {
  it("go where the fewest are under way for each that the agent answers well", async () => {
    const fleet = startFleet();
    const agents = [await fleet.join({ name: "small", capacity: 1 }), await fleet.join({ name: "large", capacity: 3 })];
    for (let count = 0; count < 8; count++) await begin(fleet);
    expect(under(agents)).toEqual([2, 6]);
  });

  it("take turns where all are idle", async () => {
    const fleet = startFleet();
    const names = ["a", "b", "c"];
    for (const name of names) await fleet.join({ name, onCall: answering(name) });
    const asked: unknown[] = [];
    for (let turn = 0; turn < 6; turn++) asked.push((await fleet.chat("demo")).json.by);
    expect(new Set(asked.slice(0, 3)).size).toBe(3);
    expect(asked.slice(3)).toEqual(asked.slice(0, 3));
  });

  it("do not count an agent twice that has two connections", async () => {
    const fleet = startFleet();
    const one = await fleet.join({ name: "one" });
    const two = [await fleet.join({ name: "two" }), await fleet.join({ name: "two" })];
    for (let count = 0; count < 8; count++) await begin(fleet);
    expect(one.calls).toHaveLength(4);
    expect(under(two)).toEqual([2, 2]);
  });

  it("count each process of an agent by itself", async () => {
    const fleet = startFleet();
    const processes = [
      await fleet.join({ name: "home", instance: "p1" }),
      await fleet.join({ name: "home", instance: "p2" }),
      await fleet.join({ name: "work" }),
    ];
    for (let count = 0; count < 6; count++) await begin(fleet);
    expect(under(processes)).toEqual([2, 2, 2]);
    expect(fleet.fleet.agents()).toMatchObject([
      { name: "home", capacity: 8 },
      { name: "work", capacity: 4 },
    ]);
  });

  it("go to the process whose runtime lists the model, where an agent has several", async () => {
    const fleet = startFleet();
    await fleet.join({ name: "home", instance: "p1", models: ["demo"], onCall: answering("p1") });
    await fleet.join({ name: "home", instance: "p2", models: ["other"], onCall: answering("p2") });
    for (let turn = 0; turn < 3; turn++) expect((await fleet.chat("demo")).json.by).toBe("p1");
    for (let turn = 0; turn < 3; turn++) expect((await fleet.chat("home/other")).json.by).toBe("p2");
  });

  it("go to an agent whose runtime answers, and only without one to another", async () => {
    const fleet = startFleet();
    const asleep = await fleet.join({ name: "asleep", ready: false, onCall: answering("asleep") });
    const awake = await fleet.join({ name: "awake", onCall: answering("awake") });
    for (let turn = 0; turn < 4; turn++) expect((await fleet.chat("demo")).json.by).toBe("awake");
    awake.link.destroy();
    await settled();
    expect((await fleet.chat("demo")).json.by).toBe("asleep");
    expect(asleep.calls).toHaveLength(1);
  });
});

describe("calls of one session", () => {
  it("go to the same agent, whichever of the headers tells the session", async () => {
    const fleet = startFleet();
    for (const name of ["a", "b", "c", "d"]) await fleet.join({ name, onCall: answering(name) });
    const own = await agentOf(fleet, "session-1");
    for (const header of ["x-session-id", "x-session-affinity", "session_id", "session-id", "x-claude-code-session-id"])
      for (let turn = 0; turn < 3; turn++) expect(await agentOf(fleet, "session-1", header)).toBe(own);
    const all = new Set<unknown>();
    for (let index = 0; index < 40; index++) all.add(await agentOf(fleet, `session-${index}`));
    expect(all.size).toBe(4);
  });

  it("move only where their own agent has gone, and come back with it", async () => {
    const fleet = startFleet();
    const joined = new Map<string, ScriptedAgent>();
    for (const name of ["a", "b", "c"]) joined.set(name, await fleet.join({ name, onCall: answering(name) }));
    const sessions = Array.from({ length: 30 }, (_, index) => `s${index}`);
    const where = async (): Promise<unknown[]> => {
      const agents: unknown[] = [];
      for (const session of sessions) agents.push(await agentOf(fleet, session));
      return agents;
    };
    const before = await where();
    joined.get("b")?.link.destroy();
    await settled();
    const without = await where();
    for (const [index, agent] of before.entries())
      if (agent === "b") expect(without[index]).not.toBe("b");
      else expect(without[index]).toBe(agent);
    // Another process under the same name: the sessions are that name's.
    await fleet.join({ name: "b", instance: "another", onCall: answering("b") });
    expect(await where()).toEqual(before);
  });

  it("are more where the capacity is larger", async () => {
    const fleet = startFleet();
    await fleet.join({ name: "small", capacity: 1, onCall: answering("small") });
    await fleet.join({ name: "large", capacity: 9, onCall: answering("large") });
    let large = 0;
    for (let index = 0; index < 200; index++) if ((await agentOf(fleet, `s${index}`)) === "large") large++;
    expect(large).toBeGreaterThan(160);
    expect(large).toBeLessThan(200);
  });

  it("go elsewhere while their agent has as many calls as it answers well, and another has room", async () => {
    const fleet = startFleet();
    const waiting: Arrived[] = [];
    const agents = [
      await fleet.join({ name: "a", capacity: 2, onCall: (call) => void waiting.push(call) }),
      await fleet.join({ name: "b", capacity: 2, onCall: (call) => void waiting.push(call) }),
    ];
    for (let count = 0; count < 2; count++) await begin(fleet, { "x-session-id": "s" });
    const own = agents.findIndex(({ calls }) => calls.length === 2);
    expect(own).not.toBe(-1);
    for (let count = 0; count < 2; count++) await begin(fleet, { "x-session-id": "s" });
    expect(under(agents)).toEqual([2, 2]);
    // Nobody has room any more: then the cache decides again.
    for (let count = 0; count < 2; count++) await begin(fleet, { "x-session-id": "s" });
    expect(agents[own]?.calls).toHaveLength(4);
    for (const call of waiting) answerJson(call, 200, {});
    await settled();
    const reply = fleet.ask({ json: { model: "demo" }, headers: { "x-session-id": "s" } });
    await settled();
    expect(agents[own]?.calls).toHaveLength(5);
    for (const call of waiting.slice(6)) answerJson(call, 200, {});
    await readReply(await reply);
  });
});
