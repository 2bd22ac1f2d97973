import { type Bench, warmUp } from "./counting.ts";
import type { BodySize } from "./bodies.ts";
import { probe } from "./probe.ts";
import { directTo, type Proxy } from "./proxy.ts";
import type { Results, Seen } from "./results.ts";

/** Starts a proxy to an upstream at a port. */
export type Starter = (upstreamPort: number) => Promise<Proxy>;

export interface Plan<Figure extends string> {
  readonly rounds: number;
  /** What the proxies are warmed up with. */
  readonly sizes: readonly BodySize[];
  readonly results: Results<Figure>;
  /** `direct`: what the same round has seen without a proxy; undefined for that itself. */
  readonly measure: (proxy: Proxy, direct: Seen<Figure> | undefined) => Promise<Seen<Figure>>;
}

/** All proxies run side by side, idle but for the one whose turn it is; so a machine that changes changes for all. */
export async function measureRounds<Figure extends string>(
  bench: Bench,
  starters: readonly Starter[],
  { rounds, sizes, results, measure }: Plan<Figure>,
): Promise<void> {
  const proxies: Proxy[] = [];
  for (const start of starters) proxies.push(await start(bench.upstream.port));
  for (const proxy of proxies) {
    console.log(`warm-up: ${proxy.name}`);
    await probe(proxy, bench.upstream);
    await warmUp(bench, proxy, sizes);
  }
  for (let round = 1; round <= rounds; round++) {
    const direct = await measure(directTo(bench.upstream), undefined);
    results.add("direct", direct);
    for (const proxy of proxies) {
      console.log(`round ${round} of ${rounds}: ${proxy.name}`);
      results.add(proxy.name, await measure(proxy, direct));
    }
  }
  for (const proxy of proxies) await proxy.stop();
}

/** Starts each proxy anew, measures it alone, and stops it. */
export async function measureFresh<Figure extends string>(
  bench: Bench,
  starters: readonly Starter[],
  results: Results<Figure>,
  measure: (proxy: Proxy) => Promise<Seen<Figure>>,
): Promise<void> {
  for (const start of starters) {
    const proxy = await start(bench.upstream.port);
    console.log(`a fresh ${proxy.name}`);
    await probe(proxy, bench.upstream);
    results.add(proxy.name, await measure(proxy));
    await proxy.stop();
  }
}
