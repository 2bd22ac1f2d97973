import type { Runtime } from "../app.ts";
import { type Loaded, loadConfig } from "../config/load.ts";
import { checkAgent } from "./agent-checks.ts";
import { type Command, exitCodes, readFlags, UsageError } from "./command.ts";
import { askOffers, nextStep, offerLines } from "./offers.ts";
import { flagLines, settingFlags } from "./setting-flags.ts";
import { listenText, type Output, runUntilStopped } from "./until-stopped.ts";
import { packageVersion } from "./version.ts";

export const serve: Command = {
  help: `usage: lair serve [flags]

Answers OpenAI clients on http://127.0.0.1:18080/v1 with the models of this machine: GGUF files through
the embedded llama.cpp, and those of Ollama, LMDeploy, MNN, vLLM and any OpenAI-compatible server.
Ctrl-C finishes the answers under way; a second Ctrl-C ends at once.

flags:
${flagLines().join("\n")}

examples:
  lair serve
  lair serve --publish https://relay.example:8081          (with LAIR_AGENT_KEY; see lair agent --help)
  lair serve --model ~/models/qwen3-8b.gguf --port 8080
  OLLAMA_HOST=http://127.0.0.1:11434 RUNTIME_PROVIDER=ollama lair serve
  LLM_V1_PROXY_TOKEN=my-secret lair serve --host 0.0.0.0
  $env:LLAMA_CPP_MODEL = 'M:\\llm_models'; lair serve          (PowerShell)

exit codes: 0 stopped when asked · 1 could not start · 2 the flags or the configuration are wrong ·
128 + n ended at once by a second signal n (Ctrl-C: 130)`,
  async run(args, terminal) {
    const { flags, words } = readFlags(args, settingFlags());
    if (words.length > 0) throw new UsageError(`it takes flags only, not ${JSON.stringify(words[0])}`);
    const loaded = await loadConfig({ flags, env: terminal.env });
    const { publish } = loaded.config;
    const published = publish === undefined ? { warnings: [] } : checkAgent(publish, loaded, "--publish");
    if (published.refusal !== undefined) {
      terminal.complain(`lair serve: ${published.refusal}`);
      return exitCodes.usage;
    }
    const said = { ...loaded, warnings: [...loaded.warnings, ...published.warnings] };
    return runUntilStopped(said, terminal, {
      command: "lair serve",
      grace: loaded.config.timeouts.shutdown,
      start: (output) => startServer(loaded, output),
      announce: (runtime, output) => announce(runtime, loaded, output),
      startText: (error) =>
        listenText(error, { ...loaded.config.listen, usual: 18080 }) ??
        (error instanceof Error ? error.message : String(error)),
    });
  },
};

async function startServer({ config }: Loaded, { log, terminal }: Output): Promise<Runtime> {
  // Not before the configuration is good: `lair serve --help` and every refusal need none of it.
  const { startRuntime } = await import("../app.ts");
  return startRuntime(config, log, { version: packageVersion(), env: terminal.env });
}

function announce(runtime: Runtime, loaded: Loaded, output: Output): void {
  const seconds = (performance.now() / 1000).toFixed(2);
  const { publish } = loaded.config;
  if (output.pretty) {
    const also =
      publish === undefined ? "" : `\nIts models are offered at ${publish} too, while that relay is connected.\n`;
    output.terminal.print(
      `\nLocal AI Runtime ${packageVersion()} is ready in ${seconds} s: ${runtime.url}/v1\n${also}`,
    );
  } else
    output.log.info({ url: runtime.url, seconds: Number(seconds), file: loaded.file, published: publish }, "ready");
  void announceOffers(runtime, loaded, output);
}

/** Says what each provider offers, when it has told or its time to tell is over; the server answers already. */
async function announceOffers(runtime: Runtime, { config, file }: Loaded, write: Output): Promise<void> {
  const embedded = [config.llama.model ?? "built-in"].flat().join(", ");
  const whereOf = (name: string): string => config.providers[name]?.urls.join(", ") ?? embedded;
  const offers = await askOffers(runtime.providers, whereOf, config.timeouts.probe);
  const { env } = write.terminal;
  if (write.pretty) {
    const { asksForKey } = runtime;
    for (const line of offerLines(offers, config, { file, asksForKey, env })) write.terminal.print(line);
    return;
  }
  for (const { name, where, models, problem } of offers) {
    write.log.info({ provider: name, where, models: models.length, problem }, "provider");
  }
  const next = nextStep(offers, config, env);
  if (next !== undefined) write.log.warn({}, [next.text, next.ways.join(" · ")].join(" ").trim());
}
