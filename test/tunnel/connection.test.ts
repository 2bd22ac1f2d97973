import { afterEach, describe, expect, it, vi } from "vitest";
import { encodeMessage } from "../../src/tunnel/control.ts";
import { ScriptedAgent } from "../support/tunnel-agent.ts";
import { settled } from "../support/tunnel-calls.ts";
import { startFleet } from "../support/tunnel-fleet.ts";

const hello = (change: object = {}): string =>
  `${JSON.stringify({ type: "hello", protocol: 1, version: "1", instance: "i", capacity: 1, ready: true, models: [], ...change })}\n`;

describe("a connection of an agent", () => {
  afterEach(() => vi.useRealTimers());

  it("is cut when it does not say hello in five seconds, and counts as no agent before", async () => {
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "setInterval", "clearInterval"] });
    const { fleet, logged } = startFleet();
    const agent = new ScriptedAgent({ hello: null });
    fleet.admit(agent.arrival);
    await settled();
    expect(fleet.agents()).toEqual([]);
    vi.advanceTimersByTime(4999);
    await settled();
    expect(agent.session.closed).toBe(false);
    vi.advanceTimersByTime(1);
    await agent.closed;
    expect(logged.join()).toContain("said nothing for 5 s");
  });

  it.each([
    ["another version of the protocol", hello({ protocol: 2 }), /speaks version 2 of the tunnel and this relay 1/],
    ["words before the hello", encodeMessage({ type: "load", ready: true }), /load instead of hello/],
    ["a second hello", hello() + hello(), /hello twice/],
    ["no JSON", "hello?\n", /no JSON object/],
    ["a hello that lacks something", '{"type":"hello"}\n', /protocol in a control message/],
    ["a line without end", "x".repeat(5 << 20), /longer than/],
    ["too many words", hello() + encodeMessage({ type: "load", ready: true }).repeat(100), /says more about itself/],
  ])("is cut for %s", async (_what, said, reason) => {
    const { fleet, logged } = startFleet();
    const agent = new ScriptedAgent({ hello: said });
    fleet.admit(agent.arrival);
    await agent.closed;
    await settled();
    expect(logged.join("\n")).toMatch(reason);
    expect(fleet.agents().every(({ connections }) => connections.length === 0)).toBe(true);
  });

  it("may say what this relay does not know yet", async () => {
    const { join, fleet } = startFleet();
    const agent = await join();
    agent.say('{"type":"weather","temperature":21}\n');
    agent.say({ type: "load", ready: false });
    await settled();
    expect(fleet.agents()).toMatchObject([{ ready: false, connections: [{ ready: false }] }]);
  });

  it("is cut when its control stream ends while it does not leave", async () => {
    const { join, logged } = startFleet();
    const agent = await join();
    agent.endControl();
    await agent.closed;
    expect(logged.join()).toContain("ended its control stream");
  });

  it("is cut, with all that is under way, nine seconds after it froze", async () => {
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "setInterval", "clearInterval"] });
    const { join, ask, logged } = startFleet();
    const agent = await join();
    const lost = ask({ json: { model: "demo" } }).catch((error: unknown) => error);
    await agent.call();
    await new Promise<void>((resolve) => setImmediate(resolve));
    // As a process that is stopped: its socket is open, and nothing reads it.
    agent.link.pause();
    vi.spyOn(performance, "now").mockImplementation(
      (
        (now) => () =>
          (now += 1)
      )(performance.now() + 1000),
    );
    vi.advanceTimersByTime(4000);
    await settled();
    expect(agent.session.closed).toBe(false);
    vi.advanceTimersByTime(5000);
    expect(await lost).toMatchObject({ code: "agent_lost" });
    await settled();
    expect(logged.join()).toContain("no sign of life for 5 s");
    vi.restoreAllMocks();
  });

  it("is cut within seconds when its key expires, also when nobody calls", async () => {
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "setInterval", "clearInterval"] });
    let refusal: string | undefined;
    const { join } = startFleet();
    const agent = await join({ refusal: () => refusal });
    refusal = "the key has expired";
    vi.advanceTimersByTime(4000);
    expect(await agent.hears("revoke")).toMatchObject({ reason: "the key has expired" });
    await agent.closed;
  });

  it("stays while its agent answers pings, and knows the round trip", async () => {
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "setInterval", "clearInterval"] });
    const { join, fleet } = startFleet();
    await join();
    for (let second = 0; second < 60; second++) {
      vi.advanceTimersByTime(1000);
      await settled(6);
    }
    expect(fleet.agents()[0]?.connections).toHaveLength(1);
    expect(fleet.agents()[0]?.roundTrip).toBeGreaterThan(0);
  });

  it("that wants to leave gets no call after the relay has said so, and keeps those that it has", async () => {
    const { join, fleet, ask, chat, logged } = startFleet();
    const agent = await join();
    const asked = Array.from({ length: 20 }, () => ask({ json: { model: "demo" } }).catch(() => "lost"));
    await settled();
    let atDrained = -1;
    void agent.hears("drained").then(() => (atDrained = agent.calls.length));
    agent.say({ type: "drain" });
    // Calls that come while the agent's words are on their way.
    for (let turn = 0; turn < 30; turn++) {
      asked.push(ask({ json: { model: "demo" } }).catch(() => "offline"));
      await settled(1);
    }
    await agent.hears("drained");
    await settled();
    expect(atDrained).toBeGreaterThanOrEqual(20);
    expect(agent.calls).toHaveLength(atDrained);
    expect(fleet.agents()).toMatchObject([{ ready: false, connections: [{ draining: true, inFlight: atDrained }] }]);
    await expect(chat("demo")).rejects.toMatchObject({ code: "agent_offline" });
    for (const { stream } of agent.calls) {
      stream.respond({ ":status": "200" }, false);
      stream.end();
    }
    agent.endControl();
    await agent.session.finish();
    await settled();
    expect(fleet.agents()).toMatchObject([{ connections: [], inFlight: 0, failures: 0 }]);
    expect(logged.at(-1)).toMatch(/^an agent has left/);
    const replies = await Promise.all(asked);
    expect(replies.filter((reply) => typeof reply === "object")).toHaveLength(atDrained);
  });

  it("is one of at most sixteen of its agent", async () => {
    const { join, fleet, logged } = startFleet();
    for (let count = 0; count < 16; count++) await join({ name: "home" });
    const late = new ScriptedAgent({ name: "home" });
    fleet.admit(late.arrival);
    await late.closed;
    expect(logged.join()).toContain("not taken");
    await join({ name: "work" });
    expect(fleet.agents().map(({ connections }) => connections.length)).toEqual([16, 1]);
  });

  it("lists no name with control characters or of endless length", async () => {
    const { join, fleet } = startFleet();
    await join({ models: ["fine", "line\nbreak", "x".repeat(600)] });
    expect(fleet.agents()[0]?.models).toEqual(["fine"]);
  });
});
