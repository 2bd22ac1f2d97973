// `npm run bench:tunnel`: relay and agent beside ssh -R and plain nginx. How and why: docs/benchmarks.md
import { Clients } from "./support/clients.ts";
import type { Bench } from "./support/counting.ts";
import { judge } from "./support/goals.ts";
import { buildRuntime } from "./support/lair.ts";
import { describePinned } from "./support/machine.ts";
import { nginxVersion, requireNginx, startNginx } from "./support/nginx.ts";
import { requireTools } from "./support/processes.ts";
import { figureTable, publish } from "./support/report.ts";
import { Results, type Seen } from "./support/results.ts";
import { measureFresh, measureRounds, type Starter } from "./support/rounds.ts";
import { giveUpAfter, runBench } from "./support/run.ts";
import { startUpstream } from "./support/upstream.ts";
import { type Build, type Line, plainLine, startTunnel } from "./tunnel/contenders.ts";
import { measureDeath } from "./tunnel/death.ts";
import { type DelayLine, startDelayLine } from "./tunnel/delay-line.ts";
import { type Figure, figures, goals } from "./tunnel/figures.ts";
import { measureDelayed, measureMemory, measureRound } from "./tunnel/measures.ts";
import { type MeasureName, type Options, readOptions, usage } from "./tunnel/options.ts";
import { restartAgents, restartRelays } from "./tunnel/restart.ts";
import { requireSsh, sshVersion, startSsh } from "./tunnel/ssh.ts";

const inRounds: readonly MeasureName[] = ["latency", "requests", "paced", "burst", "upload"];
/** Milliseconds. */
const roundTrip = 50;

await runBench(() => readOptions(process.argv.slice(2)), usage, main);

async function main(options: Options): Promise<number> {
  requireTools();
  const { measures } = options;
  const has = (name: Options["only"][number]) => options.only.includes(name);
  if (has("nginx") || measures.includes("restart")) requireNginx();
  if (has("ssh")) requireSsh();
  const build = has("lair") ? { main: buildRuntime(options.runtime), core: options.cores.proxy } : undefined;
  giveUpAfter(options.quick ? 240 : 120 + 150 * options.rounds);
  const machine = {
    ...describePinned(options),
    ...(has("nginx") ? { nginx: nginxVersion() } : {}),
    ...(has("ssh") ? { ssh: sshVersion() } : {}),
  };
  const upstream = await startUpstream(options.cores.load);
  const clients = new Clients(options.cores.load);
  const bench: Bench = { upstream, clients, seconds: options.seconds, warmup: options.warmup };
  const results = new Results<Figure>();
  try {
    if (measures.some((measure) => inRounds.includes(measure))) await measureSideBySide(bench, options, build, results);
    if (measures.includes("delayed")) await measureBehindDelay(bench, options, build, results);
    await measureEvents(bench, options, build, results);
  } finally {
    await upstream.close();
  }
  return publish(
    {
      machine,
      table: figureTable(figures, results, ["direct", "nginx", "ssh -R", "lair"]),
      values: results.values,
      verdicts: build === undefined ? [] : judge(goals, results),
      settings: { seconds: options.seconds, only: options.only },
    },
    options,
  );
}

async function measureSideBySide(
  bench: Bench,
  { rounds, measures, only, cores }: Options,
  build: Build | undefined,
  results: Results<Figure>,
): Promise<void> {
  const nginx: Starter = (port) =>
    startNginx(cores.proxy, [port], ["client_max_body_size 0", "proxy_request_buffering off"]);
  const tunnels = tunnelStarters({ only, cores }, build, plainLine);
  await measureRounds(bench, [...(only.includes("nginx") ? [nginx] : []), ...tunnels], {
    rounds,
    sizes: ["0.6 KB"],
    results,
    measure: (proxy, direct) => measureRound(bench, proxy, measures, direct?.p50),
  });
}

async function measureBehindDelay(
  bench: Bench,
  { rounds, only, cores }: Options,
  build: Build | undefined,
  results: Results<Figure>,
): Promise<void> {
  const lines: DelayLine[] = [];
  const line: Line = async (port) => {
    const delayed = await startDelayLine(cores.load, port, roundTrip);
    lines.push(delayed);
    return delayed.port;
  };
  const direct = await line(bench.upstream.port);
  await measureRounds(bench, tunnelStarters({ only, cores }, build, line), {
    rounds,
    sizes: ["0.6 KB"],
    results,
    // Without a tunnel it is the line itself, which shall not be what limits the tunnels.
    measure: (proxy) => measureDelayed(bench, proxy.name === "direct" ? { ...proxy, port: direct } : proxy),
  });
  for (const one of lines) await one.stop();
}

/** What needs fresh processes, or ends them: three times at most, for each takes long. */
async function measureEvents(
  bench: Bench,
  { rounds, measures, only, cores }: Options,
  build: Build | undefined,
  results: Results<Figure>,
): Promise<void> {
  const times = Math.min(rounds, 3);
  const add = async (what: string, measure: () => Promise<Seen<Figure>>) => {
    for (let time = 1; time <= times; time++) {
      console.log(`${what}: ${time} of ${times}`);
      results.add("lair", await measure());
    }
  };
  if (measures.includes("memory")) {
    const tunnels = tunnelStarters({ only, cores }, build, plainLine);
    for (let time = 1; time <= times; time++)
      await measureFresh(bench, tunnels, results, (proxy) => measureMemory(bench, proxy));
  }
  if (build === undefined) return;
  if (measures.includes("restart")) {
    await add("agents restarted", () => restartAgents(bench, build));
    await add("relays restarted", () => restartRelays(bench, build));
  }
  if (measures.includes("death")) await add("an agent killed, and one frozen", () => measureDeath(bench, build));
}

/** Those of `ssh -R` and lair, with a line between the ends of each. */
function tunnelStarters(
  { only, cores }: Pick<Options, "only" | "cores">,
  build: Build | undefined,
  line: Line,
): Starter[] {
  return [
    ...(only.includes("ssh") ? [(port: number) => startSsh(cores.proxy, port, line)] : []),
    ...(build === undefined ? [] : [(port: number) => startTunnel(build, port, line)]),
  ];
}
