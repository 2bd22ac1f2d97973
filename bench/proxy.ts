// `npm run bench:proxy`: the runtime's proxy path beside nginx and Portkey, one core each. How and why: docs/benchmarks.md
import { writeFileSync } from "node:fs";
import { Clients } from "./support/clients.ts";
import { Results } from "./support/figures.ts";
import { buildRuntime, startLair } from "./support/lair.ts";
import { describeProxyBench } from "./support/machine.ts";
import { type Bench, measureMemory, measureRound, warmUp } from "./support/measures.ts";
import { requireNginx, startNginx } from "./support/nginx.ts";
import { type Options, type ProxyName, readOptions, usage } from "./support/options.ts";
import { installPortkey, startPortkey } from "./support/portkey.ts";
import { probe } from "./support/probe.ts";
import { requireTools } from "./support/processes.ts";
import type { Proxy } from "./support/proxy.ts";
import { figureTable, machineTable, verdictTable } from "./support/report.ts";
import { runBench } from "./support/run.ts";
import { startUpstream, type Upstream } from "./support/upstream.ts";
import { judgeProxy } from "./support/verdicts.ts";

type Starter = (upstreamPort: number) => Promise<Proxy>;

await runBench(() => readOptions(process.argv.slice(2)), usage, main);

async function main(options: Options): Promise<number> {
  requireTools();
  const starters = prepare(options);
  const limit = options.quick ? 90 : 60 + 90 * options.rounds;
  setTimeout(() => {
    console.error(`the bench is not done after ${limit} s: it gives up`);
    process.exit(2);
  }, limit * 1000).unref();

  const machine = describeProxyBench(options);
  const upstream = await startUpstream(options.cores.load);
  const clients = new Clients(options.cores.load);
  const results = new Results();
  try {
    const bench: Bench = {
      upstream,
      clients,
      seconds: options.seconds,
      measures: options.measures,
      warmup: options.warmup,
    };
    if (options.measures.includes("memory")) await measureFreshProcesses(bench, starters, results);
    if (options.measures.some((measure) => measure !== "memory"))
      await measureRounds(bench, starters, options.rounds, results);
  } finally {
    await upstream.close();
  }
  return report(options, machine, results);
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

async function measureFreshProcesses(bench: Bench, starters: Map<ProxyName, Starter>, results: Results): Promise<void> {
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
  rounds: number,
  results: Results,
): Promise<void> {
  const proxies: Proxy[] = [];
  for (const start of starters.values()) proxies.push(await start(bench.upstream.port));
  for (const proxy of proxies) {
    console.log(`warm-up: ${proxy.name}`);
    await probe(proxy, bench.upstream);
    await warmUp(bench, proxy);
  }
  for (let round = 1; round <= rounds; round++) {
    const direct = await measureRound(bench, directTo(bench.upstream), undefined);
    results.add("direct", direct);
    for (const proxy of proxies) {
      console.log(`round ${round} of ${rounds}: ${proxy.name}`);
      results.add(proxy.name, await measureRound(bench, proxy, direct.p50));
    }
  }
  for (const proxy of proxies) await proxy.stop();
}

function directTo(upstream: Upstream): Proxy {
  const nothing = () => {};
  return {
    name: "direct",
    port: upstream.port,
    headers: {},
    model: "bench-model",
    pids: () => [],
    cutLog: nothing,
    stop: async () => {},
  };
}

function report(options: Options, machine: Record<string, string>, results: Results): number {
  const verdicts = judgeProxy(results);
  const names = ["direct" as const, ...options.only].filter((name) =>
    Object.values(results.values).some((row) => row[name] !== undefined),
  );
  console.log(`\n${machineTable(machine)}\n\n${figureTable(results, names)}\n`);
  if (options.only.includes("lair")) console.log(`${verdictTable(verdicts)}\n`);
  if (options.quick) console.log("--quick: one short round, a look and not a result.\n");
  if (options.json !== undefined) {
    const settings = {
      quick: options.quick,
      rounds: options.rounds,
      seconds: options.seconds,
      only: options.only,
      measures: options.measures,
    };
    writeFileSync(
      options.json,
      `${JSON.stringify({ machine, settings, values: results.values, verdicts }, null, 2)}\n`,
    );
  }
  return verdicts.some((verdict) => verdict.result === "MISS") ? 1 : 0;
}
