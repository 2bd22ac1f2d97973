import { describe, expect, it, vi } from "vitest";
import { readReply, settled, toCall } from "../support/tunnel-calls.ts";
import { ScriptedAgent } from "../support/tunnel-agent.ts";
import { answering, startFleet, unknowing } from "../support/tunnel-fleet.ts";

async function errorOf(promise: Promise<unknown>): Promise<{ code: string; message: string; retryAfter?: number }> {
  return promise.then(
    (value) => {
      throw new Error(`no error, but ${JSON.stringify(value)}`);
    },
    (error: { code: string; message: string }) => error,
  );
}

describe("the models of a fleet", () => {
  it("are those of all agents that answer, each once, with who has it", async () => {
    const { join, ask } = startFleet();
    const card = { id: "demo", object: "model", provider: "llama_cpp", context_length: 7, owned_by: "second" };
    await join({ name: "work", models: [card, "only-here"] });
    await join({ name: "home", models: ["demo", "ollama:qwen3:8b"] });
    await join({ name: "cellar", models: ["asleep"], ready: false });
    const { text } = await readReply(await ask({ method: "GET", path: "/v1/models" }));
    expect(JSON.parse(text)).toEqual({
      object: "list",
      data: [
        { id: "demo", object: "model", owned_by: "test", provider: "llama_cpp", agents: ["home", "work"] },
        { id: "ollama:qwen3:8b", object: "model", owned_by: "test", provider: "llama_cpp", agents: ["home"] },
        { id: "only-here", object: "model", owned_by: "test", provider: "llama_cpp", agents: ["work"] },
      ],
    });
  });

  it("change with what an agent says of itself, and with agents that go", async () => {
    const { join, ask, fleet } = startFleet();
    const ids = async (): Promise<string[]> => {
      const { text } = await readReply(await ask({ method: "GET", path: "/v1/models" }));
      return (JSON.parse(text) as { data: { id: string }[] }).data.map(({ id }) => id);
    };
    const home = await join({ name: "home", models: ["a"] });
    const work = await join({ name: "work", models: ["b"] });
    home.say({ type: "load", models: [{ id: "c" }] });
    await settled();
    expect(await ids()).toEqual(["c", "b"]);
    work.say({ type: "load", ready: false });
    await settled();
    expect(await ids()).toEqual(["c"]);
    expect(await fleet.health()).toEqual({ ok: true });
    home.link.destroy();
    await settled();
    expect(await ids()).toEqual([]);
    expect((await fleet.health()).detail).toMatch(/none of them answers/);
    work.link.destroy();
    await settled();
    expect((await fleet.health()).detail).toMatch(/no agent is connected/);
    expect(await errorOf(ids())).toMatchObject({ code: "agent_offline" });
  });

  it("are shown under every name by which calls reach them", async () => {
    const { join, ask } = startFleet();
    await join({ name: "home", models: ["org/model"] });
    const show = async (name: string): Promise<unknown> =>
      JSON.parse((await readReply(await ask({ method: "GET", path: `/v1/models/${name}` }))).text);
    for (const name of ["org/model", "home/org/model", "llama_cpp:org/model"])
      for (const written of [name, encodeURIComponent(name)])
        expect(await show(written)).toMatchObject({ id: name, agents: ["home"], owned_by: "test" });
    expect(await errorOf(show("%zz"))).toMatchObject({ code: "invalid_value" });
    const posted = ask({ method: "POST", path: "/v1/models/org/model", json: {} });
    expect(await errorOf(posted)).toMatchObject({ code: "method_not_allowed" });
    expect(await errorOf(show("org/modle"))).toMatchObject({
      code: "model_not_found",
      message: expect.stringContaining("'org/model'") as string,
    });
  });
});

describe("a model's name", () => {
  it("with an agent before it means that agent, which is asked for the rest, and answers by the whole", async () => {
    const { join, chat } = startFleet();
    await join({ name: "home", models: ["demo"], onCall: answering("home") });
    await join({ name: "work", models: ["demo"], onCall: answering("work") });
    for (let turn = 0; turn < 3; turn++)
      expect((await chat("work/demo")).json).toEqual({ id: "1", by: "work", asked: "demo", model: "work/demo" });
    expect((await chat("home/llama_cpp:demo")).json).toMatchObject({ by: "home", asked: "llama_cpp:demo" });
  });

  it("is never shadowed where an agent is called as the beginning of an id", async () => {
    const { join, chat } = startFleet();
    await join({ name: "qwen", models: ["other"], onCall: answering("qwen") });
    await join({ name: "work", models: ["qwen/qwen3"], onCall: answering("work") });
    expect((await chat("qwen/qwen3")).json).toMatchObject({ by: "work", asked: "qwen/qwen3" });
    expect((await chat("qwen/other")).json).toMatchObject({ by: "qwen", asked: "other" });
    expect((await chat("work/qwen/qwen3")).json).toMatchObject({ by: "work", asked: "qwen/qwen3" });
    // Nobody lists it: it means the agent of that name, which says itself what it has.
    expect((await chat("qwen/alias")).json).toMatchObject({ by: "qwen", asked: "alias" });
  });

  it("that the agent of that name lists goes before the same id in another's list", async () => {
    const { join, chat } = startFleet();
    await join({ name: "qwen", models: ["qwen3"], onCall: answering("qwen") });
    await join({ name: "work", models: ["qwen/qwen3"], onCall: answering("work") });
    expect((await chat("qwen/qwen3")).json).toMatchObject({ by: "qwen", asked: "qwen3", model: "qwen/qwen3" });
  });

  it("with a provider before it finds the agents whose card names that provider", async () => {
    const { join, chat } = startFleet();
    await join({ name: "home", models: [{ id: "demo", provider: "ollama" }], onCall: answering("home") });
    await join({ name: "work", models: [{ id: "demo", provider: "vllm" }], onCall: answering("work") });
    for (let turn = 0; turn < 3; turn++) {
      expect((await chat("vllm:demo")).json).toMatchObject({ by: "work", asked: "vllm:demo" });
      expect((await chat("ollama:demo")).json).toMatchObject({ by: "home" });
    }
  });

  it("that nobody lists goes to the sole agent, which may know it all the same", async () => {
    const { join, chat } = startFleet();
    await join({ onCall: answering("home") });
    expect((await chat("gpt-4")).json).toEqual({ id: "1", by: "home", asked: "gpt-4", model: "gpt-4" });
  });

  it("that nobody lists is tried at one agent after the other, until one knows it", async () => {
    const { join, chat } = startFleet();
    const ignorant = await join({ name: "a", onCall: unknowing() });
    await join({ name: "b", onCall: answering("b") });
    for (let turn = 0; turn < 4; turn++) expect((await chat("alias")).json).toMatchObject({ by: "b" });
    expect(ignorant.calls.length).toBeGreaterThan(0);
  });

  it("that nobody knows is an error that tells the nearest names", async () => {
    const { join, chat } = startFleet();
    const a = await join({ name: "a", models: ["qwen3-8b"], onCall: unknowing() });
    const b = await join({ name: "b", models: ["gemma"], onCall: unknowing() });
    expect(await errorOf(chat("qwen3-8"))).toMatchObject({
      code: "model_not_found",
      message: expect.stringContaining("did you mean 'qwen3-8b'?") as string,
    });
    expect([a.calls.length, b.calls.length]).toEqual([1, 1]);
  });

  it("of an agent that is away is an error that names it and asks to come back", async () => {
    const { join, chat } = startFleet();
    const home = await join({ name: "home", models: ["demo", "both"] });
    await join({ name: "work", models: ["both"], onCall: answering("work") });
    home.link.destroy();
    await settled();
    for (const name of ["home/demo", "home/anything", "demo"]) {
      const error = await errorOf(chat(name));
      expect(error, name).toMatchObject({ code: "agent_offline", status: 503 });
      expect(error.message).toContain("'home'");
      expect(error.retryAfter).toBeGreaterThan(0);
    }
    expect((await chat("both")).json).toMatchObject({ by: "work" });
  });

  it("of an agent that has a key and was never here is no unknown model", async () => {
    const { join, chat } = startFleet({ knows: (name) => name === "cellar" });
    await join({ name: "work", onCall: answering("work") });
    expect(await errorOf(chat("cellar/demo"))).toMatchObject({ code: "agent_offline" });
    expect((await chat("attic/demo")).json).toMatchObject({ by: "work", asked: "attic/demo" });
  });
});

describe("a call", () => {
  it("is an error that says how to connect an agent while none is", async () => {
    const { chat, ask } = startFleet();
    for (const call of [
      chat("demo"),
      ask({ method: "GET", path: "/v1/models" }),
      ask({ method: "GET", path: "/api/tags" }),
    ]) {
      const error = await errorOf(call);
      expect(error).toMatchObject({ code: "agent_offline", status: 503, retryAfter: 5 });
      expect(error.message).toContain("lair agent --cloud");
    }
  });

  it("without a model goes to the sole agent; where there are several, what is missing is said", async () => {
    const { join, ask } = startFleet();
    await join({ name: "a", onCall: answering("a") });
    expect((await ask({ json: { input: "x" }, path: "/tokenize" })).status).toBe(200);
    expect((await ask({ method: "GET", path: "/api/tags" })).status).toBe(200);
    await join({ name: "b", onCall: answering("b") });
    expect(await errorOf(ask({ json: { input: "x" } }))).toMatchObject({
      code: "missing_required_parameter",
      param: "model",
    });
    expect(await errorOf(ask({ json: { model: 3 } }))).toMatchObject({ code: "invalid_type" });
    expect(await errorOf(ask({ body: Buffer.from("[]") }))).toMatchObject({ code: "invalid_type" });
    expect(await errorOf(ask({ body: Buffer.from("{") }))).toMatchObject({ code: "invalid_json" });
    expect(await errorOf(ask({ method: "GET", path: "/api/tags" }))).toMatchObject({
      code: "missing_required_parameter",
    });
  });

  it("to a path that may not be asked reaches no agent", async () => {
    const { join, ask } = startFleet();
    const agent = await join({ onCall: answering("home") });
    for (const path of [
      "/.lair/control",
      "/api/pull",
      "/admin/agents",
      "//evil.example/v1/models",
      "/v1/%2e%2e/api/pull",
    ])
      expect(["unknown_url", "invalid_request"], path).toContain(
        (await errorOf(ask({ path, json: { model: "demo" } }))).code,
      );
    expect(agent.calls).toEqual([]);
  });

  it("tells the access log which agent and model it had", async () => {
    const { join, fleet } = startFleet();
    await join({ name: "home", onCall: answering("home") });
    const { call } = toCall({ json: { model: "home/demo" } });
    await fleet.handler(call);
    expect(call.target).toMatchObject({ provider: { name: "home" }, model: "demo", requested: "home/demo" });
  });

  it("counts at its agent: calls, bytes, what is under way", async () => {
    const { join, fleet, ask } = startFleet();
    const agent = await join({ name: "home", capacity: 5 });
    const reply = ask({ json: { model: "demo" } });
    const { stream } = await agent.call();
    expect(fleet.agents()).toMatchObject([
      { name: "home", inFlight: 1, calls: 1, capacity: 5, ready: true, models: ["demo"] },
    ]);
    stream.respond({ ":status": "200" }, false);
    stream.write("12345");
    stream.end();
    await readReply(await reply);
    const [state] = fleet.agents();
    expect(state).toMatchObject({ inFlight: 0, bytesIn: 16, bytesOut: 5, failures: 0 });
    expect(state?.connections).toMatchObject([
      { address: "192.0.2.1", keyId: "k1", transport: "upgrade", version: "0.0.0-test" },
    ]);
    expect(state?.roundTrip).toBeGreaterThanOrEqual(0);
  });
});

describe("a call for an agent that is expected", () => {
  it("waits for the one that has just left, whoever else comes meanwhile", async () => {
    const { join, chat, ask } = startFleet({ patience: 60_000 });
    const home = await join({ name: "home" });
    home.link.destroy();
    await settled();
    const waiting = [chat("home/demo"), chat("demo")];
    // Who asks for lists wants to know what is there now.
    expect(await errorOf(ask({ method: "GET", path: "/v1/models" }))).toMatchObject({ code: "agent_offline" });
    await join({ name: "work", models: ["other"], onCall: answering("work") });
    await settled();
    await join({ name: "home", instance: "home-2", onCall: answering("home") });
    for (const answer of await Promise.all(waiting)) expect(answer.json).toMatchObject({ by: "home" });
  });

  it("waits also for one that says itself that it leaves", async () => {
    let now = performance.now();
    const clock = vi.spyOn(performance, "now").mockImplementation(() => now);
    const { join, chat } = startFleet({ patience: 10_000 });
    const home = await join({ name: "home" });
    now += 60_000;
    home.say({ type: "drain" });
    await home.hears("drained");
    const waiting = chat("demo");
    await join({ name: "home", instance: "home-2", onCall: answering("home") });
    expect((await waiting).json).toMatchObject({ by: "home" });
    clock.mockRestore();
  });

  it("is told when it did not come in time, or the relay leaves", async () => {
    for (const patience of [20, 60_000]) {
      const { chat, fleet, join } = startFleet({ patience });
      const home = await join();
      home.link.destroy();
      await settled();
      const waiting = errorOf(chat("demo"));
      await settled();
      if (patience === 60_000) await fleet.drain();
      expect(await waiting).toMatchObject({ code: "agent_offline" });
    }
  });

  it("does not wait where none has been, so that a front can ask another relay at once", async () => {
    const { chat } = startFleet({ patience: 60_000 });
    expect(await errorOf(chat("demo"))).toMatchObject({ code: "agent_offline" });
  });

  it("does not wait for what nobody has", async () => {
    const { join, chat } = startFleet({ patience: 60_000 });
    await join({ name: "a", onCall: unknowing() });
    await join({ name: "b", onCall: unknowing() });
    const gone = await join({ name: "c" });
    gone.link.destroy();
    await settled();
    expect(await errorOf(chat("missing"))).toMatchObject({ code: "model_not_found" });
  });
});

describe("an agent's key that may not be used any more", () => {
  it("is found before every call, and its connection is cut", async () => {
    let refusal: string | undefined;
    const { join, chat } = startFleet();
    const home = await join({ name: "home", refusal: () => refusal, onCall: answering("home") });
    await join({ name: "work", onCall: answering("work") });
    refusal = "the key was revoked";
    for (let turn = 0; turn < 3; turn++) expect((await chat("demo")).json).toMatchObject({ by: "work" });
    expect(await home.hears("revoke")).toEqual({ type: "revoke", reason: "the key was revoked" });
    await home.closed;
    expect(home.calls).toEqual([]);
  });

  it("ends all that is under way at once when it is looked for", async () => {
    let refusal: string | undefined;
    const { join, fleet, ask } = startFleet();
    const home = await join({ name: "home", refusal: () => refusal });
    const waiting = errorOf(ask({ json: { model: "demo" } }));
    await home.call();
    fleet.recheck();
    await settled();
    expect(fleet.agents()[0]?.connections).toHaveLength(1);
    refusal = "the key has expired";
    fleet.recheck();
    expect(await waiting).toMatchObject({ code: "agent_lost" });
    expect(await home.hears("revoke")).toMatchObject({ reason: "the key has expired" });
    expect(fleet.agents()).toMatchObject([{ name: "home", ready: false, connections: [] }]);
  });

  it("lets nobody in", async () => {
    const { fleet, logged } = startFleet();
    const agent = new ScriptedAgent({ refusal: () => "the key was revoked" });
    fleet.admit(agent.arrival);
    await agent.closed;
    expect(logged.join()).toContain("not taken");
  });
});

describe("a fleet that closes", () => {
  it("asks its agents to go elsewhere, answers on, and is done when no call is under way", async () => {
    const { join, fleet, ask, chat } = startFleet();
    let hold = true;
    const home = await join({ name: "home", onCall: (call) => (hold ? undefined : answering("home")(call)) });
    const reply = ask({ json: { model: "demo" } });
    const call = await home.call();
    hold = false;
    let drained = false;
    const drain = fleet.drain().then(() => (drained = true));
    await home.hears("drain");
    expect((await chat("demo")).json).toMatchObject({ by: "home" });
    expect(drained).toBe(false);
    call.stream.respond({ ":status": "200" }, false);
    call.stream.write("a");
    const answer = await reply;
    await settled();
    expect(drained).toBe(false);
    call.stream.end();
    await readReply(answer);
    await drain;
    await fleet.close();
    await home.closed;
  });

  it("asks also those to go that introduce themselves only then, and lets nobody else in", async () => {
    const { fleet } = startFleet();
    const early = new ScriptedAgent({ name: "early" });
    fleet.admit(early.arrival);
    await fleet.drain();
    await early.hears("drain");
    const late = new ScriptedAgent({ name: "late" });
    fleet.admit(late.arrival);
    await late.closed;
    expect(fleet.agents().map(({ name }) => name)).toEqual(["early"]);
  });

  it("is done at once when it has nothing to do", async () => {
    const { join, fleet } = startFleet();
    await join();
    await fleet.drain();
    await fleet.close();
    const late = new ScriptedAgent({ name: "late" });
    fleet.admit(late.arrival);
    await late.closed;
  });
});
