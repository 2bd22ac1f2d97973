import { setTimeout as sleep } from "node:timers/promises";
import { type BodySize, chatBody } from "./bodies.ts";
import type { Clients, Load, Request, Window } from "./clients.ts";
import { until } from "./processes.ts";
import type { Proxy } from "./proxy.ts";
import type { Streams, Upstream } from "./upstream.ts";

/** What every measurement needs. */
export interface Bench {
  readonly upstream: Upstream;
  readonly clients: Clients;
  /** Length of a counting window, in seconds. */
  readonly seconds: number;
  /** Requests that bring a proxy to its working temperature. */
  readonly warmup: number;
}

export const openStreams = 1000;
/** Enough to keep each proxy's core full, few enough to keep latencies out of it. */
const requestConnections = 32;
const burst = { events: 200, gapMicroseconds: 0 };
const paced = { events: 0, gapMicroseconds: 20_000 };
const trickle = { events: 0, gapMicroseconds: 1_000_000 };

/** Counting windows of one round over one proxy. */
export class Counting {
  readonly #bench: Bench;
  readonly #proxy: Proxy;
  readonly #cpu: readonly number[];
  readonly #windows: Window[] = [];

  constructor(bench: Bench, proxy: Proxy) {
    this.#bench = bench;
    this.#proxy = proxy;
    this.#cpu = proxy.pids();
  }

  /** Answers to requests of a size; 32 connections that ask again at once where `load` says nothing else. */
  async requests(size: BodySize, load: Partial<Load> & Pick<Load, "warmup">): Promise<Window> {
    await this.#bench.upstream.setMode("json");
    return this.#count(size, false, { connections: requestConnections, ...load });
  }

  /** Events of streams of 200 as fast as they go. */
  burst(): Promise<Window> {
    return this.#events(burst, requestConnections, 10_000);
  }

  /** Events of 100 streams of 50 a second, spread evenly. */
  paced(): Promise<Window> {
    return this.#events(paced, 100, 2500);
  }

  /** Share of the time that the proxy's processes waited for a core that others were using, in percent. */
  waited(): { waited?: number } {
    const waited = this.#windows.reduce((sum, window) => sum + window.wait_us, 0);
    const lasted = this.#windows.reduce((sum, window) => sum + window.seconds, 0);
    return lasted === 0 ? {} : { waited: waited / lasted / 1e4 };
  }

  /** Leaves no stream behind, and no log that fills the disk. */
  async end(): Promise<void> {
    const { upstream } = this.#bench;
    // Streams that are cut here, before the proxy has given them up, would make it take the upstream for broken.
    await until("no stream at the upstream", 5, async () => (await upstream.stats()).open === 0).catch(() => undefined);
    await upstream.reset();
    this.#proxy.cutLog();
  }

  async #events(streams: Streams, connections: number, warmup: number): Promise<Window> {
    await this.#bench.upstream.setMode(streams);
    return this.#count("0.6 KB", true, { connections, warmup, events: true });
  }

  async #count(size: BodySize, stream: boolean, load: Omit<Load, "cpu" | "seconds">): Promise<Window> {
    const request = requestTo(this.#proxy, size, stream);
    const window = await this.#bench.clients.run(request, { seconds: this.#bench.seconds, ...load, cpu: this.#cpu });
    this.#windows.push(window);
    return window;
  }
}

/** Brings a proxy to its working temperature: by count, as caches and compilers warm up by use and not by time. */
export async function warmUp(bench: Bench, proxy: Proxy, sizes: readonly BodySize[]): Promise<void> {
  const load = { connections: requestConnections, seconds: 0.1, cpu: [] };
  await bench.upstream.setMode("json");
  for (const size of sizes) {
    const warmup = size === "0.6 KB" ? bench.warmup : 500;
    await bench.clients.run(requestTo(proxy, size, false), { ...load, warmup });
  }
  await bench.upstream.setMode(burst);
  await bench.clients.run(requestTo(proxy, "0.6 KB", true), { ...load, warmup: 40_000, events: true });
}

/**
 * Opens 1,000 streams of one event a second, and lets their clients vanish once `observe` has returned. How many of
 * them the upstream still holds half a second later.
 */
export async function withOpenStreams(bench: Bench, proxy: Proxy, observe: () => Promise<void>): Promise<number> {
  await bench.upstream.setMode(trickle);
  const clients = bench.clients.hold(requestTo(proxy, "0.6 KB", true), openStreams);
  await until("1,000 streams at their clients", 30, clients.streaming);
  await observe();
  return vanish(bench, clients.vanish);
}

/** The same before the first byte of any answer. */
export async function withSilentRequests(bench: Bench, proxy: Proxy): Promise<number> {
  await bench.upstream.setMode("silent");
  return vanish(bench, bench.clients.hold(requestTo(proxy, "0.6 KB", false), openStreams).vanish);
}

/** Lets the clients vanish once the upstream holds all their requests; how many it still holds half a second later. */
async function vanish(bench: Bench, leave: () => Promise<void>): Promise<number> {
  await until("1,000 requests at the upstream", 30, async () => (await bench.upstream.stats()).open === openStreams);
  await leave();
  await sleep(500);
  const left = (await bench.upstream.stats()).open;
  await bench.upstream.reset();
  return left;
}

/** Units per second of CPU time: what one core would do that does nothing else. */
export function perCore(window: Window): number {
  return (window.units * 1e6) / window.cpu_us;
}

/** A chat request to a proxy. */
export function requestTo(proxy: Proxy, size: BodySize, stream: boolean): Request {
  return { port: proxy.port, headers: proxy.headers, body: chatBody(proxy.model, size, stream) };
}
