// `npm run bench:gateway`: keys, limits and usage beside nginx, Portkey and the bare path, one core each. How and why: docs/benchmarks.md
import { type Build, requireRedis, startBare, startOverRedis, startWithKey } from "./gateway/contenders.ts";
import { type Figure, figures, goals } from "./gateway/figures.ts";
import { measureFull } from "./gateway/full.ts";
import { measureRound } from "./gateway/measures.ts";
import { type MeasureName, type Options, readOptions, usage } from "./gateway/options.ts";
import { measureSoak } from "./gateway/soak.ts";
import { Clients } from "./support/clients.ts";
import type { Bench } from "./support/counting.ts";
import { judge } from "./support/goals.ts";
import { buildRuntime } from "./support/lair.ts";
import { describePinned } from "./support/machine.ts";
import { nginxVersion, requireNginx, startNginx } from "./support/nginx.ts";
import { installPortkey, portkeyVersions, startPortkey } from "./support/portkey.ts";
import { requireTools } from "./support/processes.ts";
import { figureTable, publish } from "./support/report.ts";
import { Results } from "./support/results.ts";
import { measureFresh, measureRounds, type Starter } from "./support/rounds.ts";
import { giveUpAfter, runBench } from "./support/run.ts";
import { startUpstream } from "./support/upstream.ts";

const inRounds: readonly MeasureName[] = ["requests", "latency", "paced", "burst"];

await runBench(() => readOptions(process.argv.slice(2)), usage, main);

async function main(options: Options): Promise<number> {
  requireTools();
  const { measures, only, cores } = options;
  const has = (name: Options["only"][number]): boolean => only.includes(name);
  if (has("nginx")) requireNginx();
  if (has("redis")) requireRedis();
  if (has("portkey")) installPortkey();
  const build: Build = { main: buildRuntime(options.runtime), core: cores.proxy };
  const soak = options.quick ? 30 : 600;
  giveUpAfter(options.quick ? 400 : 900 + soak + 150 * options.rounds);
  const machine = {
    ...describePinned(options),
    ...(has("nginx") ? { nginx: nginxVersion() } : {}),
    ...(has("portkey") ? portkeyVersions() : {}),
  };
  const upstream = await startUpstream(cores.load);
  const clients = new Clients(cores.load);
  const bench: Bench = { upstream, clients, seconds: options.seconds, warmup: options.warmup };
  const results = new Results<Figure>();
  try {
    if (measures.some((measure) => inRounds.includes(measure)))
      await measureRounds(bench, startersOf(options, build), {
        rounds: options.rounds,
        sizes: ["0.6 KB", "32 KB"],
        results,
        measure: (proxy, direct) => measureRound(bench, proxy, measures, direct?.p50),
      });
    if (measures.includes("full") && has("lair")) await measureFull(bench, build, results, options);
    if (measures.includes("soak") && has("lair"))
      await measureFresh(bench, [(port) => startWithKey(build, port)], results, (proxy) =>
        measureSoak(bench, proxy, soak),
      );
  } finally {
    await upstream.close();
  }
  return publish(
    {
      machine,
      table: figureTable(figures, results, ["direct", "nginx", "portkey", "bare", "lair", "lair redis"]),
      values: results.values,
      verdicts: judge(goals, results),
      settings: { seconds: options.seconds, only, soak },
    },
    options,
  );
}

function startersOf({ only, cores }: Options, build: Build): Starter[] {
  const starters: Record<Options["only"][number], Starter> = {
    nginx: (port) => startNginx(cores.proxy, [port]),
    portkey: (port) => startPortkey(cores.proxy, port),
    bare: (port) => startBare(build, port),
    lair: (port) => startWithKey(build, port),
    redis: (port) => startOverRedis(build, port, cores.load),
  };
  return only.map((name) => starters[name]);
}
