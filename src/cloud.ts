import { agentFamilies } from "./admin/agent-families.ts";
import { agentList, relayReady } from "./admin/relay-status.ts";
import { existsSync } from "node:fs";
import { checkRelayExposure, ExposureError } from "./config/exposure.ts";
import { agentsFile } from "./config/folders.ts";
import type { Config } from "./config/schema.ts";
import { secondPorts } from "./config/second-port.ts";
import type { AgentIdentity } from "./core/agent-identity.ts";
import { ApiError } from "./core/errors.ts";
import { isLoopback } from "./core/host-url.ts";
import type { Log } from "./core/log.ts";
import { tunnelPath, type Upgrade, type UpgradeTakers } from "./core/upgrade.ts";
import { within } from "./core/within.ts";
import { encodeBrokenStream } from "./dialects/error-events.ts";
import { type Front, openFront } from "./front.ts";
import { serverUrl } from "./http/server-bounds.ts";
import type { ServerTls } from "./http/server-tls.ts";
import { readTls, renewTls } from "./http/tls-files.ts";
import { hostCheck } from "./pipeline/guard.ts";
import { openSharing, type RelaySharing } from "./relay-sharing.ts";
import { AgentKeys } from "./state/agent-keys.ts";
import { openAgentPlace } from "./state/open-agent-place.ts";
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
  /** How many agents have a key that works. */
  readonly agents: number;
  /** Whether agents of this machine may connect without a key, for none is registered. */
  readonly keyless: boolean;
  /** Whether callers need a key now. */
  readonly asksForKey: boolean;
  /** Reads the certificate and the file of agents now, without waiting to be told that they have changed. */
  reload(): void;
  /** Tells agents to connect elsewhere, lets answers under way finish for at most `relay.grace`, then ends everything. */
  close(): Promise<void>;
}

/**
 * Builds a relay from its configuration and starts to listen. Throws node's error when it cannot (`EADDRINUSE` …),
 * `AgentFileError` for a broken file of agents, `StateError` for a state that cannot be opened, `ExposureError` where
 * strangers could use it, `Error` for a bad certificate.
 */
export async function startRelay(config: Config, log: Log, options: RelayOptions): Promise<Relay> {
  const { relay } = config;
  const env = options.env ?? {};
  const tls = readTls(relay.tls, "relay.tls");
  const front = await openFront(config, {
    role: "relay",
    listenHost: relay.host,
    // Who its agents are may stand in the state: that is looked at as soon as there is one.
    exposure: (keys) => checkRelayExposure(config, 1, keys),
    version: options.version,
    log,
    env,
  });
  try {
    return await listenWith(front, config, { ...options, tls, log, env });
  } catch (error) {
    await front.close();
    throw error;
  }
}

interface Parts extends RelayOptions {
  readonly tls: ServerTls | undefined;
  readonly log: Log;
  readonly env: NonNullable<RelayOptions["env"]>;
}

async function listenWith(front: Front, config: Config, { tls, log, env, ...options }: Parts): Promise<Relay> {
  const { relay } = config;
  const furtherPorts = secondPorts(config, relay, {});
  const keys = await openAgentKeys(front, config, { log, env });
  const refused = checkRelayExposure(config, countAgents(keys), front.asksForKey ? 1 : 0);
  if (refused !== undefined) throw new ExposureError(refused);
  const admission = new Admission(config, keys, front);
  const sharing = await openSharing(config, front.state, log);
  const fleet = createFleet(keys, { log, version: options.version, sharing });
  const way = front.around(
    fleet.handler,
    {
      "/ready": relayReady(() => fleet.health()),
      "/admin/agents": agentList(() => fleet.agents()),
    },
    () => agentFamilies(fleet.agents()),
  );
  const take = createDoor(config, { admission, fleet, log, version: options.version });
  const upgrades: UpgradeTakers = new Map([[tunnelPath, { takes: "everything", take }]]);
  const server = await way.listen(relay, { tls, upgrades, furtherPorts }).catch(async (error: unknown) => {
    await fleet.close();
    await sharing?.close();
    throw error;
  });
  keys.watch(() => fleet.recheck());
  const renewal = renewTls(relay.tls, "relay.tls", { server, log, watch: watchFile });
  return {
    url: serverUrl(server, tls === undefined ? "http" : "https"),
    fleet,
    get agents() {
      return countAgents(keys);
    },
    get keyless() {
      return admission.keyless;
    },
    get asksForKey() {
      return front.asksForKey;
    },
    reload: () => {
      keys.reload();
      renewal.renew();
    },
    close: async () => {
      renewal.stop();
      const { grace } = relay;
      await Promise.all([server.close(grace), within(fleet.drain(), grace)]);
      await fleet.close();
      await sharing?.close();
      keys.close();
      await front.close();
    },
  };
}

interface FleetParts {
  readonly log: Log;
  readonly version: string;
  readonly sharing: RelaySharing | undefined;
}

function createFleet(keys: AgentKeys, { log, version, sharing }: FleetParts): Fleet {
  const fleet = new Fleet({
    log,
    version,
    errorEvents: encodeBrokenStream,
    knows: (name) => keys.has(name),
    patience: agentPatience,
    ...(sharing === undefined ? {} : { sharing: sharing.settings }),
  });
  if (fleet.hops !== undefined) sharing?.serve(fleet.hops);
  return fleet;
}

interface DoorParts {
  readonly admission: Admission;
  readonly fleet: Fleet;
  readonly log: Log;
  readonly version: string;
}

function createDoor(config: Config, { admission, fleet, log, version }: DoorParts): (upgrade: Upgrade) => void {
  return tunnelDoor({
    authenticate: (key, from) => admission.admit(key, from),
    refusal: hostRefusal(config),
    admit: (arrival) => fleet.admit(arrival),
    relayVersion: version,
    log,
    requireClientCertificate: config.relay.tls.clientCa !== undefined,
  });
}

/** The list of agents: in the file that is named for it, else in the state, where there is one. */
async function openAgentKeys(
  { state }: Front,
  config: Config,
  { log, env }: Pick<Parts, "log" | "env">,
): Promise<AgentKeys> {
  const file = agentsFile(config, { env });
  const keys = new AgentKeys(await openAgentPlace(config.relay.agents === undefined ? state : undefined, file), log);
  if (keys.isEmpty && state !== undefined && existsSync(file))
    log.warn({ file }, `no agent is registered at ${state.place}; those of the file: lair cloud agents import FILE`);
  return keys;
}

function countAgents(keys: AgentKeys): number {
  const now = Date.now();
  return keys.list().filter((agent) => agent.keys.some((key) => keyState(key, now) === "works")).length;
}

/** Agents come through the same port as web pages that were led to this machine by another name. */
function hostRefusal({ relay, hosts, cors }: Config): (upgrade: Upgrade) => ApiError | undefined {
  const refused = hostCheck({ listenHost: relay.host, hosts, origins: cors.origins });
  return ({ headers }) => refused(headers.host ?? "");
}

/** Which agents may connect. */
class Admission {
  readonly #keys: AgentKeys;
  readonly #front: Front;
  readonly #local: boolean;
  #registered = false;

  constructor({ relay }: Config, keys: AgentKeys, front: Front) {
    this.#keys = keys;
    this.#front = front;
    this.#local = isLoopback(relay.host);
  }

  /** Without any key while nobody has one; a file that goes away later does not open the relay. */
  get keyless(): boolean {
    this.#registered ||= !this.#keys.isEmpty;
    // Callers' keys mean that this relay is for others too: behind a front, they would all come from this machine.
    return this.#local && !this.#registered && !this.#front.asksForKey;
  }

  admit(
    ...[key, { name = "local", trusted }]: Parameters<DoorSettings["authenticate"]>
  ): ReturnType<DoorSettings["authenticate"]> {
    if (key !== undefined) return this.#keys.authenticate(key) ?? this.#lookAgain(key);
    if (!this.keyless || !trusted) {
      return new ApiError(
        "invalid_api_key",
        "an agent needs a key here; on the relay's machine `lair cloud agents add NAME` prints one",
      );
    }
    const refusal = (): string | undefined => (this.keyless ? undefined : "this relay asks agents for a key now");
    return { name, keyId: undefined, refusal };
  }

  /** It may have been registered a moment ago, and an agent that is refused stays away for a while. */
  async #lookAgain(key: string): Promise<AgentIdentity | ApiError> {
    await this.#keys.refresh();
    return this.#keys.authenticate(key) ?? new ApiError("invalid_api_key", "this agent's key is not valid here");
  }
}
