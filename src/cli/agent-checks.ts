import { isLoopback } from "../core/host-url.ts";
import type { Config } from "../config/schema.ts";

/** What is to be said before an agent dials a relay. */
export interface Checked {
  /** Why it must not, with the ways out. */
  readonly refusal?: string;
  readonly warnings: readonly string[];
}

/**
 * Whether an agent may dial the relay as configured. `sources` tells where settings came from, e.g. `agent.key` →
 * `--key`.
 */
export function checkAgent(relay: string, { agent, insecure }: Config, sources: ReadonlyMap<string, string>): Checked {
  const { protocol, hostname, host } = new URL(relay);
  const warnings: string[] = [];
  const keyless = agent.key === undefined && agent.keyFile === undefined;
  if (sources.get("agent.key") === "--key")
    warnings.push(
      "--key can be seen by every user of this machine, in the list of its processes; LAIR_AGENT_KEY or --key-file cannot",
    );
  if (agent.key !== undefined && agent.keyFile !== undefined)
    warnings.push("agent.keyFile counts, and agent.key does not");
  if (isLoopback(hostname)) return { warnings };
  if (keyless) return { refusal: keylessText(host), warnings };
  if (protocol === "https:") return { warnings };
  const clear = `${relay} has no TLS: the agent's key and every prompt and answer would be readable by everybody between this machine and ${host}`;
  if (!insecure) return { refusal: clearText(clear, relay), warnings };
  return { warnings: [...warnings, `${clear}; allowed by --insecure`] };
}

function keylessText(host: string): string {
  return [
    `${host} is not this machine, and a relay takes no agent without its key. Print one on the relay's machine:`,
    "  lair cloud agents add NAME",
    "and give it to this agent, either",
    "  - in a file:        --key-file agent.key",
    "  - or as a variable: LAIR_AGENT_KEY=lla_…",
  ].join("\n");
}

function clearText(clear: string, relay: string): string {
  return [
    `${clear}. Either`,
    `  - use TLS:                          --cloud ${relay.replace(/^http:/, "https:")}`,
    "  - or accept it in a network of your own: --insecure",
  ].join("\n");
}
