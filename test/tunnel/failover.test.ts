import { describe, expect, it } from "vitest";
import type { JsonObject } from "../../src/core/json.ts";
import { answerJson, type Arrived, beginEvents, type ScriptedAgent } from "../support/tunnel-agent.ts";
import { FedBody, readReply, settled, toCall } from "../support/tunnel-calls.ts";
import { answering, startFleet, type TestFleet } from "../support/tunnel-fleet.ts";

const refuse = ({ stream }: Arrived): void => stream.reset(7);
const failWith =
  (status: number) =>
  (call: Arrived): void =>
    answerJson(call, status, { error: { message: "the runtime does not answer", code: "upstream_unreachable" } });

async function codeOf(promise: Promise<unknown>): Promise<string> {
  return promise.then(
    (value) => `no error, but ${JSON.stringify(value)}`,
    (error: { code: string }) => error.code,
  );
}

/** Two agents with the same model: the first to be asked does as told, the other answers. */
async function two(
  first: (call: Arrived, agent: ScriptedAgent) => void,
): Promise<TestFleet & { asked: ScriptedAgent; other: ScriptedAgent }> {
  const fleet = startFleet();
  const asked: ScriptedAgent = await fleet.join({ name: "first", onCall: (call) => first(call, asked) });
  const other = await fleet.join({ name: "other", onCall: answering("other") });
  return { ...fleet, asked, other };
}

describe("before the first byte, a call finds another agent", () => {
  it("when one refuses it", async () => {
    const { chat, asked } = await two(refuse);
    expect((await chat("demo")).json).toMatchObject({ by: "other" });
    expect(asked.calls).toHaveLength(1);
  });

  it("when one is lost in the middle of it", async () => {
    const { chat } = await two((_call, agent) => agent.link.destroy());
    expect((await chat("demo")).json).toMatchObject({ by: "other" });
  });

  it.each([502, 503, 504])("when the runtime behind one answers %i", async (status) => {
    const { chat, asked, fleet } = await two(failWith(status));
    expect((await chat("demo")).json).toMatchObject({ by: "other" });
    expect(asked.calls).toHaveLength(1);
    expect(fleet.agents().map(({ inFlight }) => inFlight)).toEqual([0, 0]);
  });

  it("or first another connection of the same one, which has the session's cache, when one takes no more", async () => {
    const { join, chat } = startFleet();
    const refusing = await join({ name: "home", onCall: refuse });
    await join({ name: "home", onCall: answering("home") });
    await join({ name: "work", onCall: answering("work") });
    expect((await chat("demo")).json).toMatchObject({ by: "home" });
    expect(refusing.calls).toHaveLength(1);
  });

  it("rather than another connection of one that was lost, which may be gone as a whole", async () => {
    const { join, chat } = startFleet();
    const first: ScriptedAgent = await join({ name: "home", onCall: () => first.link.destroy() });
    await join({ name: "home", onCall: answering("home") });
    await join({ name: "work", onCall: answering("work") });
    expect((await chat("demo")).json).toMatchObject({ by: "work" });
    expect(first.calls).toHaveLength(1);
  });

  it("but not when it answers anything else", async () => {
    for (const status of [400, 401, 404, 429, 500]) {
      const { chat } = await two(failWith(status));
      expect((await chat("demo")).status, String(status)).toBe(status);
    }
  });

  it("and the last one's failure is the answer when all have failed", async () => {
    const { join, chat } = startFleet();
    await join({ name: "a", onCall: failWith(502) });
    await join({ name: "b", onCall: failWith(503) });
    expect((await chat("demo")).status).toBe(503);
  });
});

describe("a call to an agent by name", () => {
  it("stays with it: another connection takes what one refuses", async () => {
    const { join, chat } = startFleet();
    const full = await join({ name: "home", streams: 1 });
    await join({ name: "home", onCall: answering("home") });
    await join({ name: "work", onCall: answering("work") });
    for (let turn = 0; turn < 3; turn++) expect((await chat("home/demo")).json).toMatchObject({ by: "home" });
    expect(full.calls).toEqual([]);
  });

  it("tries the agent's other connection when the first refuses on the wire", async () => {
    const { join, chat } = startFleet();
    const refusing = await join({ name: "home", onCall: refuse });
    await join({ name: "home", onCall: answering("home") });
    expect((await chat("home/demo")).json).toMatchObject({ by: "home" });
    expect(refusing.calls).toHaveLength(1);
  });

  it("gets the runtime's own failure", async () => {
    const { chat, asked } = await two(failWith(502));
    expect(await chat("first/demo")).toMatchObject({ status: 502, json: { error: { code: "upstream_unreachable" } } });
    expect(asked.calls).toHaveLength(1);
  });

  it("gets it also where another process of the agent might do better", async () => {
    const { join, chat } = startFleet();
    await join({ name: "home", instance: "p1", onCall: failWith(502) });
    await join({ name: "home", instance: "p2", onCall: answering("home") });
    const answers = [await chat("home/demo"), await chat("home/demo")];
    expect(answers.map(({ status }) => status).toSorted((a, b) => a - b)).toEqual([200, 502]);
  });

  it("is not begun a second time when the agent is lost in the middle of it", async () => {
    const { join, chat, fleet } = startFleet();
    const first: ScriptedAgent = await join({ name: "home", onCall: () => first.link.destroy() });
    const second = await join({ name: "home", onCall: answering("home") });
    const error = await chat("home/demo").catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ code: "agent_lost", status: 502, retryAfter: 1, provider: "home" });
    expect(second.calls).toEqual([]);
    expect(fleet.agents()[0]?.failures).toBe(1);
  });

  it("is an error with Retry-After when no connection of it takes calls", async () => {
    const { join, chat } = startFleet();
    await join({ name: "home", onCall: refuse });
    await join({ name: "home", onCall: refuse });
    const error = await chat("home/demo").catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ code: "agent_offline", status: 503, retryAfter: 1 });
  });
});

describe("a call that was lost", () => {
  it("is tried at most so often", async () => {
    const { join, chat } = startFleet();
    const agents: ScriptedAgent[] = [];
    for (let index = 0; index < 12; index++) agents.push(await join({ name: `a${index}`, onCall: refuse }));
    expect(await codeOf(chat("demo"))).toBe("agent_offline");
    expect(agents.reduce((sum, { calls }) => sum + calls.length, 0)).toBe(8);
  });

  it("is not sent again when its caller has left", async () => {
    const { fleet, join } = startFleet();
    const agent = await join({ name: "a" });
    await join({ name: "b", onCall: answering("b") });
    const { call, leave } = toCall({ json: { model: "a/demo" } });
    const reply = codeOf(fleet.handler(call));
    const arrived = await agent.call();
    leave();
    expect(await reply).toBe("client_closed_request");
    expect((await arrived.reset).code).toBe(8);
    expect(fleet.agents().map(({ inFlight, failures }) => [inFlight, failures])).toEqual([
      [0, 0],
      [0, 0],
    ]);
  });

  it("is not sent again when its body was on its way already", async () => {
    const { fleet, join } = startFleet();
    const first: ScriptedAgent = await join({ name: "a" });
    const second: ScriptedAgent = await join({ name: "b" });
    const body = new FedBody();
    const { call } = toCall({ body, headers: { "content-length": String(4 << 20) } });
    const reply = codeOf(fleet.handler(call));
    body.feed('{"model":"demo","x":"');
    await settled();
    const asked = first.calls.length > 0 ? first : second;
    const other = asked === first ? second : first;
    await asked.until(() => (asked.calls[0]?.received() ?? 0) > 0);
    asked.link.destroy();
    expect(await reply).toBe("agent_lost");
    expect(body.cancelled).toBe(true);
    expect(other.calls).toEqual([]);
  });
});

describe("a call whose body was too large to be held", () => {
  it("gets the failure of the runtime that had it", async () => {
    const { fleet, join } = startFleet();
    const agents = [await join({ name: "a", onCall: failWith(502) }), await join({ name: "b", onCall: failWith(502) })];
    const body = new FedBody();
    const { call } = toCall({ body });
    const reply = fleet.handler(call);
    body.feed('{"model":"demo","x":"');
    body.feed(Buffer.alloc(2 << 20, 0x61));
    expect((await reply).status).toBe(502);
    expect(agents.reduce((sum, { calls }) => sum + calls.length, 0)).toBe(1);
  });
});

/** A stream that has sent this when its agent is lost. */
async function broken(
  path: string,
  sent: string,
  contentType = "text/event-stream",
): Promise<{ text: string; failure: Error | undefined }> {
  const { ask, join } = startFleet();
  const agent = await join();
  const reply = ask({ path, json: { model: "home/demo", stream: true } });
  const { stream } = await agent.call();
  stream.respond({ ":status": "200", "content-type": contentType }, false);
  stream.write(sent);
  const answered = await reply;
  const read = readReply(answered);
  await settled();
  agent.link.destroy();
  return read;
}

describe("a stream whose agent is lost after its head", () => {
  it("tells a chat's caller so in an event of its own, and is cut", async () => {
    const { text, failure } = await broken("/v1/chat/completions", 'data: {"model":"demo"}\n\n');
    const [first, second, rest] = text.split("\n\n");
    expect(first).toBe('data: {"model":"home/demo"}');
    const { error } = JSON.parse((second ?? "").replace("data: ", "")) as { error: JsonObject };
    expect(error).toMatchObject({ code: "agent_lost", type: "server_error", param: null });
    expect(rest).toBe("");
    expect(failure).toMatchObject({ code: "agent_lost" });
  });

  it("tells it in the events of Responses and of Anthropic's API", async () => {
    const responses = await broken("/v1/responses", "event: response.created\ndata: {}\n\n");
    expect(responses.text).toMatch(
      /\n\nevent: error\ndata: \{"type":"error","code":"agent_lost","message":"the agent 'home'/,
    );
    const messages = await broken("/v1/messages", "event: ping\r\ndata: {}\r\n\r\n");
    expect(messages.text).toMatch(
      /\r\n\r\nevent: error\ndata: \{"type":"error","error":\{"type":"api_error","message":"the agent/,
    );
  });

  it("tells it also when the last event came in crumbs", async () => {
    const { ask, join } = startFleet();
    const agent = await join();
    const reply = ask({ json: { model: "demo", stream: true } });
    const call = await agent.call();
    beginEvents(call);
    const read = readReply(await reply);
    for (const crumb of ["data: {}", "\r\n", "\r", "\n"]) {
      call.stream.write(crumb);
      await settled(6);
    }
    agent.link.destroy();
    expect((await read).text).toContain("agent_lost");
  });

  it("tells it also when not one event has come", async () => {
    const { ask, join } = startFleet();
    const agent = await join();
    const reply = ask({ json: { model: "demo", stream: true } });
    beginEvents(await agent.call());
    const read = readReply(await reply);
    agent.link.destroy();
    expect((await read).text).toContain("agent_lost");
  });

  it.each([
    ["in the middle of an event", 'data: {"choices":[{"delta":{"content":"ha'],
    ["between the lines of an event", "event: message\n"],
  ])("is only cut %s", async (_where, sent) => {
    const { text, failure } = await broken("/v1/chat/completions", sent);
    expect(text).toBe(sent);
    expect(failure).toMatchObject({ code: "agent_lost" });
  });

  it("is only cut where it is no event stream", async () => {
    const { text, failure } = await broken("/v1/chat/completions", '{"a":1}\n\n', "application/json");
    expect(text).toBe('{"a":1}\n\n');
    expect(failure).toMatchObject({ code: "agent_lost" });
  });

  it("counts as a failure of its agent, and not as under way", async () => {
    const { ask, join, fleet } = startFleet();
    const agent = await join();
    const reply = ask({ json: { model: "demo" } });
    beginEvents(await agent.call());
    const read = readReply(await reply);
    agent.link.destroy();
    await read;
    expect(fleet.agents()).toMatchObject([{ failures: 1, inFlight: 0 }]);
  });
});
