import type { Relay } from "../cloud.ts";
import { type Loaded, loadConfig } from "../config/load.ts";
import { type Command, type Options, type ReadFlags, readFlags, type Terminal, UsageError } from "./command.ts";
import { flagLines, settingFlags } from "./setting-flags.ts";
import { listenText, type Output, runUntilStopped } from "./until-stopped.ts";
import { packageVersion } from "./version.ts";

/** What may follow `lair cloud`, with the flags that only it has. */
interface Action {
  readonly flags: Options;
  run(read: ReadFlags, terminal: Terminal): Promise<number>;
}

const actions: Readonly<Record<string, Action>> = {
  "": { flags: {}, run: serveRelay },
  // The original's word: `cloud_server http_proxy`.
  http_proxy: { flags: {}, run: serveRelay },
  agents: {
    flags: { json: { type: "boolean" }, expires: { type: "string" } },
    run: async (read, terminal) => (await import("./cloud-agents.ts")).changeAgents(read, terminal),
  },
  status: {
    flags: { json: { type: "boolean" }, url: { type: "string" } },
    run: async (read, terminal) => (await import("./cloud-status.ts")).showStatus(read, terminal),
  },
};

export const cloud: Command = {
  help: `usage: lair cloud [flags]                          the relay: runs until it is stopped
       lair cloud agents add NAME [--expires 90d]    registers an agent, and prints its key once
       lair cloud agents list [--json]               who may connect, with which keys
       lair cloud agents rotate NAME [--expires 90d] a further key; the first works until it is revoked
       lair cloud agents revoke NAME [KEYID]         ends a key, or all of the agent's; its tunnels are cut at once
       lair cloud agents remove NAME                 forgets the agent
       lair cloud agents import FILE                 takes over the agents of a file, with their keys
       lair cloud status [--json] [--url <address>]  who is connected to the relay that runs here, or there

Answers OpenAI clients with models of other machines: their agents (lair agent) dial in from behind NAT and
firewalls, on the same port. On this machine nobody needs a key; beyond it callers need one (LLM_V1_PROXY_TOKEN),
and so does every agent. Ctrl-C finishes the answers under way; a second Ctrl-C ends at once.

flags:
${flagLines("cloud").join("\n")}

examples:
  lair cloud
  lair cloud agents add home
  LLM_V1_PROXY_TOKEN=a-long-one lair cloud --host 0.0.0.0 --tls-cert fullchain.pem --tls-key privkey.pem
  $env:LLM_V1_PROXY_TOKEN = 'a-long-one'; lair cloud --host 0.0.0.0 --tls-cert c.pem --tls-key k.pem   (PowerShell)
  lair cloud status --url https://relay.example:8081

exit codes: 0 done, or stopped when asked · 1 it failed · 2 the command line or the configuration is wrong ·
128 + n ended at once by a second signal n (Ctrl-C: 130)`,
  async run(args, terminal) {
    const all = Object.values(actions).map(({ flags }) => flags);
    const read = readFlags(args, Object.assign(settingFlags("cloud"), ...all) as Options);
    const [word = ""] = read.words;
    const action = Object.hasOwn(actions, word) ? actions[word] : undefined;
    if (action === undefined)
      throw new UsageError(`there is no ${JSON.stringify(word)}; it is agents or status, or flags only`);
    const stray = all.flatMap(Object.keys).find((name) => name in read.flags && !(name in action.flags));
    if (stray !== undefined) throw new UsageError(`--${stray} belongs to lair cloud agents or lair cloud status`);
    return action.run({ words: read.words.slice(1), flags: read.flags }, terminal);
  },
};

async function serveRelay({ flags, words }: ReadFlags, terminal: Terminal): Promise<number> {
  if (words.length > 0) throw new UsageError(`it takes flags only, not ${JSON.stringify(words[0])}`);
  const loaded = await loadConfig({ flags, command: "cloud", env: terminal.env });
  const { relay } = loaded.config;
  const { startRelay } = await import("../cloud.ts");
  return runUntilStopped(loaded, terminal, {
    command: "lair cloud",
    grace: relay.grace,
    start: ({ log }) => startRelay(loaded.config, log, { version: packageVersion(), env: terminal.env }),
    announce: (running, output) => announce(running, loaded, output),
    startText: (error) =>
      listenText(error, { host: relay.host, port: relay.port, usual: 8081 }) ??
      (error instanceof Error ? error.message : String(error)),
    // A terminal that is closed says the same.
    ...(terminal.interactive ? {} : { onHangup: (running: Relay) => running.reload() }),
  });
}

function announce(running: Relay, loaded: Loaded, output: Output): void {
  const { url, keyless, agents, asksForKey } = running;
  const { relay } = loaded.config;
  const { log, terminal, pretty } = output;
  if (!pretty) {
    const seconds = Number((performance.now() / 1000).toFixed(2));
    log.info({ url, seconds, file: loaded.file, tls: relay.tls.cert !== undefined, agents, keyless }, "ready");
    return;
  }
  const reached = dialledUrl(relay.host, url);
  terminal.print(`\nLocal AI Runtime ${packageVersion()}, relay, is ready: ${url}/v1\n`);
  const rows = [
    ["TLS", relay.tls.cert === undefined ? "none: for this machine, or behind a front that has it" : relay.tls.cert],
    ["callers", asksForKey ? "need a key" : "need no key"],
    ["agents", agentsText(agents, keyless)],
  ];
  for (const [name = "", text = ""] of rows) terminal.print(`  ${name.padEnd(9)} ${text}`);
  terminal.print(
    keyless
      ? `\nNext, beside the runtime:  lair agent --cloud ${reached}\n`
      : agents === 0
        ? "\nNext:  lair cloud agents add NAME\n"
        : `\nNext, beside the runtime:  lair agent --cloud ${reached} --key-file <file with the agent's key>\n`,
  );
}

function agentsText(agents: number, keyless: boolean): string {
  if (keyless) return "none is registered: those of this machine need no key";
  return agents === 1 ? "1 is registered" : `${agents} are registered`;
}

/** How agents reach the relay, as far as that can be known: a relay that listens everywhere has names of its own. */
function dialledUrl(host: string, url: string): string {
  return ["0.0.0.0", "::", "[::]"].includes(host) ? url.replace(/\/\/(\[.*\]|[^:]+)/, "//HOST") : url;
}
