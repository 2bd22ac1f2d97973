import { isLoopback } from "../core/host-url.ts";
import type { Config } from "./schema.ts";

/** Strangers could use what would listen; the message says how not to let them. */
export class ExposureError extends Error {
  override readonly name = "ExposureError";
}

/** Whether the configuration itself holds a key, so that callers need one. */
export function asksForKey({ auth }: Pick<Config, "auth">): boolean {
  return auth.keys.length > 0 || auth.admin.length > 0;
}

/** Why the server must not listen as configured, with the ways out; undefined when it may. `keys`: how many the state has that still work. */
export function checkExposure(config: Config, keys = 0): string | undefined {
  return checkKeys(config, { address: config.listen, keys, models: "your models" });
}

/** As `checkExposure`, for the gateway. */
export function checkGatewayExposure(config: Config, keys: number): string | undefined {
  return checkKeys(config, { address: config.gateway, keys, models: "the models behind it" });
}

interface Exposed {
  readonly address: { readonly host: string; readonly port: number };
  readonly keys: number;
  /** What strangers could use. */
  readonly models: string;
}

function checkKeys(config: Config, { address: { host, port }, keys, models }: Exposed): string | undefined {
  if (isLoopback(host) || asksForKey(config) || keys > 0 || config.insecure) return undefined;
  return [
    `listening on ${host} without a key is refused: whoever reaches port ${port} could use ${models}. Either`,
    "  - listen on this machine only:   --host 127.0.0.1",
    "  - or make a key, and start again: lair keys create NAME",
    "  - or ask callers for a key:      LLM_V1_PROXY_TOKEN=<a long random text>",
    "  - or accept it for a safe network: --insecure",
  ].join("\n");
}

/**
 * Why the relay must not listen as configured, with the ways out; undefined when it may. `agents`: how many are
 * registered with a key that still works; `keys`: as of `checkExposure`.
 */
export function checkRelayExposure(config: Config, agents: number, keys = 0): string | undefined {
  const { host } = config.relay;
  const open = checkKeys(config, { address: config.relay, keys, models: "the models behind it" });
  if (open !== undefined || isLoopback(host) || agents > 0) return open;
  return [
    `listening on ${host} without any agent is refused: beyond this machine an agent needs a key, and there is none yet. Either`,
    "  - register one, and take its key there:  lair cloud agents add NAME",
    "  - or listen on this machine only:        --host 127.0.0.1",
  ].join("\n");
}
