import { setTimeout as sleep } from "node:timers/promises";
import type { Window } from "../support/clients.ts";
import { type Bench, Counting, perCore, withOpenStreams, withSilentRequests } from "../support/counting.ts";
import { residentMegabytes } from "../support/processes.ts";
import type { Proxy } from "../support/proxy.ts";
import type { Seen } from "../support/results.ts";
import type { Figure } from "./figures.ts";
import type { MeasureName } from "./options.ts";

/** One round over one proxy. */
export async function measureRound(
  bench: Bench,
  proxy: Proxy,
  measures: readonly MeasureName[],
  directP50: number | undefined,
): Promise<Seen<Figure>> {
  const counting = new Counting(bench, proxy);
  const seen: Seen<Figure> = {};
  if (measures.includes("requests")) {
    Object.assign(seen, requestFigures("small", await counting.requests("0.6 KB", { warmup: 500 })));
    Object.assign(seen, requestFigures("large", await counting.requests("32 KB", { warmup: 200 })));
  }
  if (measures.includes("latency")) {
    const window = await counting.requests("0.6 KB", { connections: 8, rate: 200, warmup: 40 });
    seen.p50 = window.p50_us;
    if (directP50 !== undefined) seen.added_p50 = window.p50_us - directP50;
  }
  if (measures.includes("burst")) {
    const window = await counting.burst();
    Object.assign(seen, {
      burst_per_second: window.units / window.seconds,
      burst_cpu: window.cpu_us / window.units,
      burst_per_core: perCore(window),
    });
  }
  if (measures.includes("paced")) {
    const window = await counting.paced();
    seen.paced_cpu = window.cpu_us / window.units;
  }
  Object.assign(seen, counting.waited());
  await counting.end();
  return seen;
}

/** Memory of a fresh process, and what becomes of its upstream requests when its clients vanish. */
export async function measureMemory(bench: Bench, proxy: Proxy): Promise<Seen<Figure>> {
  await sleep(500);
  const idle = residentMegabytes(proxy.pids());
  let open = 0;
  const leftStreaming = await withOpenStreams(bench, proxy, async () => {
    await sleep(bench.seconds * 1500);
    open = residentMegabytes(proxy.pids());
  });
  const leftSilent = await withSilentRequests(bench, proxy);
  return { rss_idle: idle, rss_open: open, left_streaming: leftStreaming, left_silent: leftSilent };
}

function requestFigures(size: "small" | "large", window: Window): Seen<Figure> {
  return {
    [`${size}_per_second`]: window.units / window.seconds,
    [`${size}_cpu`]: window.cpu_us / window.units,
    [`${size}_per_core`]: perCore(window),
  };
}
