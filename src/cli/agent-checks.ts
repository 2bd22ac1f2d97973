import { statSync } from "node:fs";
import { isLoopback } from "../core/host-url.ts";
import type { Config } from "../config/schema.ts";

/** Said where no relay is named. */
export const cloudText =
  "--cloud is missing: the address of the relay, e.g. --cloud https://relay.example:8081 (lair cloud starts one on a host that others reach)";

/** What is to be said before an agent dials a relay. */
export interface Checked {
  /** Why it must not, with the ways out. */
  readonly refusal?: string;
  readonly warnings: readonly string[];
}

/** How an agent is configured, and where that came from, e.g. `agent.key` → `--key`. */
export interface Configured {
  readonly config: Config;
  readonly sources: ReadonlyMap<string, string>;
}

/** Whether an agent may dial the relay, which a flag of this name gives. */
export function checkAgent(relay: string, { config, sources }: Configured, flag = "--cloud"): Checked {
  const { protocol, hostname, host } = new URL(relay);
  const { agent, insecure } = config;
  const warnings = keyWarnings({ config, sources });
  if (isLoopback(hostname)) return { warnings };
  if (agent.key === undefined && agent.keyFile === undefined) return { refusal: keylessText(host, flag), warnings };
  if (protocol === "https:") return { warnings };
  const clear = `${relay} has no TLS: the agent's key and every prompt and answer would be readable by everybody between this machine and ${host}`;
  if (!insecure) return { refusal: clearText(clear, relay, flag), warnings };
  return { warnings: [...warnings, `${clear}; allowed by --insecure`] };
}

function keyWarnings({ config: { agent }, sources }: Configured): string[] {
  const warnings: string[] = [];
  for (const [path, flag] of Object.entries({ "agent.key": "--key", "agent.openaiKey": "--openai-key" }))
    if (sources.get(path) === flag)
      warnings.push(
        `${flag} can be seen by every user of this machine, in the list of its processes; a variable or a file cannot`,
      );
  if (agent.key !== undefined && agent.keyFile !== undefined)
    warnings.push("agent.keyFile counts, and agent.key does not");
  if (agent.keyFile !== undefined && isReadByOthers(agent.keyFile))
    warnings.push(`${agent.keyFile} can be read by other users of this machine; chmod 600 keeps the key to yourself`);
  return warnings;
}

function isReadByOthers(path: string): boolean {
  // Windows keeps rights elsewhere, and tells none of them here.
  if (process.platform === "win32") return false;
  try {
    return (statSync(path).mode & 0o077) !== 0;
  } catch {
    return false;
  }
}

function keylessText(host: string, flag: string): string {
  return [
    `${host} is not this machine, and a relay takes no agent without its key. Print one on the relay's machine:`,
    "  lair cloud agents add NAME",
    "and give it to this agent, either",
    `  - in a file:        ${flag === "--cloud" ? "--key-file agent.key" : "LAIR_AGENT_KEY_FILE=agent.key"}`,
    "  - or as a variable: LAIR_AGENT_KEY=lla_…",
  ].join("\n");
}

function clearText(clear: string, relay: string, flag: string): string {
  return [
    `${clear}. Either`,
    `  - use TLS:                               ${flag} ${relay.replace(/^http:/, "https:")}`,
    "  - or accept it in a network of your own: --insecure",
  ].join("\n");
}
