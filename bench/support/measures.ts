import { setTimeout as sleep } from "node:timers/promises";
import { type BodySize, chatBody } from "./bodies.ts";
import type { Clients, Load, Request, Window } from "./clients.ts";
import type { Figure } from "./figures.ts";
import type { MeasureName } from "./options.ts";
import { residentMegabytes, until } from "./processes.ts";
import type { Proxy } from "./proxy.ts";
import type { Upstream } from "./upstream.ts";

/** What every measurement needs. */
export interface Bench {
  readonly upstream: Upstream;
  readonly clients: Clients;
  /** Length of a counting window, in seconds. */
  readonly seconds: number;
  readonly measures: readonly MeasureName[];
  /** Requests that bring a proxy to its working temperature. */
  readonly warmup: number;
}

type Seen = Partial<Record<Figure, number>>;

const openStreams = 1000;
/** Enough to keep each proxy's core full, few enough to keep latencies out of it. */
const requestConnections = 32;
const burst = { events: 200, gapMicroseconds: 0 };
const paced = { events: 0, gapMicroseconds: 20_000 };
const trickle = { events: 0, gapMicroseconds: 1_000_000 };

/** Brings a proxy to its working temperature: by count, as caches and compilers warm up by use and not by time. */
export async function warmUp(bench: Bench, proxy: Proxy): Promise<void> {
  const cpu: number[] = [];
  await bench.upstream.setMode("json");
  await bench.clients.run(request(proxy, "0.6 KB", false), {
    connections: requestConnections,
    warmup: bench.warmup,
    seconds: 0.1,
    cpu,
  });
  await bench.clients.run(request(proxy, "32 KB", false), {
    connections: requestConnections,
    warmup: 500,
    seconds: 0.1,
    cpu,
  });
  await bench.upstream.setMode(burst);
  await bench.clients.run(request(proxy, "0.6 KB", true), {
    connections: requestConnections,
    warmup: 40_000,
    seconds: 0.1,
    events: true,
    cpu,
  });
}

/** One round over one proxy. */
export async function measureRound(bench: Bench, proxy: Proxy, directP50: number | undefined): Promise<Seen> {
  const cpu = proxy.name === "direct" ? [bench.upstream.pid] : proxy.pids();
  const windows: Window[] = [];
  const count = async (size: BodySize, stream: boolean, load: Omit<Load, "cpu" | "seconds">): Promise<Window> => {
    const window = await bench.clients.run(request(proxy, size, stream), { ...load, seconds: bench.seconds, cpu });
    windows.push(window);
    return window;
  };
  const seen: Seen = {};
  if (bench.measures.includes("requests")) {
    await bench.upstream.setMode("json");
    Object.assign(
      seen,
      requestFigures("small", await count("0.6 KB", false, { connections: requestConnections, warmup: 500 })),
    );
    Object.assign(
      seen,
      requestFigures("large", await count("32 KB", false, { connections: requestConnections, warmup: 200 })),
    );
  }
  if (bench.measures.includes("latency")) {
    await bench.upstream.setMode("json");
    const window = await count("0.6 KB", false, { connections: 8, rate: 200, warmup: 40 });
    seen.p50 = window.p50_us;
    if (directP50 !== undefined) seen.added_p50 = window.p50_us - directP50;
  }
  if (bench.measures.includes("burst")) {
    await bench.upstream.setMode(burst);
    const window = await count("0.6 KB", true, { connections: requestConnections, warmup: 10_000, events: true });
    Object.assign(seen, {
      burst_per_second: window.units / window.seconds,
      burst_cpu: window.cpu_us / window.units,
      burst_per_core: perCore(window),
    });
  }
  if (bench.measures.includes("paced")) {
    await bench.upstream.setMode(paced);
    const window = await count("0.6 KB", true, { connections: 100, warmup: 2500, events: true });
    seen.paced_cpu = window.cpu_us / window.units;
  }
  const waited = windows.reduce((sum, window) => sum + window.wait_us, 0);
  const lasted = windows.reduce((sum, window) => sum + window.seconds, 0);
  if (lasted > 0) seen.waited = waited / lasted / 1e4;
  await bench.upstream.reset();
  proxy.cutLog();
  return seen;
}

/** Memory of a fresh process, and what becomes of its upstream requests when its clients vanish. */
export async function measureMemory(bench: Bench, proxy: Proxy): Promise<Seen> {
  await sleep(500);
  const idle = residentMegabytes(proxy.pids());
  await bench.upstream.setMode(trickle);
  const streaming = bench.clients.hold(request(proxy, "0.6 KB", true), openStreams);
  await until("1,000 streams at their clients", 30, streaming.streaming);
  await sleep(bench.seconds * 1500);
  const open = residentMegabytes(proxy.pids());
  const leftStreaming = await vanish(bench, streaming.vanish);
  await bench.upstream.reset();
  await bench.upstream.setMode("silent");
  const silent = bench.clients.hold(request(proxy, "0.6 KB", false), openStreams);
  const leftSilent = await vanish(bench, silent.vanish);
  await bench.upstream.reset();
  return { rss_idle: idle, rss_open: open, left_streaming: leftStreaming, left_silent: leftSilent };
}

/** Lets the clients vanish once the upstream holds all their requests; how many it still holds half a second later. */
async function vanish(bench: Bench, leave: () => Promise<void>): Promise<number> {
  await until("1,000 requests at the upstream", 30, async () => (await bench.upstream.stats()).open === openStreams);
  await leave();
  await sleep(500);
  return (await bench.upstream.stats()).open;
}

function requestFigures(size: "small" | "large", window: Window): Seen {
  return {
    [`${size}_per_second`]: window.units / window.seconds,
    [`${size}_cpu`]: window.cpu_us / window.units,
    [`${size}_per_core`]: perCore(window),
  };
}

/** Units per second of CPU time: what one core would do that does nothing else. */
function perCore(window: Window): number {
  return (window.units * 1e6) / window.cpu_us;
}

function request(proxy: Proxy, size: BodySize, stream: boolean): Request {
  return { port: proxy.port, headers: proxy.headers, body: chatBody(proxy.model, size, stream) };
}
