// `npm run bench:proxy`: the runtime's proxy path beside nginx and Portkey, one core each. How and why: docs/benchmarks.md
import { type Figure, figures } from "./proxy/figures.ts";
import { goals } from "./proxy/goals.ts";
import { measureMemory, measureRound } from "./proxy/measures.ts";
import { type Options, readOptions, usage } from "./proxy/options.ts";
import { installPortkey, portkeyVersions, startPortkey } from "./support/portkey.ts";
import { Clients } from "./support/clients.ts";
import type { Bench } from "./support/counting.ts";
import { judge } from "./support/goals.ts";
import { buildRuntime, startLair } from "./support/lair.ts";
import { describePinned } from "./support/machine.ts";
import { nginxVersion, requireNginx, startNginx } from "./support/nginx.ts";
import { requireTools } from "./support/processes.ts";
import { figureTable, publish } from "./support/report.ts";
import { Results } from "./support/results.ts";
import { measureFresh, measureRounds, type Starter } from "./support/rounds.ts";
import { giveUpAfter, runBench } from "./support/run.ts";
import { startUpstream } from "./support/upstream.ts";

await runBench(() => readOptions(process.argv.slice(2)), usage, main);

async function main(options: Options): Promise<number> {
  requireTools();
  const starters = prepare(options);
  giveUpAfter(options.quick ? 90 : 60 + 90 * options.rounds);
  const machine = {
    ...describePinned(options),
    ...(options.only.includes("nginx") ? { nginx: nginxVersion() } : {}),
    ...(options.only.includes("portkey") ? portkeyVersions() : {}),
  };
  const upstream = await startUpstream(options.cores.load);
  const clients = new Clients(options.cores.load);
  const results = new Results<Figure>();
  try {
    const bench: Bench = { upstream, clients, seconds: options.seconds, warmup: options.warmup };
    if (options.measures.includes("memory"))
      await measureFresh(bench, starters, results, (proxy) => measureMemory(bench, proxy));
    if (options.measures.some((measure) => measure !== "memory"))
      await measureRounds(bench, starters, {
        rounds: options.rounds,
        sizes: ["0.6 KB", "32 KB"],
        results,
        measure: (proxy, direct) => measureRound(bench, proxy, options.measures, direct?.p50),
      });
  } finally {
    await upstream.close();
  }
  return publish(
    {
      machine,
      table: figureTable(figures, results, ["direct", ...options.only]),
      values: results.values,
      verdicts: options.only.includes("lair") ? judge(goals, results) : [],
      settings: { seconds: options.seconds, only: options.only },
    },
    options,
  );
}

/** Whatever may fail or take long before anything is measured. */
function prepare(options: Options): Starter[] {
  const core = options.cores.proxy;
  const starters: Starter[] = [];
  if (options.only.includes("nginx")) {
    requireNginx();
    starters.push((port) => startNginx(core, [port]));
  }
  if (options.only.includes("portkey")) {
    installPortkey();
    starters.push((port) => startPortkey(core, port));
  }
  if (options.only.includes("lair")) {
    const runtime = buildRuntime(options.runtime);
    starters.push((port) => startLair(core, port, runtime));
  }
  return starters;
}
