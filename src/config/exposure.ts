import { isLoopback } from "../core/host-url.ts";
import type { Config } from "./schema.ts";

/** Why the server must not listen as configured, with the ways out; undefined when it may. */
export function checkExposure(config: Config): string | undefined {
  const { host, port } = config.listen;
  if (isLoopback(host) || config.auth.keys.length > 0 || config.insecure) return undefined;
  return [
    `listening on ${host} without a key is refused: whoever reaches port ${port} could use your models. Either`,
    "  - listen on this machine only:   --host 127.0.0.1",
    "  - or ask callers for a key:      LLM_V1_PROXY_TOKEN=<a long random text>",
    "  - or accept it for a safe network: --insecure",
  ].join("\n");
}

/**
 * Why the relay must not listen as configured, with the ways out; undefined when it may. `agents`: how many are
 * registered with a key that still works.
 */
export function checkRelayExposure({ relay, auth, insecure }: Config, agents: number): string | undefined {
  const { host, port } = relay;
  if (isLoopback(host)) return undefined;
  if (auth.keys.length === 0 && !insecure) {
    return [
      `listening on ${host} without a key is refused: whoever reaches port ${port} could use the models behind it. Either`,
      "  - listen on this machine only:   --host 127.0.0.1",
      "  - or ask callers for a key:      LLM_V1_PROXY_TOKEN=<a long random text>",
      "  - or accept it for a safe network: --insecure",
    ].join("\n");
  }
  if (agents > 0) return undefined;
  return [
    `listening on ${host} without any agent is refused: beyond this machine an agent needs a key, and there is none yet. Either`,
    "  - register one, and take its key there:  lair cloud agents add NAME",
    "  - or listen on this machine only:        --host 127.0.0.1",
  ].join("\n");
}
