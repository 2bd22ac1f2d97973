import { RelayMetrics } from "./admin/metrics.ts";
import { ownRoutes } from "./admin/own-routes.ts";
import { agentList, relayReady } from "./admin/relay-status.ts";
import { health, version } from "./admin/status.ts";
import { agentsFile } from "./config/folders.ts";
import type { Config } from "./config/schema.ts";
import type { AgentIdentity } from "./core/agent-identity.ts";
import type { Handler } from "./core/call.ts";
import { ApiError } from "./core/errors.ts";
import { isLoopback } from "./core/host-url.ts";
import type { Log } from "./core/log.ts";
import type { Upgrade } from "./core/upgrade.ts";
import { encodeBrokenStream } from "./dialects/error-events.ts";
import { serverBounds, serverUrl } from "./http/server-bounds.ts";
import { listen } from "./http/server.ts";
import { readTls, renewTls } from "./http/tls-files.ts";
import { accessLog } from "./pipeline/access-log.ts";
import { compose } from "./pipeline/compose.ts";
import { entrance } from "./pipeline/entrance.ts";
import { hostCheck, withoutFront } from "./pipeline/guard.ts";
import { limits } from "./pipeline/limits.ts";
import { AgentKeys } from "./state/agent-keys.ts";
import { watchFile } from "./state/file-watch.ts";
import { keyState } from "./state/issue-key.ts";
import { type DoorSettings, tunnelDoor } from "./tunnel/handshake/door.ts";
import { Fleet } from "./tunnel/relay/fleet.ts";

export interface RelayOptions {
  readonly version: string;
  /** Where the user's folders are read. */
  readonly env?: Readonly<Record<string, string | undefined>>;
}

/** Milliseconds that calls wait for an agent that has just left: longer than one takes to start again. */
const agentPatience = 5000;

export interface Relay {
  /** Where it listens, e.g. `https://127.0.0.1:8081`. */
  readonly url: string;
  readonly fleet: Fleet;
  /** Whether agents of this machine may connect without a key, for none is registered. */
  readonly keyless: boolean;
  /** Reads the certificate and the file of agents now, without waiting to be told that they have changed. */
  reload(): void;
  /** Tells agents to connect elsewhere, lets answers under way finish for at most `relay.grace`, then ends everything. */
  close(): Promise<void>;
}

/** The agents with a key that works. Throws `AgentFileError`. */
export function countAgents(config: Config, env: NonNullable<RelayOptions["env"]>): number {
  const now = Date.now();
  const agents = new AgentKeys(agentsFile(config, { env })).list();
  return agents.filter(({ keys }) => keys.some((key) => keyState(key, now) === "works")).length;
}

/**
 * Builds a relay from its configuration and starts to listen. Throws node's error when it cannot (`EADDRINUSE` …),
 * `AgentFileError` for a broken file of agents, `Error` for a bad certificate.
 */
export async function startRelay(config: Config, log: Log, options: RelayOptions): Promise<Relay> {
  const { relay } = config;
  const tls = readTls(relay.tls, "relay.tls");
  const keys = new AgentKeys(agentsFile(config, { env: options.env ?? {} }), log);
  const admission = new Admission(config, keys);
  const fleet = new Fleet({
    log,
    version: options.version,
    errorEvents: encodeBrokenStream,
    knows: (name) => keys.has(name),
    patience: agentPatience,
  });
  const metrics = new RelayMetrics(() => fleet.agents(), options.version);
  const logged = accessLog(log);
  const server = await listen({
    host: relay.host,
    port: relay.port,
    log,
    handler: toHandler(config, { fleet, metrics, log, version: options.version }),
    onOutcome: (call, outcome) => {
      metrics.observe(call, outcome);
      logged(call, outcome);
    },
    onUpgrade: tunnelDoor({
      authenticate: (key, from) => admission.admit(key, from),
      refusal: hostRefusal(config),
      admit: (arrival) => fleet.admit(arrival),
      relayVersion: options.version,
      log,
      requireClientCertificate: relay.tls.clientCa !== undefined,
    }),
    ...serverBounds(config),
    ...(tls === undefined ? {} : { tls }),
  });
  keys.watch(() => fleet.recheck());
  const renewal = renewTls(relay.tls, "relay.tls", { server, log, watch: watchFile });
  return {
    url: serverUrl(server, tls === undefined ? "http" : "https"),
    fleet,
    get keyless() {
      return admission.keyless;
    },
    reload: () => {
      keys.reload();
      renewal.renew();
    },
    close: async () => {
      renewal.stop();
      await Promise.all([server.close(relay.grace), within(fleet.drain(), relay.grace)]);
      await fleet.close();
      keys.close();
    },
  };
}

interface Parts {
  readonly fleet: Fleet;
  readonly metrics: RelayMetrics;
  readonly log: Log;
  readonly version: string;
}

/** What every call goes through, and what the relay answers itself. */
function toHandler(config: Config, { fleet, metrics, log, version: number }: Parts): Handler {
  const { host } = config.relay;
  const open = isLoopback(host) && config.auth.keys.length === 0 && !config.insecure;
  const routes = ownRoutes(
    {
      "/health": health,
      "/ready": relayReady(() => fleet.health()),
      "/version": version(number, "relay"),
      "/metrics": metrics.handler,
      "/admin/agents": agentList(() => fleet.agents()),
    },
    fleet.handler,
  );
  const inner = compose([...(open ? [withoutFront] : []), limits(config.limits.concurrent)], routes);
  return entrance(config, { listenHost: host, log }, inner);
}

/** Agents come through the same port as web pages that were led to this machine by another name. */
function hostRefusal({ relay, hosts, cors }: Config): (upgrade: Upgrade) => ApiError | undefined {
  const refused = hostCheck({ listenHost: relay.host, hosts, origins: cors.origins });
  return ({ headers }) => refused(headers.host ?? "");
}

/** Which agents may connect. */
class Admission {
  readonly #keys: AgentKeys;
  readonly #local: boolean;
  #registered = false;

  constructor({ relay, auth }: Config, keys: AgentKeys) {
    this.#keys = keys;
    // Callers' keys mean that this relay is for others too: behind a front, they would all come from this machine.
    this.#local = isLoopback(relay.host) && auth.keys.length === 0;
  }

  /** Without any key while nobody has one; a file that goes away later does not open the relay. */
  get keyless(): boolean {
    this.#registered ||= !this.#keys.isEmpty;
    return this.#local && !this.#registered;
  }

  admit(...[key, { name = "local", trusted }]: Parameters<DoorSettings["authenticate"]>): AgentIdentity | ApiError {
    if (key !== undefined)
      return this.#keys.authenticate(key) ?? new ApiError("invalid_api_key", "this agent's key is not valid here");
    if (!this.keyless || !trusted) {
      return new ApiError(
        "invalid_api_key",
        "an agent needs a key here; on the relay's machine `lair cloud agents add NAME` prints one",
      );
    }
    const refusal = (): string | undefined => (this.keyless ? undefined : "this relay asks agents for a key now");
    return { name, keyId: undefined, refusal };
  }
}

async function within(work: Promise<void>, grace: number): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  await Promise.race([work, new Promise<void>((resolve) => (timer = setTimeout(resolve, grace)))]);
  clearTimeout(timer);
}
