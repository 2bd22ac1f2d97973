import { measureRound as measureProxy } from "../proxy/measures.ts";
import { measureNames as proxyMeasures } from "../proxy/options.ts";
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
  const shared = proxyMeasures.filter((name) => name !== "memory" && measures.includes(name));
  const seen: Seen<Figure> = await measureProxy(bench, proxy, shared, directP50);
  const [, redis] = proxy.programs;
  if (redis === undefined || !measures.includes("requests")) return seen;
  const beside = new Counting(bench, { ...proxy, pids: () => [redis.child.pid as number] });
  const window = await beside.requests("0.6 KB", { warmup: 500 });
  await beside.end();
  return { ...seen, redis_cpu: window.cpu_us / window.units };
}
