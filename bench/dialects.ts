// `npm run bench:dialects`: what it costs to speak a client's API over a server's of another. How and why: docs/benchmarks.md
import { writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { type Figure, figures, goals } from "./dialects/figures.ts";
import { firstByte } from "./dialects/heads.ts";
import { type Options, readOptions, usage } from "./dialects/options.ts";
import { hasLines, type KindName, type Pair, pairsOf, problemOf, requestOf } from "./dialects/pairs.ts";
import { Clients, type Window } from "./support/clients.ts";
import { judge } from "./support/goals.ts";
import { buildRuntime, callersKey, keyHeaders } from "./support/lair.ts";
import { describePinned } from "./support/machine.ts";
import { freePort, requireTools, startPinned } from "./support/processes.ts";
import { type Proxy, proxyFolder, proxyOf } from "./support/proxy.ts";
import { figureTable, publish } from "./support/report.ts";
import { median, Results, type Seen } from "./support/results.ts";
import { giveUpAfter, runBench } from "./support/run.ts";
import { startUpstream, type Upstream } from "./support/upstream.ts";

const eventsOfBurst = 200;
const burst = { events: eventsOfBurst, gapMicroseconds: 0 };
const paced = { events: 0, gapMicroseconds: 20_000 };

await runBench(() => readOptions(process.argv.slice(2)), usage, main);

async function main(options: Options): Promise<number> {
  requireTools();
  const main = buildRuntime(options.runtime);
  const pairs = pairsOf(options.only);
  giveUpAfter(options.quick ? 200 : 120 + 15 * pairs.length * options.rounds);
  const upstream = await startUpstream(options.cores.load);
  const results = new Results<Figure>();
  try {
    const proxy = await startRuntime(main, options, upstream.port);
    const bench: Bench = { upstream, proxy, clients: new Clients(options.cores.load), options };
    for (const pair of pairs) await warmUp(bench, pair);
    for (let round = 1; round <= options.rounds; round++) {
      console.log(`round ${round} of ${options.rounds}`);
      await measureRound(bench, pairs, results);
    }
    if (options.measures.includes("history")) {
      await upstream.setMode("json");
      await measureHistory(options, dirname(dirname(main)), upstream.port, results);
    }
    await proxy.stop();
  } finally {
    await upstream.close();
  }
  return publish(
    {
      machine: describePinned(options),
      table: figureTable(figures, results, ["openai", "ollama", "lmdeploy", "llama_cpp"]),
      values: results.values,
      verdicts: judge(goals, results),
      settings: { seconds: options.seconds, only: options.only },
    },
    options,
  );
}

interface Bench {
  readonly upstream: Upstream;
  readonly proxy: Proxy;
  readonly clients: Clients;
  readonly options: Options;
}

/** `lair serve` over the same upstream as three kinds of servers. */
async function startRuntime(main: string, { cores }: Options, upstreamPort: number): Promise<Proxy> {
  const folder = proxyFolder();
  const port = await freePort();
  const config = join(folder, "lair.yaml");
  const log = join(folder, "logs", "lair.log");
  const urls = [`http://127.0.0.1:${upstreamPort}`];
  const provider = (kind: KindName): object => ({ kind, urls });
  writeFileSync(
    config,
    JSON.stringify({
      listen: { host: "127.0.0.1", port },
      auth: { keys: [callersKey] },
      llama: { demo: true },
      providers: { openai: provider("openai"), ollama: provider("ollama"), lmdeploy: provider("lmdeploy") },
    }),
  );
  const env = { XDG_DATA_HOME: folder, XDG_CACHE_HOME: folder };
  const args = [main, "serve", "--config", config];
  const child = startPinned({ command: process.execPath, args, core: cores.proxy, log, env });
  return proxyOf([{ child, log }], { name: "lair", port, headers: keyHeaders, model: "openai:bench-model" });
}

/** Makes sure that a pair's stream is what it should be, then brings the program to its working temperature. */
async function warmUp({ upstream, proxy, clients }: Bench, pair: Pair): Promise<void> {
  await upstream.setMode({ events: 5, gapMicroseconds: 0 });
  const { path, headers, body } = requestOf(pair, proxy, { stream: true });
  const asked = { method: "POST", headers: { "content-type": "application/json", ...headers }, body };
  const reply = await fetch(`http://127.0.0.1:${proxy.port}${path}`, asked);
  const text = await reply.text();
  const problem = reply.status === 200 ? problemOf(pair, text, 5) : `its status is ${reply.status}`;
  if (problem !== undefined) throw new Error(`${pair.dialect} over ${pair.kind}: ${problem}\n${text.slice(0, 2000)}`);
  await upstream.setMode(burst);
  await clients.run(requestOf(pair, proxy, { stream: true }), { connections: 32, seconds: 0.1, warmup: 300, cpu: [] });
}

async function measureRound(bench: Bench, pairs: readonly Pair[], results: Results<Figure>): Promise<void> {
  const { measures } = bench.options;
  const seen = new Map<KindName | "llama_cpp", Seen<Figure>>();
  const add = (kind: KindName | "llama_cpp", figure: Figure, value: number): void =>
    void seen.set(kind, { ...seen.get(kind), [figure]: value });
  for (const way of ["burst", "paced"] as const) {
    if (!measures.includes(way)) continue;
    const costs = new Map<Pair, number>();
    for (const pair of pairs)
      costs.set(pair, await (way === "burst" ? burstCost(bench, pair) : pacedCost(bench, pair)));
    const passed = pairs.find(({ dialect, kind }) => dialect === "chat" && kind === "openai");
    for (const [pair, cost] of costs) {
      add(pair.kind, `${pair.dialect}_${way}`, cost);
      if (passed !== undefined && pair !== passed)
        add(pair.kind, `${pair.dialect}_${way}_more`, cost - (costs.get(passed) as number));
    }
  }
  if (measures.includes("requests"))
    for (const pair of pairs) add(pair.kind, `${pair.dialect}_request`, await requestCost(bench, pair));
  if (measures.includes("heads")) {
    add("llama_cpp", "head_loading", await headOfLoading(bench));
    if (bench.options.only.includes("ollama")) add("ollama", "head_loading", await headOfSilence(bench));
  }
  for (const [kind, figuresSeen] of seen) results.add(kind, figuresSeen);
}

/** CPU µs for each piece of text of streams of 200 as fast as they go. */
async function burstCost({ upstream, clients, proxy, options }: Bench, pair: Pair): Promise<number> {
  await upstream.setMode(burst);
  const load = { connections: 32, seconds: options.seconds, warmup: 100, cpu: proxy.pids() };
  const window = await clients.run(requestOf(pair, proxy, { stream: true }), load);
  proxy.cutLog();
  return window.cpu_us / window.units / eventsOfBurst;
}

/** CPU µs for each piece of text of 100 streams of 50 a second. */
async function pacedCost({ upstream, clients, proxy, options }: Bench, pair: Pair): Promise<number> {
  await upstream.setMode(paced);
  const lines = hasLines(pair);
  const load = { connections: 100, seconds: options.seconds, warmup: 2500, events: true, lines, cpu: proxy.pids() };
  const window: Window = await clients.run(requestOf(pair, proxy, { stream: true }), load);
  await upstream.reset();
  return window.cpu_us / window.units;
}

async function requestCost({ upstream, clients, proxy, options }: Bench, pair: Pair): Promise<number> {
  await upstream.setMode("json");
  const load = { connections: 32, seconds: options.seconds, warmup: 500, cpu: proxy.pids() };
  const window = await clients.run(requestOf(pair, proxy, { stream: false }), load);
  return window.cpu_us / window.units;
}

/** Of the bundled model, which each request lets go of again. */
async function headOfLoading({ proxy }: Bench): Promise<number> {
  const messages = [{ role: "user", content: "Say hi" }];
  const body = { model: "llama_cpp:demo", messages, stream: true, max_tokens: 4, keep_alive: 0 };
  return firstByte(proxy, body, { whole: true });
}

/** Of an Ollama that says nothing, as it does while it loads. */
async function headOfSilence({ proxy, upstream }: Bench): Promise<number> {
  await upstream.setMode("silent");
  const messages = [{ role: "user", content: "Say hi" }];
  return firstByte(proxy, { model: "ollama:another-model", messages, stream: true }, { whole: false });
}

/** In a process of its own, whose turns of the event loop can be watched. */
async function measureHistory({ cores }: Options, dist: string, port: number, results: Results<Figure>): Promise<void> {
  console.log("1 MB of history");
  const script = fileURLToPath(new URL("./dialects/history.ts", import.meta.url));
  const args = ["--import", "tsx", script, dist, String(port)];
  const child = startPinned({ command: process.execPath, args, core: cores.proxy });
  const seen: { milliseconds: number; stretch: number }[] = [];
  for await (const line of createInterface({ input: child.stdout! })) seen.push(JSON.parse(line));
  if (seen.length === 0) throw new Error("history.ts ended without a figure; see above");
  results.add("openai", {
    history_cpu: median(seen.map(({ milliseconds }) => milliseconds)),
    history_stretch: median(seen.map(({ stretch }) => stretch)),
  });
}
