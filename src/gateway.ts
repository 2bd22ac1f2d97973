import { upstreamList } from "./admin/gateway-status.ts";
import { upstreamFamilies } from "./admin/upstream-families.ts";
import { relayReady } from "./admin/relay-status.ts";
import { checkGatewayExposure } from "./config/exposure.ts";
import type { Config } from "./config/schema.ts";
import { secondPorts } from "./config/second-port.ts";
import type { Log } from "./core/log.ts";
import type { Provider } from "./core/provider.ts";
import { openFront, providerSettings } from "./front.ts";
import { serverUrl } from "./http/server-bounds.ts";
import { readTls, renewTls } from "./http/tls-files.ts";
import { createProvider } from "./providers/index.ts";
import { createRouter, type Router } from "./routing/router.ts";
import { watchFile } from "./state/file-watch.ts";

export interface GatewayOptions {
  readonly version: string;
  /** Where the proxy variables and the user's folders are read. */
  readonly env?: Readonly<Record<string, string | undefined>>;
}

export interface Gateway {
  /** Where it listens, e.g. `http://127.0.0.1:8082`. */
  readonly url: string;
  readonly upstreams: readonly Provider[];
  /** Where keys, limits and usage are kept, without a password; undefined: nowhere. */
  readonly place: string | undefined;
  /** Whether callers need a key now. */
  readonly asksForKey: boolean;
  /** Reads the certificate now, without waiting to be told that it has changed. */
  reload(): void;
  /** Stops accepting, lets answers under way finish for at most `gateway.grace`, and brings what they used into the state. */
  close(): Promise<void>;
}

/**
 * Builds a gateway from its configuration and starts to listen. Throws node's error when it cannot (`EADDRINUSE` …),
 * `StateError` for a state that cannot be opened, `ExposureError` where strangers could use it, `Error` for a bad certificate.
 */
export async function startGateway(config: Config, log: Log, options: GatewayOptions): Promise<Gateway> {
  const { gateway } = config;
  const env = options.env ?? {};
  const furtherPorts = secondPorts(config, gateway, gateway.upstreams);
  const tls = readTls(gateway.tls, "gateway.tls");
  const upstreams = openUpstreams(config, log, env);
  const { router } = upstreams;
  const front = await openFront(config, {
    role: "gateway",
    listenHost: gateway.host,
    exposure: (keys) => checkGatewayExposure(config, keys),
    log,
    env,
    version: options.version,
  }).catch(async (error: unknown) => {
    await upstreams.close();
    throw error;
  });
  const closeAll = async (): Promise<void> => {
    await Promise.all([front.close(), upstreams.close()]);
  };
  try {
    const way = front.around(
      router.handler,
      {
        "/ready": relayReady(() => router.health()),
        "/admin/upstreams": upstreamList(() => router.states()),
      },
      () => upstreamFamilies(router.states()),
    );
    const server = await way.listen(gateway, { tls, furtherPorts });
    const renewal = renewTls(gateway.tls, "gateway.tls", { server, log, watch: watchFile });
    return {
      url: serverUrl(server, tls === undefined ? "http" : "https"),
      upstreams: upstreams.providers,
      place: front.state?.place,
      get asksForKey() {
        return front.asksForKey;
      },
      reload: () => renewal.renew(),
      close: async () => {
        renewal.stop();
        await server.close(gateway.grace);
        await closeAll();
      },
    };
  } catch (error) {
    await closeAll();
    throw error;
  }
}

interface Upstreams {
  readonly providers: readonly Provider[];
  readonly router: Router;
  close(): Promise<void>;
}

/** Throws `Error` for virtual models that lead in a circle. */
function openUpstreams(config: Config, log: Log, env: NonNullable<GatewayOptions["env"]>): Upstreams {
  const { gateway, timeouts, images } = config;
  const upstreams = Object.entries(gateway.upstreams).map(([name, entry]) => {
    const settings = { ...providerSettings(entry, config, env), kind: entry.kind, discreet: true };
    const provider = createProvider(name, settings, { log, heartbeat: timeouts.heartbeat, images });
    return { provider, weight: entry.weight };
  });
  const providers = upstreams.map(({ provider }) => provider);
  const router = createRouter({ upstreams, models: gateway.models, probeTimeout: timeouts.probe, log });
  return {
    providers,
    router,
    close: async () => {
      router.close();
      await Promise.all(providers.map((provider) => provider.close()));
    },
  };
}
