import { once } from "node:events";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { get } from "../support/tunnel-caller.ts";
import { waitUntil } from "../support/tunnel-log.ts";
import { expectAnswer, expectFailures, putLoad } from "../support/tunnel-load.ts";
import { agentsAt, crash, Programs, untilAgents } from "../support/tunnel-processes.ts";
import { busyManner, SteeredRuntime } from "../support/tunnel-runtime.ts";

// Programs that are killed under 50 streams and 10 calls without an answer yet: relay, agent and runtime each are one.

let programs: Programs;
let runtime: SteeredRuntime;
beforeEach(async () => {
  programs = new Programs();
  runtime = await SteeredRuntime.start(busyManner());
});
afterEach(async () => {
  await programs.close();
  await runtime.close();
});

describe("an agent that is killed", () => {
  test("is told to every caller as an error, and answers again when it was started anew", async () => {
    const relay = await programs.relay();
    const agent = await programs.agent("home", relay.url, runtime.url);
    await untilAgents(relay.url, "home");
    const load = await putLoad(relay.url);
    await waitUntil(() => runtime.open === 60, "60 calls at the runtime");
    await crash(agent);
    await expectFailures(load, "agent_lost");
    await runtime.idle();
    expect(await agentsAt(relay.url)).toEqual([]);
    expect((await get(`${relay.url}/ready`)).status).toBe(503);

    await programs.agent("home", relay.url, runtime.url);
    await untilAgents(relay.url, "home");
    await expectAnswer(relay.url);
  });

  test("leaves the calls to it to another agent that has the model", async () => {
    const relay = await programs.relay();
    const agent = await programs.agent("first", relay.url, runtime.url);
    await programs.agent("second", relay.url, runtime.url);
    await untilAgents(relay.url, "first", "second");
    const load = await putLoad(relay.url, 10, 0, "second/demo");
    await crash(agent);
    for (let call = 0; call < 5; call++) await expectAnswer(relay.url);
    // What the other was doing goes on.
    for (const stream of load.streams) await stream.until(/word30 /);
    load.leave();
    await runtime.idle();
  });
});

describe("a relay that is killed", () => {
  test("leaves no work behind at the runtime, and has its agent back when it is started anew", async () => {
    const relay = await programs.relay();
    const agent = await programs.agent("home", relay.url, runtime.url);
    await untilAgents(relay.url, "home");
    const load = await putLoad(relay.url);
    await waitUntil(() => runtime.open === 60, "60 calls at the runtime");
    await crash(relay);
    const cut = await Promise.all(load.streams.map(({ answer }) => answer));
    expect(cut.filter(({ clean }) => clean)).toEqual([]);
    expect((await Promise.all(load.waiting)).every((answer) => answer instanceof Error)).toBe(true);
    await runtime.idle();
    expect(runtime.aborted).toBe(60);

    await programs.relay(Number(new URL(relay.url).port));
    await untilAgents(relay.url, "home");
    await expectAnswer(relay.url);
    expect(agent.child.exitCode).toBeNull();
  });
});

describe("a runtime that is killed", () => {
  test("is told to every caller as an error; the relay is ready again when it is back", async () => {
    const server = await programs.runtime();
    const relay = await programs.relay();
    await programs.agent("home", relay.url, server.url);
    await untilAgents(relay.url, "home");
    const load = await putLoad(relay.url);
    await crash(server);
    const cut = await Promise.all(load.streams.map(({ answer }) => answer));
    expect(cut.filter(({ clean }) => clean)).toEqual([]);
    const statuses = (await Promise.all(load.waiting)).map((answer) =>
      answer instanceof Error ? answer : answer.status,
    );
    expect(statuses).toEqual(statuses.map(() => 502));
    await waitUntil(async () => (await get(`${relay.url}/ready`)).status === 503, "not ready without a runtime");

    await programs.runtime(Number(new URL(server.url).port));
    await waitUntil(async () => (await get(`${relay.url}/ready`)).status === 200, "ready with a runtime");
    await expectAnswer(relay.url);
  });
});

// Windows has no signals: there `kill` ends a program without asking it.
describe.skipIf(process.platform === "win32")("a program that is asked to stop", () => {
  test("finishes the streams under way, if it is the agent, takes no more, and ends with 0", async () => {
    const relay = await programs.relay();
    const agent = await programs.agent("home", relay.url, runtime.url);
    await untilAgents(relay.url, "home");
    runtime.answering = undefined;
    const { open } = await import("../support/tunnel-caller.ts");
    const { asCaller } = await import("../support/tunnel-chain.ts");
    const { beginStream, chatEvent } = await import("../support/tunnel-runtime.ts");
    const opening = open(`${relay.url}/v1/chat/completions`, {
      body: { model: "demo", messages: [], stream: true },
      headers: asCaller,
    });
    const asked = await runtime.next();
    beginStream(asked);
    asked.reply.write(chatEvent("one"));
    const exchange = await opening;
    await exchange.until(/one/);

    agent.child.kill("SIGTERM");
    await untilAgents(relay.url);
    expect(agent.child.exitCode).toBeNull();
    asked.reply.write(chatEvent("two"));
    await exchange.until(/two/);
    asked.reply.end("data: [DONE]\n\n");
    expect(await exchange.answer).toMatchObject({ clean: true, text: expect.stringMatching(/\[DONE\]\n\n$/) });
    expect((await agent.ended).code).toBe(0);
  });

  test("finishes the streams under way, if it is the relay, and ends with 0", async () => {
    const relay = await programs.relay();
    await programs.agent("home", relay.url, runtime.url);
    await untilAgents(relay.url, "home");
    const load = await putLoad(relay.url, 5, 0);
    relay.child.kill("SIGTERM");
    for (const stream of load.streams) await stream.until(/word40 /);
    load.leave();
    if (relay.child.exitCode === null) await once(relay.child, "exit");
    expect((await relay.ended).code).toBe(0);
    await runtime.idle();
  });
});
