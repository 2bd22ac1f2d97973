import { randomBytes } from "node:crypto";
import type { Config } from "./config/schema.ts";
import { errorReply, type Handler } from "./core/call.ts";
import { ApiError } from "./core/errors.ts";
import { isLoopback } from "./core/host-url.ts";
import type { Log } from "./core/log.ts";
import { serverBounds, serverUrl } from "./http/server-bounds.ts";
import { listen } from "./http/server.ts";
import { HttpClient } from "./providers/http-client.ts";
import type { State } from "./state/state.ts";
import type { SharingSettings } from "./tunnel/relay/elsewhere.ts";

/** The part of a relay that shares its agents with others. */
export interface RelaySharing {
  readonly settings: SharingSettings;
  /** From now on calls of other relays are answered. */
  serve(handler: Handler): void;
  /** When the agents have left, or may not be waited for any longer. */
  close(): Promise<void>;
}

/** Milliseconds: for a connection to another relay, and that an idle one is kept, which is less than the other end keeps it. */
const neighbourTimes = { connect: 2000, idle: 60_000 };
/** For calls of other relays that are still under way at the end, in milliseconds. */
const closingTime = 1000;

/**
 * Listens for calls of other relays and opens the directory of agents in Redis; undefined where the configuration does
 * not ask for it. Throws `Error` for a configuration with which it cannot be, or where it cannot listen, and `StateError`.
 */
export async function openSharing(
  config: Config,
  state: State | undefined,
  log: Log,
): Promise<RelaySharing | undefined> {
  const { host, port } = config.relay.internal;
  if (port === undefined) return undefined;
  const url = config.state.url;
  if (state?.kind !== "redis" || url === undefined)
    throw new Error(
      "relay.internal.port is set, but relays share their agents through Redis only: set LAIR_STATE to redis://host:6379, or leave relay.internal out",
    );
  const secret = await readSecret(config, state);
  let handler: Handler = notYet;
  const [{ RedisConnection }, { RedisAgentDirectory }] = await Promise.all([
    import("./state/redis/connection.ts"),
    import("./state/redis/agent-directory.ts"),
  ]);
  const redis = await RedisConnection.open(url, { log, replica: "relay-directory" });
  const bounds = serverBounds(config);
  const server = await listen({ host, port, log, handler: (call) => handler(call), ...bounds }).catch(async (error) => {
    await redis.close();
    const { code } = error as NodeJS.ErrnoException;
    throw new Error(`relay.internal cannot listen on port ${port} of ${host} (${code})`, { cause: error });
  });
  const own = config.relay.internal.url ?? serverUrl(server);
  log.info({ internal: own }, "agents are shared with other relays");
  return {
    settings: {
      directory: new RedisAgentDirectory(redis, log),
      url: own,
      secret,
      connect: (origin) =>
        new HttpClient({ origin, connectTimeout: neighbourTimes.connect, longestIdle: neighbourTimes.idle }),
    },
    serve: (hops) => (handler = hops),
    async close() {
      await server.close(closingTime);
      await redis.close();
    },
  };
}

/** Why relays could not share their agents as configured; undefined when they can. */
function problemOf({ host, url, secret }: Config["relay"]["internal"]): string | undefined {
  if (secret === undefined && !isLoopback(host))
    return `relay.internal.host is ${host}, so others could come to this port: set relay.internal.secret (LAIR_RELAY_INTERNAL_SECRET), the same text of at least 32 characters at every relay`;
  if (url === undefined && ["0.0.0.0", "::", "[::]"].includes(host))
    return `relay.internal.host is ${host}, by which other relays cannot find this one: set relay.internal.url, e.g. http://10.0.0.11:8091`;
  return undefined;
}

async function readSecret({ relay: { internal } }: Config, { documents }: State): Promise<Buffer> {
  const problem = problemOf(internal);
  if (problem !== undefined) throw new Error(problem);
  // Relays of one machine, which nobody else reaches, agree on one that nobody has to know.
  const fresh = (): string => randomBytes(32).toString("base64url");
  return Buffer.from(internal.secret ?? (await documents.change("relay-secret", (known) => known ?? fresh())));
}

const notYet: Handler = () =>
  Promise.resolve(errorReply(new ApiError("service_unavailable", "this relay is about to start")));
