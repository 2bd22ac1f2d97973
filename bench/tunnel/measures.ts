import { setTimeout as sleep } from "node:timers/promises";
import { uploadBody, uploadBytes } from "../support/bodies.ts";
import { type Bench, Counting, openStreams, requestTo, withOpenStreams } from "../support/counting.ts";
import type { Window } from "../support/clients.ts";
import { familyOf, residentMegabytes } from "../support/processes.ts";
import type { Program, Proxy } from "../support/proxy.ts";
import { median, type Seen } from "../support/results.ts";
import type { Figure } from "./figures.ts";
import type { MeasureName } from "./options.ts";

/** One round over one contender, all processes warm. */
export async function measureRound(
  bench: Bench,
  proxy: Proxy,
  measures: readonly MeasureName[],
  directP50: number | undefined,
): Promise<Seen<Figure>> {
  const counting = new Counting(bench, proxy);
  const seen: Seen<Figure> = {};
  if (measures.includes("latency")) {
    const window = await counting.requests("0.6 KB", { connections: 1, warmup: 100 });
    seen.p50 = window.p50_us;
    if (directP50 !== undefined) seen.added_p50 = window.p50_us - directP50;
  }
  if (measures.includes("requests")) {
    const window = await counting.requests("0.6 KB", { warmup: 500 });
    Object.assign(seen, {
      small_per_second: window.units / window.seconds,
      small_cpu: window.cpu_us / window.units,
    });
  }
  if (measures.includes("burst")) {
    const window = await counting.burst();
    Object.assign(seen, { burst_per_second: window.units / window.seconds, burst_cpu: window.cpu_us / window.units });
  }
  if (measures.includes("paced")) {
    const window = await counting.paced();
    seen.paced_cpu = window.cpu_us / window.units;
  }
  Object.assign(seen, counting.waited());
  await counting.end();
  if (measures.includes("upload")) {
    const window = await upload(bench, proxy);
    Object.assign(seen, { upload: toSpeed(window), upload_cpu: window.cpu_us / window.units / 1000 });
  }
  return seen;
}

/** MB/s (10^6 bytes) of an upload through a line with a delay. */
export async function measureDelayed(bench: Bench, proxy: Proxy): Promise<Seen<Figure>> {
  return { delayed: toSpeed(await upload(bench, proxy)) };
}

/** 32 MB, one request after another on one connection, the first not counted. */
async function upload(bench: Bench, proxy: Proxy): Promise<Window> {
  await bench.upstream.setMode("json");
  const request = { ...requestTo(proxy, "0.6 KB", false), body: uploadBody(proxy.model) };
  return bench.clients.run(request, {
    connections: 1,
    warmup: 0,
    answers: 3,
    seconds: 120,
    failures: 0,
    cpu: proxy.pids(),
  });
}

function toSpeed(window: Window): number {
  return uploadBytes / window.p50_us;
}

/** Memory that 1,000 streams of one event a second take at each end: resident memory with them less that before. */
export async function measureMemory(bench: Bench, proxy: Proxy): Promise<Seen<Figure>> {
  const [out, home] = proxy.programs;
  if (out === undefined || home === undefined) throw new Error(`${proxy.name} has no two ends`);
  await bench.upstream.setMode("json");
  await bench.clients.run(requestTo(proxy, "0.6 KB", false), { connections: 32, warmup: 1000, seconds: 0.1, cpu: [] });
  const before = await settled([out, home]);
  let after = before;
  await withOpenStreams(bench, proxy, async () => {
    after = await settled([out, home]);
  });
  const perStream = (side: number) => ((after[side]! - before[side]!) * 1024) / openStreams;
  return { stream_out: perStream(0), stream_home: perStream(1) };
}

/** Resident memory of each program, in MB: the median of two seconds, after two seconds to settle. */
async function settled(programs: readonly Program[]): Promise<number[]> {
  await sleep(2000);
  const samples = programs.map((): number[] => []);
  for (let count = 0; count < 20; count++) {
    for (const [index, { child }] of programs.entries()) samples[index]!.push(residentMegabytes(familyOf(child.pid!)));
    await sleep(100);
  }
  return samples.map(median);
}
