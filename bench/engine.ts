// `npm run bench:engine`: the embedded llama.cpp beside llama-server of the same release. How and why: docs/benchmarks.md
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { complete } from "./engine/client.ts";
import { decoderSetup, startLair, startLlamaServer } from "./engine/contenders.ts";
import { type Figure, figures, goals } from "./engine/figures.ts";
import * as measures from "./engine/measures.ts";
import { bertFile, decoderFile } from "./engine/models.ts";
import { type Options, readOptions, usage } from "./engine/options.ts";
import { judge } from "./support/goals.ts";
import { buildRuntime, lairVersion } from "./support/lair.ts";
import { describeMachine } from "./support/machine.ts";
import { requireLinux, temporaryFolder } from "./support/processes.ts";
import { figureTable, publish } from "./support/report.ts";
import { Results } from "./support/results.ts";
import { runBench } from "./support/run.ts";

await runBench(() => readOptions(process.argv.slice(2), process.env), usage, main);

async function main(options: Options): Promise<number> {
  requireLinux();
  const runtime = buildRuntime(options.runtime);
  const machine = {
    ...describeMachine(),
    threads: String(options.threads),
    lair: options.runtime === undefined ? lairVersion() : `${lairVersion()} (another build)`,
    "llama-server": serverVersion(options.server),
  };
  const results = new Results<Figure>();
  const model = options.model ?? decoderFile();
  await measureDecoder(options, { runtime, model }, results);
  if (options.measures.includes("embeddings")) await measureEmbedder(options, runtime, results);
  if (options.measures.includes("restart")) {
    const setup = { ...decoderSetup, model, cache: join(temporaryFolder(), "cache") };
    for (const round of rounds(options)) {
      console.log(`${round}: a restart`);
      results.add("lair", await measures.measureRestart(() => startLair(runtime, options, setup), setup.cache));
    }
  }
  return publish(
    {
      machine,
      table: figureTable(figures, results, ["llama-server", "lair"]),
      values: results.values,
      verdicts: judge(goals, results),
      settings: { threads: options.threads, gpuLayers: options.gpuLayers },
    },
    options,
  );
}

/** Both servers run side by side with the model in memory; the one whose turn it is not is idle. */
async function measureDecoder(
  options: Options,
  { runtime, model }: { runtime: string; model: string },
  results: Results<Figure>,
): Promise<void> {
  const chosen = measures.steps.filter(({ name }) => options.measures.includes(name));
  if (chosen.length === 0) return;
  const lair = await startLair(runtime, options, { ...decoderSetup, model, cache: join(temporaryFolder(), "cache") });
  const rival = await startLlamaServer(options, { ...decoderSetup, model });
  const both = [rival, lair];
  console.log("warm-up");
  for (const contender of both) await complete(contender, measures.randomPrompt(64), 32).seen;
  const prefix = measures.randomPrompt(4080);
  if (options.measures.includes("warm"))
    for (const contender of both) await complete(contender, [...prefix, ...measures.randomPrompt(16)], 1).seen;
  for (const step of chosen) {
    for (const [index, round] of rounds(options).entries()) {
      // The first of a pair finds another machine than the second: the order alternates.
      for (const contender of index % 2 === 0 ? both : both.toReversed()) {
        console.log(`${round}: ${step.name}, ${contender.name}`);
        results.add(contender.name, await step.measure(contender, prefix));
      }
    }
  }
  for (const contender of both) await contender.stop();
}

async function measureEmbedder(options: Options, runtime: string, results: Results<Figure>): Promise<void> {
  const setup = { model: bertFile(), slots: 8, context: 512 };
  const lair = await startLair(runtime, options, { ...setup, cache: join(temporaryFolder(), "cache") });
  const rival = await startLlamaServer(options, setup, ["--embeddings"]);
  const both = [rival, lair];
  for (const contender of both) await measures.measureEmbeddings(contender);
  for (const [index, round] of rounds(options).entries()) {
    for (const contender of index % 2 === 0 ? both : both.toReversed()) {
      console.log(`${round}: embeddings, ${contender.name}`);
      results.add(contender.name, await measures.measureEmbeddings(contender));
    }
  }
  for (const contender of both) await contender.stop();
}

function rounds(options: Options): string[] {
  return Array.from({ length: options.rounds }, (_, index) => `round ${index + 1} of ${options.rounds}`);
}

function serverVersion(program: string): string {
  // It goes to the error stream.
  const { stderr, stdout } = spawnSync(program, ["--version"], { encoding: "utf8" });
  return /version:\s*(.*)/.exec(stdout + stderr)?.[1] ?? "unknown";
}
