import { afterEach, describe, expect, test } from "vitest";
import type { ByteSink, ByteStream } from "../../src/core/bytes.ts";
import { type Handler, jsonReply } from "../../src/core/call.ts";
import type { JsonObject } from "../../src/core/json.ts";
import { Agent, type AgentSettings } from "../../src/tunnel/agent/agent.ts";
import { backoff } from "../../src/tunnel/agent/backoff.ts";
import { DialRefused } from "../../src/tunnel/handshake/dial.ts";
import { gate } from "../support/fake-server.ts";
import { keptLog, ManualClock, type RelayEnd, ScriptedRelay, settle, until } from "../support/tunnel-scripted-relay.ts";

/** A runtime that the test steers. */
class Runtime {
  models: JsonObject[] = [{ id: "qwen" }, { id: "ollama:llama" }];
  away = false;
  silent = false;
  asked = 0;
  calls = 0;
  /** Calls wait here. */
  gate = gate();
  left = 0;
  /** Of the last call that streams. */
  stream: ByteSink | undefined;

  #body(): ByteStream {
    return { start: (sink) => (this.stream = sink), resume: () => undefined, cancel: () => undefined };
  }

  readonly handler: Handler = async (call) => {
    if (call.path === "/v1/models" && call.method === "GET") {
      this.asked++;
      if (this.silent) return new Promise(() => undefined);
      if (this.away) return jsonReply(502, { error: { message: "away" } });
      return jsonReply(200, { object: "list", data: [...this.models] });
    }
    this.calls++;
    call.leaving.addEventListener("abort", () => this.left++);
    if (call.headers["x-session-id"] === "waits") await this.gate.opened;
    if (call.headers["x-session-id"] === "streams") return { status: 200, headers: {}, body: this.#body() };
    return this.away ? jsonReply(502, { error: {} }) : jsonReply(200, { choices: [], usage: { completion_tokens: 7 } });
  };
}

const agents: Agent[] = [];
afterEach(async () => {
  for (const agent of agents.splice(0)) await agent.close();
});

function begin(more: Partial<AgentSettings> = {}) {
  const clock = new ManualClock();
  const relay = new ScriptedRelay(clock);
  const runtime = new Runtime();
  const log = keptLog();
  const agent = new Agent({
    dial: relay.dial,
    handler: runtime.handler,
    connections: 1,
    capacity: 8,
    version: "0.2.0",
    instance: "one",
    log,
    clock,
    ...more,
  });
  agents.push(agent);
  agent.start();
  return { agent, clock, relay, runtime, log };
}

async function connected(more: Partial<AgentSettings> = {}) {
  const begun = begin(more);
  const end = (await begun.relay.attempt(0)).accept();
  await until(() => begun.agent.state().phase === "connected");
  return { ...begun, end };
}

const waits = { "x-session-id": "waits" };
const reconnects = async (relay: ScriptedRelay, number: number): Promise<RelayEnd> =>
  (await relay.attempt(number)).accept();

describe("an agent introduces itself", () => {
  test("with its models and whether its runtime answers", async () => {
    const { end, agent } = await connected();
    expect(end.hello).toEqual({
      type: "hello",
      protocol: 1,
      version: "0.2.0",
      instance: "one",
      capacity: 8,
      ready: true,
      models: [{ id: "qwen" }, { id: "ollama:llama" }],
    });
    expect(agent.state()).toMatchObject({
      phase: "connected",
      ready: true,
      models: 2,
      connections: [{ state: "connected", agent: "home", relayVersion: "1.2.3", transport: "upgrade" }],
    });
  });

  test("without its models, when the runtime lets wait too long, and tells them when they come", async () => {
    const runtime = new Runtime();
    runtime.silent = true;
    const { relay, clock } = begin({ handler: runtime.handler });
    const end = (await relay.attempt(0)).accept();
    await settle();
    expect(end.messages).toEqual([]);
    await clock.advance(3000);
    expect(end.hello).toMatchObject({ ready: false, models: [] });
    runtime.silent = false;
    await clock.advance(2000);
    expect(end.of("load")).toEqual([]);
    await clock.advance(2000);
    expect(end.of("load")).toEqual([{ type: "load", ready: true, models: runtime.models }]);
  });

  test("again only when something has changed", async () => {
    const { end, clock, runtime, agent } = await connected();
    const before = runtime.asked;
    await clock.advance(10_000);
    await clock.advance(10_000);
    expect(runtime.asked).toBe(before + 2);
    expect(end.of("load")).toEqual([]);
    runtime.models = [{ id: "new" }];
    await clock.advance(10_000);
    expect(end.of("load")).toEqual([{ type: "load", ready: true, models: [{ id: "new" }] }]);
    expect(agent.state().models).toBe(1);
  });

  test("as not ready as soon as a call finds the runtime gone, and as ready when it is back", async () => {
    const { end, clock, runtime, log } = await connected();
    runtime.away = true;
    expect((await end.ask().over()).head[":status"]).toBe("502");
    await until(() => end.of("load").length > 0);
    expect(end.of("load")).toEqual([{ type: "load", ready: false }]);
    expect(log.lines).toContainEqual(
      expect.objectContaining({ level: "warn", message: "the runtime does not answer" }),
    );
    runtime.away = false;
    await clock.advance(2000);
    expect(end.of("load")[1]).toMatchObject({ ready: true });
  });

  test("as ready while its runtime is too busy with calls to list its models, and no longer", async () => {
    const { end, clock, runtime } = await connected();
    const asked = end.ask({ "x-session-id": "streams" });
    await until(() => runtime.stream !== undefined);
    runtime.silent = true;
    await clock.advance(12_000);
    // The question of 10 s is out; something comes of a call meanwhile.
    runtime.stream?.write("data: 1\n\n");
    await clock.advance(10_000);
    expect([asked.text, end.of("load")]).toEqual(["data: 1\n\n", []]);
    // The next question is met by silence alone.
    await clock.advance(8000);
    expect(end.of("load")).toEqual([{ type: "load", ready: false }]);
  });

  test("on each of its connections, and starts the second only when the first stands", async () => {
    const { relay, agent } = begin({ connections: 3 });
    const first = (await relay.attempt(0)).accept(false);
    await until(() => first.hello !== undefined);
    await settle();
    expect(relay.attempts.length).toBe(1);
    first.say({ type: "welcome", agent: "home", version: "1" });
    const second = await reconnects(relay, 1);
    const third = await reconnects(relay, 2);
    await until(() => second.hello !== undefined && third.hello !== undefined);
    expect(agent.state().connections.length).toBe(3);
  });
});

describe("an agent that cannot connect", () => {
  test("tries again after pauses of full jitter, from 250 ms to 30 s", () => {
    const pause = (failures: number, chance: number): number => backoff(failures, { random: () => chance });
    for (const chance of [0, 0.25, 0.5, 0.999])
      for (let failures = 1; failures < 60; failures++) {
        expect(pause(failures, chance)).toBeGreaterThanOrEqual(250);
        expect(pause(failures, chance)).toBeLessThanOrEqual(Math.min(30_000, 250 * 2 ** failures));
      }
    expect(pause(20, 0.5)).toBe(15_000);
    expect(pause(20, 0)).toBe(250);
  });

  test("waits for as long as it says, and is patient again only after 30 s of good connection", async () => {
    const { relay, clock, agent } = begin();
    clock.chance = 0.999;
    const pauses: number[] = [];
    for (let number = 0; number < 9; number++) {
      const { at, refuse } = await relay.attempt(number);
      refuse(new Error("ECONNREFUSED"));
      await settle();
      const [report] = agent.state().connections;
      expect(report).toMatchObject({ state: "waiting", failure: "ECONNREFUSED" });
      pauses.push((report as { until: number }).until - at);
      await clock.advance((report as { until: number }).until - at - 1);
      expect(relay.attempts.length).toBe(number + 1);
      await clock.advance(1);
      expect(relay.attempts.length).toBe(number + 2);
    }
    expect(pauses).toEqual([500, 999, 1998, 3996, 7992, 15_984, 29_970, 29_970, 29_970]);
    const short = await reconnects(relay, 9);
    await until(() => agent.state().phase === "connected");
    await clock.advance(1000);
    short.session.destroy();
    await settle();
    expect((agent.state().connections[0] as { until: number }).until - clock.now()).toBe(29_970);
    await clock.advance(29_970);
    const long = await reconnects(relay, 10);
    await until(() => agent.state().phase === "connected");
    await clock.advance(30_000);
    long.session.destroy();
    await settle();
    expect((agent.state().connections[0] as { until: number }).until - clock.now()).toBe(500);
  });

  test("says loudly that its key is refused, and does not hammer", async () => {
    const { relay, clock, log } = begin();
    for (const [number, status] of [401, 403].entries()) {
      (await relay.attempt(number)).refuse(new DialRefused(status, "the key is not known here"));
      await settle();
      expect(log.lines.filter(({ level }) => level === "error").length).toBe(number + 1);
      await clock.advance(59_999);
      expect(relay.attempts.length).toBe(number + 1);
      await clock.advance(1);
      expect(relay.attempts.length).toBe(number + 2);
    }
  });

  test("comes back when the relay asks it to, within reason", async () => {
    const { relay, clock } = begin();
    (await relay.attempt(0)).refuse(new DialRefused(503, "leaving", { retryAfter: 20 }));
    await clock.advance(19_999);
    expect(relay.attempts.length).toBe(1);
    await clock.advance(1);
    (await relay.attempt(1)).refuse(new DialRefused(429, "too many", { retryAfter: 1e9 }));
    await clock.advance(300_000);
    expect(relay.attempts.length).toBe(3);
  });

  test("gives up on a relay that never welcomes it", async () => {
    const { relay, clock } = begin();
    const end = (await relay.attempt(0)).accept(false);
    await clock.advance(15_000);
    await until(() => end.closed);
    await clock.advance(500);
    expect(relay.attempts.length).toBe(2);
  });
});

describe("a relay that is gone", () => {
  test("without a word is noticed within nine seconds, its calls are given up, and another connection is made", async () => {
    const { relay, clock, runtime, end, agent } = await connected();
    end.ask(waits);
    await until(() => runtime.calls === 1);
    end.freeze();
    await clock.advance(8999);
    expect(agent.state().phase).toBe("connected");
    await clock.advance(1);
    expect([agent.state().phase, runtime.left]).toEqual(["offline", 1]);
    await clock.advance(500);
    await reconnects(relay, 1);
    await until(() => agent.state().phase === "connected");
  });

  test("with its connection stops the runtime's work at once", async () => {
    const { runtime, end } = await connected();
    end.ask(waits);
    await until(() => runtime.calls === 1);
    end.session.destroy();
    await until(() => runtime.left === 1);
  });

  test("while the machine slept is noticed two seconds after it wakes", async () => {
    const { relay, clock, end, agent } = await connected();
    end.freeze();
    clock.sleep(3_600_000);
    await clock.advance(1000);
    await clock.advance(1999);
    expect(agent.state().phase).toBe("connected");
    await clock.advance(1);
    expect(agent.state().phase).toBe("offline");
    await clock.advance(500);
    expect(relay.attempts.length).toBe(2);
  });

  test("is not waited for after sleep: pauses and attempts of before are cut short", async () => {
    const { relay, clock } = begin();
    (await relay.attempt(0)).refuse(new DialRefused(401, "no"));
    await settle();
    clock.sleep(10_000);
    await clock.advance(1000);
    expect(relay.attempts.length).toBe(2);
    // This attempt hangs on a network that is no more.
    clock.sleep(10_000);
    await clock.advance(1000);
    expect([relay.attempts.length, relay.attempts[1]?.aborted()]).toEqual([3, true]);
  });

  test("is not taken for gone because our own timers were late", async () => {
    const { clock, end, agent, relay } = await connected();
    end.freeze();
    await clock.advance(4000);
    // The question is out, the machine sleeps, and the answer lies unread when the deadline has long passed.
    clock.sleep(60_000);
    end.thaw();
    await clock.advance(9000);
    expect([agent.state().phase, relay.attempts.length]).toEqual(["connected", 1]);
    expect(agent.state().connections[0]).toHaveProperty("roundTrip");
  });

  test("gets another chance when it was the question's deadline that was late", async () => {
    const { clock, end, agent } = await connected();
    end.freeze();
    // The deadline is due with the next look at the clock, and stands before it.
    await clock.advance(8500);
    clock.sleep(60_000);
    await clock.advance(500);
    expect(agent.state().phase).toBe("connected");
    end.thaw();
    await clock.advance(10_000);
    expect(agent.state().phase).toBe("connected");
  });

  test("that talks nonsense is left", async () => {
    const { relay, clock, end } = await connected();
    end.control.stream.write("this is no message\n");
    await until(() => end.closed);
    await clock.advance(500);
    expect(relay.attempts.length).toBe(2);
  });

  test("cannot open a second control stream, or carry a call under its path", async () => {
    const { end, agent } = await connected();
    const second = await end.ask({ ":path": "/.lair/control" }, undefined).over();
    expect(second.state).toMatchObject({ refused: true });
    const get = await end.ask({ ":path": "/.lair/control?x", ":method": "GET" }, null).over();
    expect(get.head[":status"]).toBe("404");
    expect(agent.state().phase).toBe("connected");
  });
});

describe("a relay that is about to leave", () => {
  test("is left for a new connection only when that stands, and its calls end on the old one", async () => {
    const { relay, clock, runtime, end, agent } = await connected();
    const old = end.ask(waits);
    await until(() => runtime.calls === 1);
    end.say({ type: "drain" });
    (await relay.attempt(1)).refuse(new DialRefused(503, "not yet"));
    await settle();
    // While there is no new one, the old one serves.
    expect((await end.ask().over()).head[":status"]).toBe("200");
    expect(agent.state().connections).toMatchObject([{ state: "waiting" }, { state: "leaving", underWay: 1 }]);
    await clock.advance(1000);
    const next = await reconnects(relay, 2);
    await until(() => next.hello !== undefined && agent.state().connections.length === 2);
    expect((await next.ask().over()).head[":status"]).toBe("200");
    await until(() => !end.session.accepting);
    expect(end.closed).toBe(false);
    runtime.gate.open();
    expect((await old.over()).head[":status"]).toBe("200");
    await until(() => end.closed && agent.state().connections.length === 1);
    expect(agent.state()).toMatchObject({ calls: 3, tokens: 21, connections: [{ state: "connected", calls: 1 }] });
  });

  test("and goes before the new one stands is followed soon", async () => {
    const { relay, clock, end } = await connected();
    end.say({ type: "drain" });
    (await relay.attempt(1)).refuse(new Error("ECONNREFUSED"));
    await settle();
    end.session.destroy();
    await clock.advance(500);
    expect(relay.attempts.length).toBe(3);
  });

  test("because the key is revoked is not asked again for a minute", async () => {
    const { relay, clock, end, runtime, log, agent } = await connected();
    end.ask(waits);
    await until(() => runtime.calls === 1);
    end.say({ type: "revoke", reason: "the key was revoked" });
    await until(() => end.closed && runtime.left === 1);
    expect(log.lines).toContainEqual(expect.objectContaining({ level: "error" }));
    expect(agent.state().connections).toMatchObject([{ state: "waiting", failure: "the key was revoked" }]);
    await clock.advance(59_999);
    expect(relay.attempts.length).toBe(1);
    await clock.advance(1);
    expect(relay.attempts.length).toBe(2);
  });
});

describe("an agent behind whose relay's address there may be several", () => {
  const both = async (begun: ReturnType<typeof begin>, ids: readonly [string, string]): Promise<RelayEnd[]> => {
    const first = (await begun.relay.attempt(0)).accept(true, ids[0]);
    const second = (await begun.relay.attempt(1)).accept(true, ids[1]);
    await until(() => begun.agent.state().connections.filter(({ state }) => state === "connected").length === 2);
    return [first, second];
  };

  test("moves one of its connections when all lead to the same relay, and loses no call by it", async () => {
    const begun = begin({ connections: 2 });
    const { relay, clock, runtime, agent } = begun;
    const [, second] = await both(begun, ["a", "a"]);
    const asked = second?.ask(waits);
    await until(() => runtime.calls === 1);
    await clock.advance(4000);
    const third = (await relay.attempt(2)).accept(true, "a");
    await until(() => third.of("drain").length === 1);
    third.say({ type: "drained" });
    await until(() => third.closed);
    expect(second?.session.accepting).toBe(true);
    await clock.advance(6000);
    const fourth = (await relay.attempt(3)).accept(true, "b");
    await until(() => second?.session.accepting === false);
    expect((await fourth.ask().over()).head[":status"]).toBe("200");
    runtime.gate.open();
    expect((await asked?.over())?.head[":status"]).toBe("200");
    await until(() => second?.closed === true);
    await clock.advance(60_000);
    expect([relay.attempts.length, agent.state().connections.length]).toEqual([4, 2]);
    // It knows now that there are several, and is eager to be at both again.
    fourth.session.destroy();
    await clock.advance(500);
    (await relay.attempt(4)).accept(true, "a");
    for (let number = 5; number < 9; number++) {
      await clock.advance(4000);
      expect(relay.attempts.length).toBe(number + 1);
      relay.attempts[number]?.refuse(new Error("no"));
    }
  });

  test("asks ever more rarely where there is only one, and nothing comes of an attempt that fails", async () => {
    const begun = begin({ connections: 2 });
    const { relay, clock, agent } = begun;
    const ends = await both(begun, ["a", "a"]);
    for (let passed = 0; passed < 3600; passed += 5) {
      await clock.advance(5000);
      for (const attempt of relay.attempts.slice(2)) attempt.refuse(new Error("no"));
    }
    expect(relay.attempts.length).toBeGreaterThan(8);
    expect(relay.attempts.length).toBeLessThan(18);
    expect(agent.state().connections.map(({ state }) => state)).toEqual(["connected", "connected"]);
    expect(ends.map(({ closed }) => closed)).toEqual([false, false]);
  });

  test("keeps what it finds when its connection is lost or asked to leave meanwhile", async () => {
    for (const manner of ["lost", "drain"]) {
      const begun = begin({ connections: 2 });
      const { relay, clock, agent } = begun;
      const [, second] = await both(begun, ["a", "a"]);
      await clock.advance(4000);
      const attempt = await relay.attempt(2);
      if (manner === "lost") second?.session.destroy();
      else second?.say({ type: "drain" });
      await settle();
      attempt.accept(true, "a");
      await until(() => manner === "lost" || second?.closed === true);
      await settle();
      expect([manner, agent.state().connections.map(({ state }) => state)]).toEqual([
        manner,
        ["connected", "connected"],
      ]);
      expect(relay.attempts.length).toBe(3);
    }
  });

  test("leaves them where they are when they lead to different ones", async () => {
    const begun = begin({ connections: 2 });
    await both(begun, ["a", "b"]);
    await begun.clock.advance(60_000);
    expect(begun.relay.attempts.length).toBe(2);
  });
});

describe("an agent that leaves", () => {
  test("says so first, answers all that was sent before the relay's word, and loses no call", async () => {
    const { relay, end: first, runtime, agent } = await connected({ connections: 2 });
    const second = await reconnects(relay, 1);
    await until(() => agent.state().connections.length === 2 && second.hello !== undefined);
    await settle();
    const ends = [first, second];
    const asked = ends.flatMap((end) => Array.from({ length: 20 }, () => end.ask(waits)));
    await until(() => runtime.calls === 40);
    let gone = false;
    const drained = agent.drain(60_000).then(() => (gone = true));
    await until(() => ends.every((end) => end.of("drain").length === 1));
    // These crossed the agent's word on the wire.
    for (const end of ends) asked.push(...Array.from({ length: 20 }, () => end.ask(waits)));
    for (const end of ends) end.say({ type: "drained" });
    await until(() => runtime.calls === 80);
    await settle();
    expect(gone).toBe(false);
    runtime.gate.open();
    await Promise.all(asked.map((one) => one.over()));
    expect(asked.filter((one) => one.state !== "ended" || one.head[":status"] !== "200")).toEqual([]);
    await drained;
    await until(() => ends.every((end) => end.closed));
    expect(agent.state().phase).toBe("closed");
    expect(relay.attempts.length).toBe(2);
  });

  test("waits for its last calls no longer than it was given, and for a mute relay only five seconds", async () => {
    const { end, runtime, agent, clock } = await connected();
    const asked = end.ask(waits);
    await until(() => runtime.calls === 1);
    let gone = false;
    void agent.drain(20_000).then(() => (gone = true));
    await clock.advance(19_999);
    expect([gone, asked.state, end.session.accepting]).toEqual([false, "open", false]);
    await clock.advance(1);
    expect(gone).toBe(true);
    await until(() => end.closed && runtime.left === 1);
    expect((asked.state as { lost: boolean }).lost).toBe(true);
  });

  test("leaves nothing behind: no timer, no attempt, no connection", async () => {
    for (const stage of ["dialling", "waiting", "greeting", "connected"]) {
      const { relay, clock, agent, runtime } = begin();
      await until(() => runtime.asked > 0);
      const attempt = await relay.attempt(0);
      let end: RelayEnd | undefined;
      if (stage === "waiting") attempt.refuse(new Error("no"));
      else if (stage === "greeting") end = attempt.accept(false);
      else if (stage === "connected") end = attempt.accept();
      await settle();
      await agent.close();
      await settle();
      expect([stage, clock.pending, end?.closed ?? true]).toEqual([stage, 0, true]);
      expect([attempt.aborted(), relay.attempts.length]).toEqual([stage === "dialling" || stage === "greeting", 1]);
    }
  });
});
