import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Server } from "node:net";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { redisMissing, type RedisServer, startRedis } from "../support/redis.ts";
import { waitUntil } from "../support/tunnel-log.ts";
import { expectAnswer, expectFailures, keepAsking, putLoad } from "../support/tunnel-load.ts";
import { crash, Programs, type RelayProgram, untilAgents } from "../support/tunnel-processes.ts";
import { answerJson, busyManner, SteeredRuntime } from "../support/tunnel-runtime.ts";

// Relays that share their agents, each a program of its own, which are killed, frozen and restarted while callers go on.

const missing =
  redisMissing() ?? (process.platform === "win32" ? "Windows has no signals by which programs are frozen" : undefined);
if (missing !== undefined) console.warn(`Tests of relays as programs that share their agents are skipped: ${missing}.`);

let programs: Programs;
let runtime: SteeredRuntime;
let redis: RedisServer;
beforeEach(async () => {
  if (missing !== undefined) return;
  programs = new Programs();
  const busy = busyManner(5);
  // The relay asks for the tokens of answers that do not tell them.
  runtime = await SteeredRuntime.start((asked) =>
    asked.target === "/tokenize" ? answerJson(asked, 404, { error: {} }) : busy(asked),
  );
  redis = await startRedis();
});
afterEach(async () => {
  if (missing !== undefined) return;
  await programs.close();
  await runtime.close();
  await redis.close();
});

function startRelay(port = 0): Promise<RelayProgram> {
  return programs.relay(port, { LAIR_STATE: redis.url, LAIR_RELAY_INTERNAL_PORT: "0" });
}

/** Waits until so many more calls have reached the runtime. */
function more(calls: number): Promise<void> {
  const end = runtime.asked.length + calls;
  return waitUntil(() => runtime.asked.length >= end, `${calls} more calls`);
}

describe.skipIf(missing !== undefined)("relays that share their agents", { timeout: 60_000 }, () => {
  test("lose only answers that had begun when one of them is killed under load", async () => {
    const [entrance, first, second] = await Promise.all([startRelay(), startRelay(), startRelay()]);
    await programs.agent("first", first.url, runtime.url);
    await programs.agent("second", second.url, runtime.url);
    await untilAgents(entrance.url, "first", "second");
    const load = keepAsking(entrance.url);
    await more(60);
    await crash(first);
    await more(60);
    const { answered, failed } = await load.stop();
    // Cut within the few milliseconds between the first event and the last, and told so.
    expect(failed.filter((problem) => !/^200 false .*(agent_lost|word)/s.test(problem))).toEqual([]);
    expect(failed.length).toBeLessThanOrEqual(8);
    expect(answered).toBeGreaterThan(40);
  });

  test("lose no call of an agent that goes from one to the other, and of relays that are restarted in turn", async () => {
    const [entrance, first, second] = await Promise.all([startRelay(), startRelay(), startRelay()]);
    const front = await startSwitch(first.url);
    try {
      await programs.agent("home", front.url, runtime.url);
      await untilAgents(entrance.url, "home");
      const load = keepAsking(entrance.url);
      await more(60);
      front.lead(second.url);
      first.child.kill("SIGTERM");
      expect((await first.ended).code).toBe(0);
      await more(60);
      const third = await startRelay();
      front.lead(third.url);
      second.child.kill("SIGTERM");
      expect((await second.ended).code).toBe(0);
      await more(60);
      const { answered, failed } = await load.stop();
      expect(failed).toEqual([]);
      expect(answered).toBeGreaterThan(60);
    } finally {
      front.close();
    }
  });

  test("are not waited for when they freeze, and come back", async () => {
    const [entrance, other] = await Promise.all([startRelay(), startRelay()]);
    await programs.agent("far", other.url, runtime.url);
    await untilAgents(entrance.url, "far");
    const load = await putLoad(entrance.url, 10, 5);
    other.child.kill("SIGSTOP");
    await expectFailures(load, "agent_lost");
    await programs.agent("near", entrance.url, runtime.url);
    await waitUntil(async () => (await fetchStatus(entrance.url)) === 200, "the near agent answers");
    other.child.kill("SIGCONT");
    await untilAgents(entrance.url, "far", "near");
    await expectAnswer(entrance.url, "far/demo");
  });
});

async function fetchStatus(url: string): Promise<number> {
  return (await fetch(`${url}/ready`)).status;
}

/** A front that leads new connections to one relay or another. */
async function startSwitch(target: string): Promise<{ url: string; lead(target: string): void; close(): void }> {
  let to = new URL(target);
  const server: Server = createServer((near) => {
    const far = connect(Number(to.port), to.hostname);
    near.on("error", () => far.destroy()).on("close", () => far.destroy());
    far.on("error", () => near.destroy()).on("close", () => near.destroy());
    near.pipe(far).pipe(near);
  });
  await once(server.listen(0, "127.0.0.1"), "listening");
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    lead: (other) => (to = new URL(other)),
    close: () => void server.close(),
  };
}
