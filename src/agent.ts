import { randomUUID } from "node:crypto";
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { proxyFor } from "./config/proxy.ts";
import type { Config } from "./config/schema.ts";
import { agentQuestion } from "./core/agent-state.ts";
import type { Call, Handler } from "./core/call.ts";
import { isLoopback } from "./core/host-url.ts";
import type { Log } from "./core/log.ts";
import type { Outcome } from "./core/outcome.ts";
import type { Provider } from "./core/provider.ts";
import { accessLog } from "./pipeline/access-log.ts";
import { compose } from "./pipeline/compose.ts";
import { errors } from "./pipeline/errors.ts";
import { forwarder } from "./providers/forward.ts";
import { translatedRuntime } from "./providers/translated-runtime.ts";
import { watchFile } from "./state/file-watch.ts";
import { Agent } from "./tunnel/agent/agent.ts";
import type { AgentReport } from "./tunnel/agent/report.ts";
import { dial, type DialOptions } from "./tunnel/handshake/dial.ts";

export type { AgentReport, ConnectionReport } from "./tunnel/agent/report.ts";

export interface AgentOptions {
  readonly version: string;
  /** Where the proxy variables are read. */
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** Something that `state` tells, other than a count or a time, has changed. */
  readonly onChange?: () => void;
}

/** An agent at work. */
export interface RunningAgent {
  state(): AgentReport;
  /** Connects anew with the key and certificates that its files hold now; no call is lost. */
  renew(): void;
  /** Takes no further calls, lets those under way finish for at most `grace` milliseconds, then closes. */
  drain(grace: number): Promise<void>;
  /** Closes now; calls under way are lost. */
  close(): Promise<void>;
}

/** Connects the relay `agent.cloud` with the runtime at `agent.openai`. Throws `Error` where no relay is named. */
export function startAgent(config: Config, log: Log, options: AgentOptions): RunningAgent {
  const { cloud, openai } = config.agent;
  if (cloud === undefined) throw new Error("there is no relay to connect to: agent.cloud");
  const { connect, idle } = config.timeouts;
  const key = runtimeKey(config);
  const proxy = proxyFor(openai, options.env ?? {});
  const runtime = forwarder(
    { url: openai, ...(key === undefined ? {} : { key }), ...(proxy === undefined ? {} : { proxy }) },
    // How long a prompt may take is the runtime's to say, and the caller's.
    { connectTimeout: connect, firstByteTimeout: 0, idleTimeout: idle },
  );
  let translator: Promise<Provider> | undefined;
  const handler = compose(
    [errors(log)],
    translatedRuntime({
      forward: runtime.handle,
      build: () => (translator ??= buildTranslator(config, { key, log, env: options.env ?? {} })),
    }),
  );
  // Its own questions are to fail as they do.
  const agent = publish((call) => (call.id === agentQuestion ? runtime.handle(call) : handler(call)), cloud, {
    ...options,
    config,
    log,
    onOutcome: accessLog(log),
  });
  const close = async (): Promise<void> => {
    await Promise.all([runtime.close(), translator?.then((provider) => provider.close())]);
  };
  return {
    state: () => agent.state(),
    renew: () => agent.renew(),
    drain: (grace) => agent.drain(grace).then(close),
    close: () => agent.close().then(close),
  };
}

interface TranslatorParts {
  readonly key: string | undefined;
  readonly log: Log;
  readonly env: Readonly<Record<string, string | undefined>>;
}

/** What asks a server that is none of ours for chats, in place of what callers ask in other formats. Loaded when it is needed. */
async function buildTranslator(
  { agent, timeouts, images }: Config,
  { key, log, env }: TranslatorParts,
): Promise<Provider> {
  const { createProvider } = await import("./providers/index.ts");
  const { connect, idle, heartbeat } = timeouts;
  const limits = { connectTimeout: connect, firstByteTimeout: 0, idleTimeout: idle, discreet: true };
  const proxied = { proxyFor: (url: string | URL) => proxyFor(url, env), ...(key === undefined ? {} : { key }) };
  return createProvider(
    "runtime",
    { kind: "openai", urls: [agent.openai], ...limits, ...proxied },
    { log, heartbeat, images },
  );
}

/** What `publish` is told beside the handler and the relay. */
export interface Publication extends AgentOptions {
  readonly config: Config;
  readonly log: Log;
  readonly onOutcome?: (call: Call, outcome: Outcome) => void;
}

/** Makes what a handler answers reachable through a relay, as the settings of `agent` say. */
export function publish(handler: Handler, relay: string, publication: Publication): RunningAgent {
  const { config, log, version, env = {}, onChange, onOutcome } = publication;
  const { connections, capacity, name, transport } = config.agent;
  const instance = randomUUID();
  const proxy = proxyFor(relay, env);
  const agent = new Agent({
    dial: async (signal) =>
      dial(
        {
          relay,
          instance,
          version,
          transport,
          connectTimeout: dialTimeout,
          ...(proxy === undefined ? {} : { proxy }),
          ...(await credentials(config.agent, name)),
        },
        signal,
      ),
    handler,
    connections,
    capacity,
    version,
    instance,
    log: withField(log, { relay: new URL(relay).host }),
    bodyLimit: config.limits.body,
    ...(onOutcome === undefined ? {} : { onOutcome }),
    ...(onChange === undefined ? {} : { onChange }),
  });
  agent.start();
  const forget = watchKey(config.agent.keyFile, () => agent.renew());
  return {
    state: () => agent.state(),
    renew: () => agent.renew(),
    drain: (grace) => agent.drain(grace).finally(forget),
    close: () => agent.close().finally(forget),
  };
}

/** Says when the file has changed; what comes back ends that. */
function watchKey(path: string | undefined, changed: () => void): () => void {
  if (path === undefined) return () => undefined;
  const watch = watchFile(path, () => {
    // Between the removal of the old file and the new one there is none.
    if (existsSync(path)) changed();
  });
  return () => watch.close();
}

/** A log whose every line says this, too. */
function withField(log: Log, field: object): Log {
  return {
    debug: (fields, message) => log.debug({ ...field, ...fields }, message),
    info: (fields, message) => log.info({ ...field, ...fields }, message),
    warn: (fields, message) => log.warn({ ...field, ...fields }, message),
    error: (fields, message) => log.error({ ...field, ...fields }, message),
  };
}

/** For everything until a relay has agreed: names, a proxy, TLS, and a second way where the first is refused. */
const dialTimeout = 15_000;

/** Read for every connection anew, so that keys and certificates change without a restart. */
async function credentials(
  { key, keyFile, tls }: Config["agent"],
  name: string | undefined,
): Promise<Pick<DialOptions, "key" | "name" | "tls">> {
  const secret = keyFile === undefined ? key : await readKey(keyFile);
  const { ca, cert, key: tlsKey } = tls;
  const files = { ca, cert, key: tlsKey };
  const texts: Record<string, string> = {};
  for (const [part, path] of Object.entries(files))
    if (path !== undefined) texts[part] = await readText(path, `agent.tls.${part}`);
  return {
    ...(secret !== undefined ? { key: secret } : name === undefined ? {} : { name }),
    ...(Object.keys(texts).length === 0 ? {} : { tls: texts }),
  };
}

/** The key that a file holds. Throws `Error` where it holds none, or not only one. */
export async function readKey(path: string): Promise<string> {
  const key = (await readText(path, "agent.keyFile")).trim();
  if (key === "" || key.length > longestKey || /\s/.test(key))
    throw new Error(`agent.keyFile: ${path} must hold one key and nothing else`);
  return key;
}

const longestKey = 1000;

async function readText(path: string, setting: string): Promise<string> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    const { code = "" } = error as NodeJS.ErrnoException;
    const why = { ENOENT: "there is no such file", EACCES: "this user may not read it" }[code] ?? code;
    throw new Error(`${setting}: cannot read ${path}: ${why}`);
  }
}

/** The runtime of this machine asks for the first of the keys that are set here, as `lair run` knows. */
function runtimeKey({ agent, auth }: Config): string | undefined {
  return agent.openaiKey ?? (isLoopback(new URL(agent.openai).hostname) ? auth.keys[0] : undefined);
}
