import { once } from "node:events";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { JsonObject } from "../../src/core/json.ts";
import { redisMissing, type RedisServer, startRedis } from "../support/redis.ts";
import { type Answer, ask, get, open, openStalled, openUnanswered } from "../support/tunnel-caller.ts";
import { asCaller } from "../support/tunnel-chain.ts";
import { waitUntil } from "../support/tunnel-log.ts";
import { Relays, type SharedRelay, untilAway, untilReady } from "../support/tunnel-relays.ts";
import { answerJson, beginStream, chatEvent, SteeredRuntime, wholeChat } from "../support/tunnel-runtime.ts";

// Two relays, one Redis: an agent of the one answers the calls of the other.

const missing = redisMissing();
if (missing !== undefined) console.warn(`Tests of relays that share their agents are skipped: ${missing}.`);

const chat = { model: "demo", messages: [{ role: "user", content: "Hello" }] };
let redis: RedisServer;
let runtime: SteeredRuntime;
let relays: Relays;
let here: SharedRelay;
let there: SharedRelay;
beforeEach(async () => {
  if (missing !== undefined) return;
  redis = await startRedis();
  runtime = await SteeredRuntime.start((asked) => answerJson(asked, 200, wholeChat("hi")));
  relays = await Relays.open(redis.url);
  [here, there] = [await relays.relay(), await relays.relay()];
});
afterEach(async () => {
  if (missing !== undefined) return;
  await relays.close();
  await runtime.close();
  await redis.close();
});

function callAt(relay: SharedRelay, body: JsonObject | Buffer = chat, headers = {}): Promise<Answer> {
  return ask(`${relay.url}/v1/chat/completions`, { body, headers: { ...asCaller, ...headers } });
}

describe.skipIf(missing !== undefined)("an agent at the other relay", () => {
  test("answers with JSON, under the model's name as it was asked for, and is named", async () => {
    await relays.agent("home", there, runtime.url, [here]);
    runtime.answering = async (asked) => {
      await asked.body();
      answerJson(asked, 200, wholeChat("hi"));
    };
    const answer = await callAt(here, { ...chat, model: "home/demo" });
    expect(answer.status).toBe(200);
    expect(answer.headers["x-lair-agent"]).toBe("home");
    expect(JSON.parse(answer.text)).toMatchObject({ model: "home/demo", choices: [{ message: { content: "hi" } }] });
    const [asked] = runtime.asked;
    expect(JSON.parse((await asked!.body()).toString())).toMatchObject({ model: "demo" });
    expect(Object.keys(asked!.request.headers).filter((name) => name.startsWith("x-lair-"))).toEqual([]);
  });

  test("answers with events one by one, and the call ends when its caller leaves", async () => {
    await relays.agent("home", there, runtime.url, [here]);
    runtime.answering = (asked) => {
      beginStream(asked);
      asked.reply.write(chatEvent("first "));
    };
    const exchange = await open(`${here.url}/v1/chat/completions`, {
      body: { ...chat, stream: true },
      headers: asCaller,
    });
    expect(await exchange.until(/first/)).toBe("first");
    expect(exchange.incoming.headers).toMatchObject({ "content-type": "text/event-stream", "x-lair-agent": "home" });
    const asked = await runtime.next();
    asked.reply.write(chatEvent("second "));
    await exchange.until(/second/);
    exchange.leave();
    await asked.left;
  });

  test("hears that its caller has left before there was a byte of an answer", async () => {
    await relays.agent("home", there, runtime.url, [here]);
    runtime.answering = undefined;
    const { leave } = openUnanswered(`${here.url}/v1/chat/completions`, { body: chat, headers: asCaller });
    const asked = await runtime.next();
    leave();
    await asked.left;
  });

  test("takes a body of 8 MB, with and without a word on its length, and gives one back", async () => {
    await relays.agent("home", there, runtime.url, [here]);
    const large = "x".repeat(8 * 1024 * 1024);
    const sizes: number[] = [];
    runtime.answering = async (asked) => {
      sizes.push((await asked.body()).length);
      answerJson(asked, 200, wholeChat(large));
    };
    const body = Buffer.from(JSON.stringify({ ...chat, user: large }));
    const json = { "content-type": "application/json" };
    const counted = await callAt(here, body, json);
    const reply = await fetch(`${here.url}/v1/chat/completions`, {
      method: "POST",
      headers: { ...asCaller, ...json },
      body: new Blob([body]).stream(),
      duplex: "half",
    } as RequestInit);
    expect([counted.status, reply.status]).toEqual([200, 200]);
    expect(counted.clean).toBe(true);
    expect([counted.text.length, (await reply.text()).length].every((length) => length > large.length)).toBe(true);
    expect(sizes).toEqual([body.length, body.length]);
  });

  test("is held back by a caller that does not read, over all hops", async () => {
    await relays.agent("home", there, runtime.url, [here]);
    const piece = Buffer.from(chatEvent("x".repeat(64 * 1024)));
    let stuck = false;
    runtime.answering = async (asked) => {
      beginStream(asked);
      for (let sent = 0; sent < 2000 && !asked.reply.destroyed; sent++) {
        if (asked.reply.write(piece)) continue;
        stuck = true;
        await Promise.race([once(asked.reply, "drain"), asked.left]);
        stuck = false;
      }
    };
    const stalled = openStalled(here.url, "/v1/chat/completions", { ...chat, stream: true }, asCaller);
    const asked = await runtime.next();
    await waitUntil(() => stuck, "the runtime is held back");
    stalled.destroy();
    await asked.left;
  });

  test("tells a broken answer as such in its stream", async () => {
    await relays.agent("home", there, runtime.url, [here]);
    runtime.answering = (asked) => {
      beginStream(asked);
      asked.reply.write(chatEvent("first "));
    };
    const exchange = await open(`${here.url}/v1/chat/completions`, {
      body: { ...chat, stream: true },
      headers: asCaller,
    });
    await exchange.until(/first/);
    (await runtime.next()).reply.destroy();
    const answer = await exchange.answer;
    expect(answer.text).toContain("agent_lost");
    expect(answer.clean).toBe(false);
  });

  test("is asked at its own relay first, which lists the models of all", async () => {
    const other = await SteeredRuntime.start((asked) => answerJson(asked, 200, wholeChat("other")));
    try {
      other.models = [
        { id: "demo", object: "model" },
        { id: "rare", object: "model" },
      ];
      await relays.agent("near", here, runtime.url, [here, there]);
      await relays.agent("far", there, other.url, [here, there]);
      const seen = await Promise.all(Array.from({ length: 6 }, () => callAt(here)));
      expect(new Set(seen.map(({ headers }) => headers["x-lair-agent"]))).toEqual(new Set(["near"]));
      const { data } = JSON.parse((await get(`${here.url}/v1/models`, asCaller)).text) as { data: JsonObject[] };
      expect(data.map(({ id, agents }) => [id, agents])).toEqual([
        ["demo", ["far", "near"]],
        ["rare", ["far"]],
      ]);
      const agents = here.fleet
        .agents()
        .map(({ name, connections }) => [name, connections.every(({ relay }) => relay)]);
      expect(agents).toEqual([
        ["far", true],
        ["near", false],
      ]);
    } finally {
      await other.close();
    }
  });

  test("keeps a conversation, whichever relay it comes to", async () => {
    const other = await SteeredRuntime.start((asked) => answerJson(asked, 200, wholeChat("other")));
    try {
      await relays.agent("near", here, runtime.url, [here, there]);
      await relays.agent("far", there, other.url, [here, there]);
      for (let session = 0; session < 8; session++) {
        const headers = { "x-session-id": `session-${session}` };
        const names = [await callAt(here, chat, headers), await callAt(there, chat, headers)].map(
          (answer) => answer.headers["x-lair-agent"],
        );
        expect(names[0]).toBe(names[1]);
      }
    } finally {
      await other.close();
    }
  });

  test("is waited for when it has just left, and may come back at another relay", async () => {
    const agent = await relays.agent("home", here, runtime.url, [here, there]);
    await agent.close();
    await untilAway(here, "home");
    const answer = callAt(here);
    await relays.agent("home", there, runtime.url);
    expect((await answer).headers["x-lair-agent"]).toBe("home");
    expect((await answer).status).toBe(200);
  });

  test("is cut at every relay when its key is revoked, and by its removal", async () => {
    await relays.agent("home", here, runtime.url, [here, there]);
    await relays.agent("home", there, runtime.url, [here, there]);
    await waitUntil(
      () => here.fleet.agents()[0]?.connections.some(({ relay }) => relay !== undefined) === true,
      "the agent is at both relays",
    );
    await relays.keys.remove("home");
    await Promise.all([untilAway(here, "home"), untilAway(there, "home")]);
    expect(here.log.lines.concat(there.log.lines).filter((line) => line.includes("an agent may not stay"))).not.toEqual(
      [],
    );
    expect((await callAt(here)).status).toBe(503);
  });

  test("cannot be reached by way of the callers' port of its relay", async () => {
    await relays.agent("home", there, runtime.url, [there]);
    const answer = await callAt(there, chat, { "x-lair-hop": "1" });
    expect(answer.status).toBe(421);
    expect(answer.text).toContain("misdirected_request");
    expect(runtime.asked).toEqual([]);
  });
});

describe.skipIf(missing !== undefined)("with Redis", () => {
  test("frozen, and then gone for good, calls go on where they went, and nobody waits", async () => {
    await relays.agent("near", here, runtime.url, [here, there]);
    await relays.agent("far", there, runtime.url, [here, there]);
    redis.freeze();
    expect((await callAt(here, { ...chat, model: "far/demo" })).status).toBe(200);
    expect((await callAt(here, { ...chat, model: "near/demo" })).status).toBe(200);
    redis.thaw();
    await redis.kill();
    await here.log.until(/Redis at .* /);
    expect((await callAt(here, { ...chat, model: "far/demo" })).status).toBe(200);
    expect((await callAt(here, { ...chat, model: "near/demo" })).status).toBe(200);
  });

  test("started anew and empty, agents and keys are told of again", async () => {
    await relays.agent("near", here, runtime.url, [here, there]);
    const far = await relays.agent("far", there, runtime.url, [here, there]);
    await redis.kill();
    await redis.start();
    const [list, count] = ["{lair}:agents", async () => Number(await redis.cli("HLEN", "{lair}:agents"))];
    await waitUntil(async () => (await count()) === 2, `two entries in ${list}`);
    expect((await callAt(here, { ...chat, model: "far/demo" })).status).toBe(200);
    // The list of agents was lost with it, and nobody was cut off for that.
    await waitUntil(async () => (await redis.cli("--scan")).includes("agents"), "the list of agents is back");
    await far.close();
    await relays.agent("far", here, runtime.url, [there]);
    expect((await callAt(there, { ...chat, model: "far/demo" })).status).toBe(200);
    await untilReady(there, "near");
  });
});

describe.skipIf(missing !== undefined)("a relay that others could come to does not start", () => {
  test.each([
    ["without a secret", {}, "set relay.internal.secret"],
    ["without an address for the others", { LAIR_RELAY_INTERNAL_SECRET: "x".repeat(32) }, "set relay.internal.url"],
  ])("%s", async (_what, env, text) => {
    await expect(relays.relay({ LAIR_RELAY_INTERNAL_HOST: "0.0.0.0", ...env })).rejects.toThrow(text);
  });
});
