import { randomBytes } from "node:crypto";
import { type AccessSettings, isAdministration } from "./access/access.ts";
import { withAllowedModels } from "./access/allowed-models.ts";
import { KeyRing } from "./access/key-ring.ts";
import { keyRoutes } from "./admin/keys.ts";
import type { Family } from "./admin/exposition.ts";
import { Metrics } from "./admin/metrics.ts";
import { type OwnRoutes, ownRoutes } from "./admin/own-routes.ts";
import { stateFamilies } from "./admin/state-families.ts";
import { health, version } from "./admin/status.ts";
import { usageRoutes } from "./admin/usage.ts";
import { asksForKey, ExposureError } from "./config/exposure.ts";
import { journalFolder, stateUrl } from "./config/folders.ts";
import { proxyFor } from "./config/proxy.ts";
import type { Config, ProviderConfig } from "./config/schema.ts";
import type { Call, Handler, Middleware } from "./core/call.ts";
import type { Log } from "./core/log.ts";
import type { Outcome } from "./core/outcome.ts";
import type { Upgrade, UpgradeTaker, UpgradeTakers } from "./core/upgrade.ts";
import { serverBounds } from "./http/server-bounds.ts";
import type { ServerTls } from "./http/server-tls.ts";
import type { RunningServer } from "./http/server.ts";
import { listenOnSeveral } from "./http/several-ports.ts";
import { createLimiter, type LeasingLimiter } from "./limits/create-limiter.ts";
import { line } from "./limits/line.ts";
import { accessLog } from "./pipeline/access-log.ts";
import { anthropicForms } from "./pipeline/anthropic-forms.ts";
import { apiForms } from "./pipeline/api-forms.ts";
import { compose } from "./pipeline/compose.ts";
import { errors } from "./pipeline/errors.ts";
import { entrance } from "./pipeline/entrance.ts";
import { withoutFront } from "./pipeline/guard.ts";
import { limits } from "./pipeline/limits.ts";
import type { ProviderSettings } from "./providers/settings.ts";
import { keptResponses } from "./responses/kept-responses.ts";
import { memoryStore } from "./responses/memory-store.ts";
import { admitted, responsesPath, ResponsesSockets } from "./responses/websocket.ts";
import type { State } from "./state/state.ts";
import { accounting } from "./usage/accounting.ts";
import { Journal } from "./usage/journal.ts";
import { toPrices } from "./usage/prices.ts";
import { retainUsage } from "./usage/retention.ts";
import { tokenizer } from "./usage/tokenizer.ts";

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
  /** The whole way of a call: this front, the server's own answers, and then `handler`. `families`: further metrics of it. */
  around(handler: Handler, own: OwnRoutes, families?: () => readonly Family[]): Way;
  /** For callers whose key and limits were looked at elsewhere: no more than what this process bears. */
  published(handler: Handler): Handler;
  /** To be told of every exchange when it is over. */
  readonly onOutcome: (call: Call, outcome: Outcome) => void;
  /** When no call is under way any more. */
  close(): Promise<void>;
}

/** The way in from outside. */
export interface Way {
  /**
   * Answers calls at this address, and WebSockets of the Responses API. Closing waits for both. Throws as
   * `listenOnSeveral` does.
   */
  listen(address: { readonly host: string; readonly port: number }, extras?: ListenExtras): Promise<RunningServer>;
}

/** What a role has beside calls. */
export interface ListenExtras {
  readonly tls?: ServerTls | undefined;
  readonly upgrades?: UpgradeTakers;
  /** Ports on which the same is answered. */
  readonly furtherPorts?: readonly number[];
}

/** Opens the state, where one is configured. Throws `StateError` when it cannot be used, `ExposureError` where strangers could call. */
export async function openFront(config: Config, options: FrontOptions): Promise<Front> {
  const { log, listenHost } = options;
  const families: (() => readonly Family[])[] = [];
  const metrics = new Metrics({ version: options.version, families });
  const ledger = await openLedger(config, options, metrics);
  if (ledger !== undefined) families.push(() => stateFamilies(ledger));
  const refused = options.exposure(ledger?.ring.size ?? 0);
  if (refused !== undefined) {
    await ledger?.close();
    throw new ExposureError(refused);
  }
  const accessSettings: AccessSettings = {
    tokens: config.auth.keys,
    adminTokens: config.auth.admin,
    ring: ledger?.ring,
    callerLimits: config.limits.caller,
    trustedProxies: config.proxies,
    log,
  };
  const logged = accessLog(log);
  // One of each for all ways in: what is bounded is this process.
  const bounded = [limits(config.limits.concurrent), line({ ...config.queue, heartbeat: config.timeouts.heartbeat })];
  const kept = keptResponses({
    store: ledger?.state.responses ?? memoryStore(config.responses.memory),
    lifetime: config.responses.keep,
    log,
  });
  const onOutcome: Front["onOutcome"] = (call, outcome) => {
    metrics.observe(call, outcome);
    logged(call, outcome);
  };
  return {
    state: ledger?.state,
    get asksForKey() {
      return asksForKey(config) || (ledger?.ring.size ?? 0) > 0;
    },
    around(handler, own, further) {
      if (further !== undefined) families.push(further);
      const counted = ledger === undefined ? [] : [ledger.counting(handler), withAllowedModels];
      const answers = ownRoutes(
        {
          "/health": health,
          "/version": version(options.version, options.role),
          "/metrics": metrics.handler,
          ...(ledger === undefined ? {} : { ...keyRoutes(ledger.state, ledger.ring), ...usageRoutes(ledger.state) }),
          ...own,
        },
        compose([apiForms(options.version), anthropicForms, kept.middleware, ...counted, ...bounded], handler),
      );
      const shield = config.insecure ? [] : [openToThisMachine(options.role)];
      const steps = [...entrance(config, { listenHost, access: accessSettings }), ...shield];
      return openWay(config, { steps, answers, onOutcome, log });
    },
    published: (handler) => compose([errors(log), ...bounded], handler),
    onOutcome,
    close: async () => {
      await kept.close();
      await ledger?.close();
    },
  };
}

interface WayParts {
  /** What every call goes through first. */
  readonly steps: readonly Middleware[];
  readonly answers: Handler;
  readonly onOutcome: Front["onOutcome"];
  readonly log: Log;
}

function openWay(config: Config, { steps, answers, onOutcome, log }: WayParts): Way {
  const handler = compose(steps, answers);
  const sockets = new ResponsesSockets({
    handler,
    entrance: compose(steps, () => Promise.resolve(admitted)),
    onOutcome,
    bodyLimit: config.limits.body,
    memory: config.responses.memory,
    stallTimeout: config.timeouts.request,
    log,
  });
  const take = (upgrade: Upgrade): void => sockets.take(upgrade);
  const own: [string, UpgradeTaker] = [responsesPath, { takes: "web-sockets", take }];
  return {
    listen: async ({ host, port }, { tls, upgrades = new Map(), furtherPorts = [] } = {}) => {
      const bounds = serverBounds(config);
      const options = { host, port, handler, log, onOutcome, upgrades: new Map([own, ...upgrades]), ...bounds };
      const server = await listenOnSeveral({ ...options, ...(tls === undefined ? {} : { tls }) }, furtherPorts);
      return {
        ...server,
        close: async (grace) => void (await Promise.all([server.close(grace), sockets.close(grace)])),
      };
    },
  };
}

/** Keys, limits and usage, where there is a state. */
interface Ledger {
  readonly state: State;
  readonly ring: KeyRing;
  readonly limiter: LeasingLimiter;
  readonly journal: Journal;
  /** What counts the calls that `handler` answers. */
  counting(handler: Handler): Middleware;
  close(): Promise<void>;
}

async function openLedger(
  config: Config,
  { role, log, env }: FrontOptions,
  metrics: Metrics,
): Promise<Ledger | undefined> {
  const url = role === "gateway" || config.state.url !== undefined ? stateUrl(config, { env }) : undefined;
  if (url === undefined) return undefined;
  const replica = randomBytes(6).toString("hex");
  // Whoever has no state loads none of it.
  const { openState } = await import("./open-state.ts");
  const state = await openState(url, { log, replica });
  try {
    const ring = await KeyRing.open(state, log);
    const journal = await Journal.open(journalFolder(url, { env }), { state, log });
    const limiter = createLimiter({ meters: state.meters, replica, grace: config.state.grace, log });
    const prices = toPrices(config.prices);
    const stopForgetting = retainUsage(state.usage, { ...config.usage, log });
    return {
      state,
      ring,
      limiter,
      journal,
      counting: (handler) =>
        accounting({
          limiter,
          journal,
          prices,
          capture: config.usage.capture,
          tokenize: tokenizer(handler),
          onRecord: (record) => metrics.count(record),
          onRefusal: (code) => metrics.refused(code),
        }),
      close: async () => {
        ring.close();
        stopForgetting();
        await Promise.all([limiter.close(), journal.close()]);
        await state.close();
      },
    };
  } catch (error) {
    await state.close();
    throw error;
  }
}

/**
 * Whoever is let in without a key must not have come through a front, behind which everybody looks like this machine. A
 * runtime's models may be shown that way; what it tells of itself may not.
 */
function openToThisMachine(role: FrontOptions["role"]): Middleware {
  const isShown = (path: string): boolean => role === "runtime" && path !== "/metrics" && !isAdministration(path);
  return (call, next) => (call.principal?.id !== "" || isShown(call.path) ? next(call) : withoutFront(call, next));
}

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
