import { setTimeout as sleep } from "node:timers/promises";
import { type Bench, requestTo } from "../support/counting.ts";
import { residentMegabytes } from "../support/processes.ts";
import type { Proxy } from "../support/proxy.ts";
import type { Seen } from "../support/results.ts";
import type { Figure } from "./figures.ts";

/** Seconds between two looks. */
const pause = 2;
/** Of the soak, the share in which heaps and caches grow to their size. */
const settling = 0.2;

/** Memory of a gateway under as many requests as it can answer, for so many seconds. */
export async function measureSoak(bench: Bench, proxy: Proxy, seconds: number): Promise<Seen<Figure>> {
  await bench.upstream.setMode("json");
  const load = { connections: 32, seconds, warmup: 2000, cpu: [] };
  const running = bench.clients.start(requestTo(proxy, "0.6 KB", false), load);
  let over = false;
  const window = running.window.finally(() => (over = true));
  const began = performance.now();
  const looks: { readonly minute: number; readonly megabytes: number }[] = [];
  while (!over) {
    await sleep(pause * 1000);
    const minute = (performance.now() - began) / 60_000;
    looks.push({ minute, megabytes: residentMegabytes(proxy.pids()) });
    proxy.cutLog();
  }
  const settled = looks.filter(({ minute }) => minute * 60 >= seconds * settling);
  return {
    soak_requests: (await window).units,
    soak_begin: settled[0]?.megabytes ?? Number.NaN,
    soak_end: settled.at(-1)?.megabytes ?? Number.NaN,
    soak_slope: slopeOf(settled),
  };
}

/** Of the line that fits best (least squares), in MB a minute. */
function slopeOf(looks: readonly { readonly minute: number; readonly megabytes: number }[]): number {
  const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;
  const [x, y] = [mean(looks.map(({ minute }) => minute)), mean(looks.map(({ megabytes }) => megabytes))];
  const above = looks.reduce((sum, { minute, megabytes }) => sum + (minute - x) * (megabytes - y), 0);
  return above / looks.reduce((sum, { minute }) => sum + (minute - x) ** 2, 0);
}
