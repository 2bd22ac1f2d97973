import type { AccessSettings } from "./access/access.ts";
import type { Family } from "./admin/exposition.ts";
import { type OwnRoutes, ownRoutes } from "./admin/own-routes.ts";
import { health, version } from "./admin/status.ts";
import { asksForKey, ExposureError } from "./config/exposure.ts";
import { proxyFor } from "./config/proxy.ts";
import type { Config, ProviderConfig } from "./config/schema.ts";
import type { Call, Handler, Middleware } from "./core/call.ts";
import type { Log } from "./core/log.ts";
import type { Outcome } from "./core/outcome.ts";
import { line } from "./limits/line.ts";
import { accessLog } from "./pipeline/access-log.ts";
import { compose } from "./pipeline/compose.ts";
import { errors } from "./pipeline/errors.ts";
import { entrance } from "./pipeline/entrance.ts";
import { withoutFront } from "./pipeline/guard.ts";
import { limits } from "./pipeline/limits.ts";
import type { ProviderSettings } from "./providers/settings.ts";
import type { State } from "./state/state.ts";

/** Where proxy variables and the user's folders are read. */
export type Env = Readonly<Record<string, string | undefined>>;

export interface FrontOptions {
  readonly role: "runtime" | "relay" | "gateway";
  /** The address listened on. */
  readonly listenHost: string;
  /** Why it must not listen with so many managed keys; undefined: it may. */
  readonly exposure: (keys: number) => string | undefined;
  readonly version: string;
  readonly log: Log;
  readonly env: Env;
}

/** What every call from outside goes through, whichever role the program has. */
export interface Front {
  /** What outlives this process; undefined where the configuration wants none. */
  readonly state: State | undefined;
  /** Whether callers need a key now. */
  readonly asksForKey: boolean;
  /** The whole way of a call: this front, the program's own answers, and then `handler`. `families`: further metrics. */
  around(handler: Handler, own: OwnRoutes, families?: () => readonly Family[]): Handler;
  /** For callers whose key and limits were looked at elsewhere: no more than what this process bears. */
  published(handler: Handler): Handler;
  /** To be told of every exchange when it is over. */
  readonly onOutcome: (call: Call, outcome: Outcome) => void;
  /** When no call is under way any more. */
  close(): Promise<void>;
}

/** Opens the state, where one is configured. Throws `StateError` when it cannot be used, `ExposureError` where strangers could call. */
export async function openFront(config: Config, options: FrontOptions): Promise<Front> {
  const { log, listenHost } = options;
  const refused = options.exposure(0);
  if (refused !== undefined) throw new ExposureError(refused);
  const accessSettings: AccessSettings = {
    tokens: config.auth.keys,
    adminTokens: config.auth.admin,
    callerLimits: config.limits.caller,
    trustedProxies: config.proxies,
    log,
  };
  const bounded = [limits(config.limits.concurrent), line({ ...config.queue, heartbeat: config.timeouts.heartbeat })];
  return {
    state: undefined,
    asksForKey: asksForKey(config),
    around(handler, own) {
      const answers = ownRoutes(
        { "/health": health, "/version": version(options.version, options.role), ...own },
        compose(bounded, handler),
      );
      const shielded = options.role === "runtime" || config.insecure ? [] : [openToThisMachine];
      return entrance(config, { listenHost, access: accessSettings }, compose(shielded, answers));
    },
    published: (handler) => compose([errors(log), ...bounded], handler),
    onOutcome: accessLog(log),
    close: () => Promise.resolve(),
  };
}

/** Whoever is let in without a key must not have come through a front, behind which everybody looks like this machine. */
const openToThisMachine: Middleware = (call, next) =>
  call.principal?.id === "" ? withoutFront(call, next) : next(call);

/** What a provider is told of its entry in the configuration. */
export function providerSettings(
  entry: Omit<ProviderConfig, "kind">,
  config: Config,
  env: Env,
): Omit<ProviderSettings, "kind"> {
  const { timeouts, ...rest } = entry;
  return {
    ...rest,
    connectTimeout: timeouts.connect ?? config.timeouts.connect,
    firstByteTimeout: timeouts.firstByte ?? config.timeouts.firstByte,
    idleTimeout: timeouts.idle ?? config.timeouts.idle,
    proxyFor: (url: string | URL) => proxyFor(url, env),
  };
}
