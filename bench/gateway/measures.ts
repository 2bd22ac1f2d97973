import type { Window } from "../support/clients.ts";
import { type Bench, Counting } from "../support/counting.ts";
import type { Proxy } from "../support/proxy.ts";
import type { Seen } from "../support/results.ts";
import type { Figure } from "./figures.ts";
import type { MeasureName } from "./options.ts";

/** One round over one contender. Of lair over Redis, the figures are those of the gateway; Redis' own stand beside them. */
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
    const [, redis] = proxy.programs;
    if (redis !== undefined) {
      const beside = new Counting(bench, { ...proxy, pids: () => [redis.child.pid as number] });
      const window = await beside.requests("0.6 KB", { warmup: 500 });
      seen.redis_cpu = window.cpu_us / window.units;
    }
  }
  if (measures.includes("latency")) {
    const window = await counting.requests("0.6 KB", { connections: 8, rate: 200, warmup: 40 });
    seen.p50 = window.p50_us;
    if (directP50 !== undefined) seen.added_p50 = window.p50_us - directP50;
  }
  if (measures.includes("burst")) {
    const window = await counting.burst();
    seen.burst_cpu = window.cpu_us / window.units;
  }
  if (measures.includes("paced")) {
    const window = await counting.paced();
    seen.paced_cpu = window.cpu_us / window.units;
  }
  Object.assign(seen, counting.waited());
  await counting.end();
  return seen;
}

function requestFigures(size: "small" | "large", window: Window): Seen<Figure> {
  return { [`${size}_per_second`]: window.units / window.seconds, [`${size}_cpu`]: window.cpu_us / window.units };
}
