import type { Runtime } from "../app.ts";
import { checkExposure } from "../config/exposure.ts";
import { type Loaded, loadConfig } from "../config/load.ts";
import type { Config } from "../config/schema.ts";
import { formatDuration } from "../config/units.ts";
import { type Command, exitCodes, readFlags, type Terminal, UsageError } from "./command.ts";
import type { Logger } from "./logger.ts";
import { askOffers, nextStep, offerLines } from "./offers.ts";
import { flagLines, settingFlags } from "./setting-flags.ts";
import { packageVersion } from "./version.ts";

/** Where the lines of a server go. */
interface Output {
  readonly log: Logger;
  readonly terminal: Terminal;
  /** Whether a person reads them. */
  readonly pretty: boolean;
}

export const serve: Command = {
  help: `usage: lair serve [flags]

Answers OpenAI clients on http://127.0.0.1:18080/v1 with the models of this machine: GGUF files through
the embedded llama.cpp, and those of Ollama, LMDeploy, MNN, vLLM and any OpenAI-compatible server.
Ctrl-C finishes the answers under way; a second Ctrl-C ends at once.

flags:
${flagLines().join("\n")}

examples:
  lair serve
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
    const refused = checkExposure(loaded.config);
    if (refused !== undefined) {
      terminal.complain(`lair serve: ${refused}`);
      return exitCodes.usage;
    }
    const { level, format } = loaded.config.log;
    const pretty = format === "pretty" || (format === "auto" && terminal.interactive);
    const { createLogger } = await import("./logger.ts");
    const log = createLogger({ level, format: pretty ? "pretty" : "json" });
    for (const warning of loaded.warnings) log.warn({}, warning);
    try {
      return await runUntilStopped(loaded, { log, terminal, pretty });
    } finally {
      log.flush();
    }
  },
};

async function runUntilStopped(loaded: Loaded, output: Output): Promise<number> {
  const { log, terminal, pretty } = output;
  const stop = stopSignal(log);
  // Not before the configuration is good: `lair serve --help` and every refusal need none of it.
  const { startRuntime } = await import("../app.ts");
  let runtime: Runtime;
  try {
    runtime = await startRuntime(loaded.config, log, { version: packageVersion(), env: terminal.env });
  } catch (error) {
    terminal.complain(`lair serve: ${startText(error, loaded.config)}`);
    return exitCodes.failed;
  }
  const seconds = (performance.now() / 1000).toFixed(2);
  if (pretty) {
    terminal.print(`\nLocal AI Runtime ${packageVersion()} is ready in ${seconds} s: ${runtime.url}/v1\n`);
  } else log.info({ url: runtime.url, seconds: Number(seconds), file: loaded.file }, "ready");
  log.flush();
  void announce(runtime, loaded, output);
  const signal = await stop;
  const grace = formatDuration(loaded.config.timeouts.shutdown);
  log.info({ signal }, `stopping: answers under way have ${grace} to finish; press again to end at once`);
  log.flush();
  await runtime.close();
  log.info({}, "stopped");
  return exitCodes.done;
}

/** Resolves at the first signal to stop; the second ends the process. */
function stopSignal(log: Logger): Promise<NodeJS.Signals> {
  const numbers = { SIGHUP: 1, SIGINT: 2, SIGTERM: 15, SIGBREAK: 21 };
  return new Promise((resolve) => {
    let asked = false;
    for (const [signal, number] of Object.entries(numbers)) {
      // SIGBREAK is Ctrl-Break, and exists on Windows only.
      if (signal === "SIGBREAK" && process.platform !== "win32") continue;
      process.on(signal, () => {
        if (asked) {
          log.warn({ signal }, "ended at once: answers under way are cut off");
          log.flush();
          process.exit(128 + number);
        }
        asked = true;
        resolve(signal as NodeJS.Signals);
      });
    }
  });
}

/** Says what each provider offers, when it has told or its time to tell is over; the server answers already. */
async function announce(runtime: Runtime, { config, file }: Loaded, write: Output): Promise<void> {
  const offers = await askOffers(runtime.providers, config);
  if (write.pretty) {
    for (const line of offerLines(offers, config, file)) write.terminal.print(line);
    return;
  }
  for (const { name, where, models, problem } of offers) {
    write.log.info({ provider: name, where, models: models.length, problem }, "provider");
  }
  const hint = nextStep(offers, config);
  const [state, ...ways] = hint.map((line) => line.trim());
  if (state !== undefined) write.log.warn({}, `${state} ${ways.join(" · ")}`);
}

/** Why the server could not start, with what to do. */
function startText(error: unknown, { listen }: Config): string {
  const { code, message } =
    error instanceof Error ? (error as NodeJS.ErrnoException) : { code: undefined, message: String(error) };
  const { host, port } = listen;
  if (code === "EADDRINUSE") {
    return `port ${port} on ${host} is taken by another program, perhaps another lair. Choose another: --port ${port === 65535 ? 18080 : port + 1}, or --port 0 for any free one`;
  }
  if (code === "EACCES")
    return `port ${port} on ${host} may not be used by this user. Choose one above 1023, e.g. --port 18080`;
  if (code === "EADDRNOTAVAIL" || code === "ENOTFOUND")
    return `${host} is no address of this machine. For this machine only: --host 127.0.0.1; for every network: --host 0.0.0.0`;
  return message;
}
