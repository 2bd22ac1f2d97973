import { setTimeout as sleep } from "node:timers/promises";
import { type Bench, requestTo } from "../support/counting.ts";
import { keyHeaders } from "../support/lair.ts";
import { startNginx } from "../support/nginx.ts";
import { probe } from "../support/probe.ts";
import { stop, until } from "../support/processes.ts";
import { listsModel, type Program, type Proxy } from "../support/proxy.ts";
import type { Seen } from "../support/results.ts";
import { type Build, Relay } from "./contenders.ts";
import type { Figure } from "./figures.ts";

/** Streams of 8 events in 0.2 s. */
const streams = { events: 8, gapMicroseconds: 25_000 };
/** Beside those come the role, the finish reason, the usage and `[DONE]`. */
const eventsOfAnswer = 12;
/** About 34 streams at a time. */
const load = { connections: 100, rate: 150, seconds: 300, warmup: 0, each: eventsOfAnswer, failures: 1e6, cpu: [] };
/** 600 requests at least. */
const shortest = 4000;

/** Two agents of one relay are restarted one after the other, under load. */
export async function restartAgents(bench: Bench, build: Build): Promise<Seen<Figure>> {
  const relay = await Relay.at(build);
  const agents = [relay.add("one", bench.upstream.port), relay.add("two", bench.upstream.port)];
  const programs = [relay.start(), await agents[0]!.start(), await agents[1]!.start()];
  const proxy = await relay.ready(
    programs,
    agents.map(({ name }) => name),
  );
  await probe(proxy, bench.upstream);
  const seen = await underLoad(bench, proxy, async () => {
    for (const [index, agent] of agents.entries()) {
      await stop(programs[index + 1]!.child, 60);
      programs[index + 1] = await agent.start();
      await until(`the agent ${agent.name} is back`, 20, () => listsModel(proxy, agent.name));
      await sleep(500);
    }
  });
  await end(programs);
  return { agents_asked: seen.asked, agents_lost: seen.lost };
}

/** Two relays with an agent each, behind nginx that tries the other one, are restarted one after the other, under load. */
export async function restartRelays(bench: Bench, build: Build): Promise<Seen<Figure>> {
  const relays = [await Relay.at(build), await Relay.at(build)];
  const programs = relays.map((relay) => relay.start());
  for (const relay of relays) {
    const agent = relay.add("home", bench.upstream.port);
    programs.push(await agent.start());
    await relay.ready(programs, [agent.name]);
  }
  const front = await startNginx(
    build.core,
    relays.map(({ port }) => port),
    [
      "proxy_set_header Host $http_host",
      "proxy_next_upstream error timeout http_502 http_503 non_idempotent",
      "proxy_next_upstream_tries 2",
    ],
  );
  const proxy = { ...front, headers: keyHeaders };
  await probe(proxy, bench.upstream);
  const seen = await underLoad(bench, proxy, async () => {
    for (const [index, relay] of relays.entries()) {
      await stop(programs[index]!.child, 60);
      programs[index] = relay.start();
      const itself = { port: relay.port, headers: keyHeaders };
      await until("the restarted relay has its agent again", 60, () => listsModel(itself, "home"));
      await sleep(500);
    }
  });
  await front.stop();
  await end(programs);
  return { relays_asked: seen.asked, relays_lost: seen.lost };
}

/** How many requests were made from before `restart` until after it, and how many of them had no whole answer. */
async function underLoad(
  bench: Bench,
  proxy: Proxy,
  restart: () => Promise<void>,
): Promise<{ asked: number; lost: number }> {
  await bench.upstream.setMode(streams);
  const running = bench.clients.start(requestTo(proxy, "0.6 KB", true), load);
  const began = performance.now();
  await sleep(500);
  await restart();
  await sleep(Math.max(500, shortest - (performance.now() - began)));
  running.end();
  const { units, failures } = await running.window;
  await bench.upstream.reset();
  return { asked: units + failures, lost: failures };
}

async function end(programs: readonly Program[]): Promise<void> {
  await Promise.all(programs.map(({ child }) => stop(child)));
}
