import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { ApiError } from "../../src/core/errors.ts";
import { signHop } from "../../src/tunnel/relay/hop-signature.ts";
import { answerJson, beginEvents } from "../support/tunnel-agent.ts";
import { ask } from "../support/tunnel-caller.ts";
import { FedBody, readReply } from "../support/tunnel-calls.ts";
import { Board, sharedSecret, type SharingFleet, startSharing } from "../support/tunnel-directory.ts";
import { answering } from "../support/tunnel-fleet.ts";
import { waitUntil } from "../support/tunnel-log.ts";

// Relays in this process with agents whose every word is the test's: what becomes of a call whose agent is elsewhere.

let board: Board;
let relays: SharingFleet[] = [];
beforeEach(() => {
  board = new Board();
});
afterEach(async () => {
  for (const relay of relays) await relay.close();
  relays = [];
});

async function start(
  ...settings: Parameters<typeof startSharing>[1][]
): Promise<[SharingFleet, SharingFleet, SharingFleet]> {
  for (let count = 0; count < 3; count++) relays.push(await startSharing(board, settings[count] ?? {}));
  return relays as [SharingFleet, SharingFleet, SharingFleet];
}

const codeOf = (work: Promise<unknown>): Promise<string> =>
  work.then(
    () => "answered",
    (error: unknown) => (error instanceof ApiError ? error.code : String(error)),
  );

describe("an entry that is not true any more", () => {
  test("is found out by one call, which reads the directory once and reaches the agent where it is", async () => {
    const [here, before, now] = await start();
    const first = await before.join({ name: "home", onCall: answering("home") });
    expect((await here.chat("demo")).json).toMatchObject({ by: "home" });
    board.held = true;
    first.say({ type: "drain" });
    await first.hears("drained");
    await now.join({ name: "home", instance: "home-2", onCall: answering("home again") });
    expect((await here.chat("demo")).json).toMatchObject({ by: "home again" });
    expect(here.directory.rereads).toBe(1);
    expect((await here.chat("demo")).json).toMatchObject({ by: "home again" });
    expect(here.directory.rereads).toBe(1);
  });

  test("is the end of a call whose agent is nowhere, as if it had never been there", async () => {
    const [here, there] = await start();
    const agent = await there.join({ name: "home" });
    board.held = true;
    agent.link.destroy();
    await waitUntil(() => there.fleet.agents()[0]?.since === null, "the agent is gone");
    expect(await codeOf(here.chat("demo"))).toBe("agent_offline");
    expect(here.directory.rereads).toBe(1);
    expect(here.directory.dropped).toHaveLength(1);
  });

  test("fails a call whose body has begun to flow, for it cannot be sent twice", async () => {
    const [here, before, now] = await start();
    const first = await before.join({ name: "home" });
    board.held = true;
    first.link.destroy();
    await waitUntil(() => before.fleet.agents()[0]?.since === null, "the agent is gone");
    const second = await now.join({ name: "home", instance: "home-2", onCall: answering("home again") });
    const body = new FedBody();
    const asked = codeOf(here.ask({ body }));
    body.feed(`{"model":"demo","user":"${"x".repeat(2 * 1024 * 1024)}`);
    await waitUntil(() => body.cancelled, "nobody reads the rest");
    expect(["agent_offline", "agent_lost"]).toContain(await asked);
    expect(second.calls).toEqual([]);
  });
});

describe("a relay that is gone", () => {
  test("is found out by one call, which another session of the agent answers; all of its entries go", async () => {
    const [here, dead, alive] = await start();
    await dead.join({ name: "home", onCall: answering("dead") });
    await dead.join({ name: "other", models: ["rare"] });
    await here.chat("demo");
    await dead.server.close(0);
    // The other session is another process, which has more to do.
    await alive.join({ name: "home", instance: "home-2", onCall: answering("alive"), capacity: 1 });
    for (let call = 0; call < 4; call++) expect((await here.chat("demo")).json).toMatchObject({ by: "alive" });
    expect(here.directory.dropped.toSorted()).toHaveLength(2);
    expect(await codeOf(here.chat("rare"))).toBe("agent_offline");
  });

  test("fails calls that it had taken, where they cannot be told from begun ones", async () => {
    const [here, there] = await start();
    const agent = await there.join({ name: "home" });
    const asked = codeOf(here.chat("home/demo"));
    await agent.call();
    await there.server.close(0);
    expect(await asked).toBe("agent_lost");
  });

  test("cuts an answer under way, and tells its reader", async () => {
    const [here, there] = await start();
    const agent = await there.join({ name: "home", onCall: beginEvents });
    const reply = await here.ask({ json: { model: "demo", stream: true } });
    const read = readReply(reply);
    (await agent.call()).stream.write("data: 1\n\n");
    await waitUntil(() => here.fleet.agents()[0]!.bytesOut > 0, "the first event");
    await there.server.close(0);
    const { text, failure } = await read;
    expect(text).toMatch(/^data: 1\n\ndata: .*agent_lost/);
    expect((failure as ApiError).code).toBe("agent_lost");
  });
});

describe("a hop", () => {
  test("tells refusals of the agent from answers of its runtime, whatever headers that sends", async () => {
    const [here, there] = await start();
    await there.join({
      name: "home",
      onCall: ({ stream }) => {
        stream.respond({ ":status": "200", "x-lair-stage": "refused", "x-lair-agent": "nobody" }, true);
      },
    });
    const reply = await here.ask({ json: { model: "demo" } });
    expect([reply.status, reply.headers["x-lair-agent"], reply.headers["x-lair-stage"]]).toEqual([
      200,
      "home",
      undefined,
    ]);
  });

  test("passes an error of the runtime on as it is", async () => {
    const [here, there] = await start();
    await there.join({
      name: "home",
      onCall: (call) => answerJson(call, 400, { error: { code: "context_length_exceeded" } }),
    });
    expect(await here.chat("demo")).toEqual({ status: 400, json: { error: { code: "context_length_exceeded" } } });
  });

  test("never leads to another one: who takes it has only its own tunnels to offer", async () => {
    const [here, middle, there] = await start();
    const home = await there.join({ name: "home", onCall: answering("home") });
    await middle.join({ name: "own" });
    expect((await middle.chat("home/demo")).status).toBe(200);
    const { relay } = [...here.directory.sessions.values()].find(({ agent }) => agent === "own")!;
    const path = "/v1/chat/completions";
    const signed = signHop(sharedSecret, { method: "POST", path, session: `${relay}/home/home-1`, relay });
    const answer = await ask(middle.url + path, { body: { model: "demo" }, headers: signed });
    expect([answer.status, answer.headers["x-lair-stage"]]).toEqual([421, "astray"]);
    expect(home.calls).toHaveLength(1);
  });

  test("is tried at an agent that has room before one that is full here", async () => {
    const [here, there] = await start();
    const near = await here.join({ name: "near", capacity: 1 });
    await there.join({ name: "far", onCall: answering("far") });
    const first = here.chat("demo");
    await near.call();
    expect((await here.chat("demo")).json).toMatchObject({ by: "far" });
    answerJson(await near.call(), 200, { by: "near" });
    expect((await first).json).toMatchObject({ by: "near" });
  });
});
