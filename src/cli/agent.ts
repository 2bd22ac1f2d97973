import type { RunningAgent } from "../agent.ts";
import { type Loaded, loadConfig } from "../config/load.ts";
import { checkAgent, cloudText } from "./agent-checks.ts";
import { toStatus } from "./agent-status.ts";
import { type Command, exitCodes, readFlags, rewritesLines, type Terminal, UsageError } from "./command.ts";
import { LogFile } from "./log-file.ts";
import { flagLines, settingFlags } from "./setting-flags.ts";
import { StatusLine } from "./status-line.ts";
import { type Output, type Program, runUntilStopped } from "./until-stopped.ts";
import { packageVersion } from "./version.ts";

/** What follows `lair agent` and makes the machine start it by itself. */
const serviceWords = ["install-service", "uninstall-service", "service-status"];

export const agent: Command = {
  help: `usage: lair agent --cloud <relay> [flags]
       lair agent install-service | uninstall-service | service-status [flags]

Connects a runtime behind NAT or a firewall with a relay (lair cloud): whoever may use the relay then uses the models
of this machine. It only dials out. Ctrl-C finishes the answers under way; a second Ctrl-C ends at once.

flags:
${flagLines("agent").join("\n")}

      --log-file <file>      Where readable log lines go instead, 10 MB and an older half at most.

as a service, started by the machine itself:
  install-service            writes its definition with the flags given here, shows it, and starts it; the key goes
                             into a file that only its user can read
  uninstall-service          stops it and removes what was written
  service-status             says whether it runs
      --system               for the whole machine rather than for this user; as root or administrator
      --user <name>          who runs it, with --system
      --service-name <name>  another name than lair-agent, for a second one
      --print                shows what would be written and run, and does nothing

examples:
  LAIR_AGENT_KEY=lla_home_… lair agent --cloud https://relay.example:8081
  lair agent --cloud https://relay.example:8081 --key-file agent.key --openai=http://127.0.0.1:11434
  lair agent install-service --cloud https://relay.example:8081 --key-file ~/agent.key

exit codes: 0 stopped when asked · 1 it failed · 2 the flags or the configuration are wrong ·
128 + n ended at once by a second signal n (Ctrl-C: 130)`,
  async run(args, terminal) {
    const [first] = args;
    if (first !== undefined && serviceWords.includes(first)) {
      const { agentService } = await import("./agent-service.ts");
      return agentService(first, args.slice(1), terminal);
    }
    const { flags, words } = readFlags(args, { ...settingFlags("agent"), "log-file": { type: "string" } });
    if (words.length > 0)
      throw new UsageError(
        `it takes flags, or one of ${serviceWords.join(", ")} in the first place, not ${JSON.stringify(words[0])}`,
      );
    const loaded = await loadConfig({ flags, command: "agent", env: terminal.env });
    const relay = loaded.config.agent.cloud;
    if (relay === undefined) throw new UsageError(cloudText);
    const { refusal, warnings } = checkAgent(relay, loaded);
    if (refusal !== undefined) {
      terminal.complain(`lair agent: ${refusal}`);
      return exitCodes.usage;
    }
    const file = typeof flags["log-file"] === "string" ? new LogFile(flags["log-file"]) : undefined;
    const said = { ...loaded, warnings: [...loaded.warnings, ...warnings] };
    return runUntilStopped(file === undefined ? said : forPeople(said), terminal, program(loaded, terminal, file));
  },
};

function program(loaded: Loaded, terminal: Terminal, file: LogFile | undefined): Program<RunningAgent> {
  const { config } = loaded;
  const { grace, cloud = "", openai } = config.agent;
  let running: RunningAgent | undefined;
  const shown = config.log.format !== "json" && file === undefined && rewritesLines(terminal);
  const line = shown
    ? new StatusLine(terminal, () => toStatus(running?.state(), new URL(cloud).host, Date.now()))
    : undefined;
  const lines = file ?? line;
  return {
    command: "lair agent",
    grace,
    async start({ log }: Output) {
      const { readKey, startAgent } = await import("../agent.ts");
      if (config.agent.keyFile !== undefined) await readKey(config.agent.keyFile);
      log.info({ relay: cloud, runtime: openai, version: packageVersion() }, "agent started");
      const onChange = (): void => line?.changed();
      const agent = startAgent(config, log, { version: packageVersion(), env: terminal.env, onChange });
      running = { ...agent, close: () => agent.drain(grace).finally(() => line?.stop()) };
      return running;
    },
    announce: () => line?.start(),
    startText: (error) => (error instanceof Error ? error.message : String(error)),
    underWay: (one) => `calls under way (${one.state().underWay})`,
    // Where a terminal or a console of Windows is closed, the same signal means the end.
    ...(terminal.interactive || process.platform === "win32"
      ? {}
      : { onHangup: (one: RunningAgent, log: Output["log"]) => hangUp(one, log) }),
    ...(lines === undefined ? {} : { write: (text: string) => lines.write(text) }),
  };
}

function hangUp(running: RunningAgent, log: Output["log"]): void {
  log.info({}, "connecting anew with the key and certificates of now");
  running.renew();
}

/** A file of its own is read by people, unless another format was asked for. */
function forPeople(loaded: Loaded): Loaded {
  const { log } = loaded.config;
  return log.format === "json"
    ? loaded
    : { ...loaded, config: { ...loaded.config, log: { ...log, format: "pretty" } } };
}
