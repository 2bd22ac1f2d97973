import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { waitUntil } from "../support/tunnel-log.ts";
import { expectAnswer, keepAsking } from "../support/tunnel-load.ts";
import type { Line } from "../support/tunnel-lines.ts";
import { nginxMissing, startNginx } from "../support/tunnel-nginx.ts";
import { agentsAt, Programs, type RelayProgram, untilAgents } from "../support/tunnel-processes.ts";
import { busyManner, SteeredRuntime } from "../support/tunnel-runtime.ts";

// Programs that are restarted one after the other while callers go on: no call may be lost.

let programs: Programs;
let runtime: SteeredRuntime;
let nginx: Line | undefined;
beforeEach(async () => {
  programs = new Programs();
  runtime = await SteeredRuntime.start(busyManner(2));
});
afterEach(async () => {
  await nginx?.close();
  nginx = undefined;
  await programs.close();
  await runtime.close();
});

/** Waits until so many more calls have reached the runtime: the load goes on, before and after. */
function more(calls: number): Promise<void> {
  const end = runtime.asked.length + calls;
  return waitUntil(() => runtime.asked.length >= end, `${calls} more calls`);
}

// Windows has no signals: there `kill` ends a program without asking it.
describe.skipIf(process.platform === "win32")("a restart under load loses no call", { timeout: 60_000 }, () => {
  test("of one of two agents, twice", async () => {
    const relay = await programs.relay();
    const second = await programs.agent("second", relay.url, runtime.url);
    let first = await programs.agent("first", relay.url, runtime.url);
    await untilAgents(relay.url, "first", "second");
    const load = keepAsking(relay.url);
    for (let round = 0; round < 2; round++) {
      await more(60);
      first.child.kill("SIGTERM");
      expect((await first.ended).code).toBe(0);
      await more(60);
      first = await programs.agent("first", relay.url, runtime.url);
      await untilAgents(relay.url, "first", "second");
    }
    await more(60);
    const { answered, failed } = await load.stop();
    expect(failed).toEqual([]);
    expect(answered).toBeGreaterThan(300);
    expect(second.child.exitCode).toBeNull();
  });

  test("of each of two relays behind nginx, with one agent that connects to both", async ({ skip }) => {
    const missing = nginxMissing();
    if (missing !== undefined) return skip(missing);
    const env = { LAIR_HOSTS: "127.0.0.1,relays" };
    const relays: RelayProgram[] = [await programs.relay(0, env), await programs.relay(0, env)];
    const ports = relays.map(({ url }) => Number(new URL(url).port));
    nginx = await startNginx({ targets: relays.map(({ url }) => url) });
    await programs.agent("home", nginx.url, runtime.url);
    const everywhere = (): Promise<boolean> =>
      Promise.all(relays.map(({ url }) => agentsAt(url))).then((all) => all.every((names) => names.includes("home")));
    await waitUntil(everywhere, "the agent is connected to both relays");
    const load = keepAsking(nginx.url);
    for (const [at, port] of ports.entries()) {
      await more(60);
      const relay = relays[at] as RelayProgram;
      relay.child.kill("SIGTERM");
      expect((await relay.ended).code).toBe(0);
      await more(60);
      relays[at] = await programs.relay(port, env);
      await waitUntil(everywhere, "the agent is connected to both relays again");
    }
    await more(60);
    const { answered, failed } = await load.stop();
    expect(failed).toEqual([]);
    expect(answered).toBeGreaterThan(300);
  });

  test("of the only relay: calls under way are answered, and the agent comes back by itself", async () => {
    const relay = await programs.relay();
    await programs.agent("home", relay.url, runtime.url);
    await untilAgents(relay.url, "home");
    const load = keepAsking(relay.url, 4);
    await more(40);
    relay.child.kill("SIGTERM");
    expect((await relay.ended).code).toBe(0);
    const { failed } = await load.stop();
    // After the end nobody listens; every call before it was answered in full.
    expect(failed.filter((problem) => !/ECONNREFUSED|ECONNRESET|socket hang up/.test(problem))).toEqual([]);
    await programs.relay(Number(new URL(relay.url).port));
    await untilAgents(relay.url, "home");
    await expectAnswer(relay.url);
  });
});
