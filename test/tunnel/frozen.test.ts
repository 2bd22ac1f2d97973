import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { get } from "../support/tunnel-caller.ts";
import { waitUntil } from "../support/tunnel-log.ts";
import { expectAnswer, expectFailures, putLoad } from "../support/tunnel-load.ts";
import { agentsAt, Programs, untilAgents } from "../support/tunnel-processes.ts";
import { busyManner, SteeredRuntime } from "../support/tunnel-runtime.ts";

// Programs that stop without a word (SIGSTOP), as a laptop that sleeps: nobody closes a connection. At the same time,
// for each takes as long as heartbeats need.

let programs: Programs;
beforeAll(() => void (programs = new Programs()));
afterAll(() => programs.close());

describe.skipIf(process.platform === "win32")("a program that freezes", { concurrent: true, timeout: 60_000 }, () => {
  test("if it is the agent, is told to every caller as an error, and is taken back when it wakes", async () => {
    const runtime = await SteeredRuntime.start(busyManner());
    const relay = await programs.relay();
    const agent = await programs.agent("asleep", relay.url, runtime.url);
    await untilAgents(relay.url, "asleep");
    const load = await putLoad(relay.url);
    await waitUntil(() => runtime.open === 60, "60 calls at the runtime");
    agent.child.kill("SIGSTOP");
    await expectFailures(load, "agent_lost");
    expect(await agentsAt(relay.url)).toEqual([]);
    agent.child.kill("SIGCONT");
    await untilAgents(relay.url, "asleep");
    await expectAnswer(relay.url);
    await runtime.idle();
    await runtime.close();
  });

  test("if it is the relay, leaves no work behind at the runtime, and has its agent back when it wakes", async () => {
    const runtime = await SteeredRuntime.start(busyManner());
    const relay = await programs.relay();
    await programs.agent("awake", relay.url, runtime.url);
    await untilAgents(relay.url, "awake");
    const load = await putLoad(relay.url);
    await waitUntil(() => runtime.open === 60, "60 calls at the runtime");
    relay.child.kill("SIGSTOP");
    await runtime.idle();
    expect(runtime.aborted).toBe(60);
    relay.child.kill("SIGCONT");
    await expectFailures(load, "agent_lost");
    await untilAgents(relay.url, "awake");
    await expectAnswer(relay.url);
    await runtime.close();
  });

  test("if it is the runtime, makes the relay unready, and loses no stream when it wakes", async () => {
    const server = await programs.runtime();
    const relay = await programs.relay();
    await programs.agent("patient", relay.url, server.url);
    await untilAgents(relay.url, "patient");
    const load = await putLoad(relay.url, 50, 0);
    server.child.kill("SIGSTOP");
    await waitUntil(async () => (await get(`${relay.url}/ready`)).status === 503, "not ready while the runtime sleeps");
    server.child.kill("SIGCONT");
    await waitUntil(async () => (await get(`${relay.url}/ready`)).status === 200, "ready when the runtime is awake");
    for (const stream of load.streams) await stream.until(/word50 /);
    load.leave();
  });
});
