import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { type Bench, Counting, warmUp } from "../support/counting.ts";
import { probe } from "../support/probe.ts";
import { type Proxy, proxyFolder } from "../support/proxy.ts";
import type { Results } from "../support/results.ts";
import { type Build, startWithKey } from "./contenders.ts";
import type { Figure } from "./figures.ts";

const filler = fileURLToPath(new URL("fill-state.ts", import.meta.url));

/** A state with 100,000 keys and 10 million records beside an empty one, in turns. */
export async function measureFull(
  bench: Bench,
  build: Build,
  results: Results<Figure>,
  { quick, rounds }: { readonly quick: boolean; readonly rounds: number },
): Promise<void> {
  const state = join(proxyFolder(), "full.db");
  const [keys, records] = quick ? [10_000, 100_000] : [100_000, 10_000_000];
  console.log(`filling a state with ${keys} keys and ${records} records…`);
  const args = ["--import", "tsx", filler, state, "--keys", String(keys), "--records", String(records)];
  execFileSync(process.execPath, args, { stdio: "inherit" });
  for (let round = 1; round <= rounds; round++) {
    console.log(`full state: ${round} of ${rounds}`);
    const empty = await started(() => startWithKey(build, bench.upstream.port));
    const full = await started(() => startWithKey(build, bench.upstream.port, state));
    for (const { proxy } of [empty, full]) {
      await probe(proxy, bench.upstream);
      await warmUp(bench, proxy, ["0.6 KB"]);
    }
    results.add("lair small", { full_cpu: await cpuPerRequest(bench, empty.proxy) });
    results.add("lair", {
      start: empty.seconds,
      full_start: full.seconds,
      full_cpu: await cpuPerRequest(bench, full.proxy),
      report: monthOf(build, state),
    });
    await empty.proxy.stop();
    await full.proxy.stop();
  }
}

/** A gateway, and the seconds from the start of its process to its first answer. */
async function started(start: () => Promise<Proxy>): Promise<{ readonly proxy: Proxy; readonly seconds: number }> {
  const proxy = await start();
  return { proxy, seconds: proxy.readyAfter };
}

async function cpuPerRequest(bench: Bench, proxy: Proxy): Promise<number> {
  const window = await new Counting(bench, proxy).requests("0.6 KB", { warmup: 500 });
  proxy.cutLog();
  return window.cpu_us / window.units;
}

/** Seconds of `lair usage` over the last 30 days, by day and model, as a user waits for it. */
function monthOf({ main }: Build, state: string): number {
  const from = new Date(Date.now() - 29 * 86_400_000).toISOString().slice(0, 10);
  const began = performance.now();
  execFileSync(process.execPath, [main, "usage", "--state", state, "--from", from, "--by", "day,model"], {
    maxBuffer: 1 << 28,
  });
  return (performance.now() - began) / 1000;
}
