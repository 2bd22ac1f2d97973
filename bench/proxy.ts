// `npm run bench:proxy`: the runtime's proxy path beside nginx and Portkey, one core each. How and why: docs/benchmarks.md
import { type Figure, figures } from "./proxy/figures.ts";
import { goals } from "./proxy/goals.ts";
import { measureMemory, measureRound } from "./proxy/measures.ts";
import { type Options, type ProxyName, readOptions, usage } from "./proxy/options.ts";
import { installPortkey, portkeyVersions, startPortkey } from "./proxy/portkey.ts";
import { Clients } from "./support/clients.ts";
import { type Bench, warmUp } from "./support/counting.ts";
import { judge } from "./support/goals.ts";
import { buildRuntime, startLair } from "./support/lair.ts";
import { describePinned } from "./support/machine.ts";
import { nginxVersion, requireNginx, startNginx } from "./support/nginx.ts";
import { probe } from "./support/probe.ts";
import { requireTools } from "./support/processes.ts";
import { directTo, type Proxy } from "./support/proxy.ts";
import { figureTable, publish } from "./support/report.ts";
import { Results } from "./support/results.ts";
import { giveUpAfter, runBench } from "./support/run.ts";
import { startUpstream } from "./support/upstream.ts";

type Starter = (upstreamPort: number) => Promise<Proxy>;

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
    if (options.measures.includes("memory")) await measureFreshProcesses(bench, starters, results);
    if (options.measures.some((measure) => measure !== "memory"))
      await measureRounds(bench, starters, options, results);
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
function prepare(options: Options): Map<ProxyName, Starter> {
  const core = options.cores.proxy;
  const starters = new Map<ProxyName, Starter>();
  if (options.only.includes("nginx")) {
    requireNginx();
    starters.set("nginx", (port) => startNginx(core, port));
  }
  if (options.only.includes("portkey")) {
    installPortkey();
    starters.set("portkey", (port) => startPortkey(core, port));
  }
  if (options.only.includes("lair")) {
    const runtime = buildRuntime(options.runtime);
    starters.set("lair", (port) => startLair(core, port, runtime));
  }
  return starters;
}

async function measureFreshProcesses(
  bench: Bench,
  starters: Map<ProxyName, Starter>,
  results: Results<Figure>,
): Promise<void> {
  for (const [name, start] of starters) {
    console.log(`memory and clients that vanish: ${name}`);
    const proxy = await start(bench.upstream.port);
    await probe(proxy, bench.upstream);
    results.add(name, await measureMemory(bench, proxy));
    await proxy.stop();
  }
}

/** All proxies run side by side, idle but for the one whose turn it is; so a machine that changes changes for all. */
async function measureRounds(
  bench: Bench,
  starters: Map<ProxyName, Starter>,
  { rounds, measures }: Options,
  results: Results<Figure>,
): Promise<void> {
  const proxies: Proxy[] = [];
  for (const start of starters.values()) proxies.push(await start(bench.upstream.port));
  for (const proxy of proxies) {
    console.log(`warm-up: ${proxy.name}`);
    await probe(proxy, bench.upstream);
    await warmUp(bench, proxy, ["0.6 KB", "32 KB"]);
  }
  for (let round = 1; round <= rounds; round++) {
    const direct = await measureRound(bench, directTo(bench.upstream), measures, undefined);
    results.add("direct", direct);
    for (const proxy of proxies) {
      console.log(`round ${round} of ${rounds}: ${proxy.name}`);
      results.add(proxy.name, await measureRound(bench, proxy, measures, direct.p50));
    }
  }
  for (const proxy of proxies) await proxy.stop();
}
