import { join } from "node:path";
import type { RunningAgent } from "./agent.ts";
import { health, ready, version } from "./admin/status.ts";
import { demoModel } from "./config/demo-model.ts";
import { checkExposure } from "./config/exposure.ts";
import { cacheFolder, dataFolder } from "./config/folders.ts";
import { modelSources } from "./config/model-sources.ts";
import { secondPorts } from "./config/second-port.ts";
import type { Config } from "./config/schema.ts";
import type { Handler } from "./core/call.ts";
import type { Log } from "./core/log.ts";
import type { Provider } from "./core/provider.ts";
import { fromEngine } from "./dialects/translate.ts";
import { describeEngine, type EngineReport } from "./engines/llama/builds/engine-report.ts";
import { LlamaEngine } from "./engines/llama/engine.ts";
import {
  type Addition,
  type Installed,
  installPackage,
  removePackage,
} from "./engines/llama/builds/package-install.ts";
import { openFront, providerSettings } from "./front.ts";
import { serverUrl } from "./http/server-bounds.ts";
import { folderStock } from "./model-stock.ts";
import { accessLog } from "./pipeline/access-log.ts";
import { Catalog } from "./pipeline/catalog.ts";
import { routes } from "./pipeline/routes.ts";
import { createProvider } from "./providers/index.ts";
import { withLlamaServer } from "./providers/llama-server.ts";

export interface RuntimeOptions {
  readonly version: string;
  /** Where the proxy variables are read. */
  readonly env?: Readonly<Record<string, string | undefined>>;
}

export interface Runtime {
  /** Where it listens, e.g. `http://127.0.0.1:18080`. */
  readonly url: string;
  readonly providers: readonly Provider[];
  /** Whether callers need a key now. */
  readonly asksForKey: boolean;
  /** Lets answers under way finish for as long as the configuration grants, then ends everything. */
  close(): Promise<void>;
}

type Env = NonNullable<RuntimeOptions["env"]>;

/** What the embedded engine would run on; each build is tried in a process of its own. */
export function reportEngine({ llama }: Config, env: Env): Promise<EngineReport> {
  return describeEngine({ gpu: llama.gpu, library: llama.library, dataFolder: dataFolder({ env }) });
}

/** Adds a build for a GPU to this user's folder; `onProgress` gets the bytes downloaded. Throws `LibraryError`. */
export function installEngine(addition: Addition, env: Env, onProgress: (bytes: number) => void): Promise<Installed> {
  const searchPath = env["PATH"] ?? env["Path"] ?? "";
  return installPackage({ dataFolder: dataFolder({ env }), addition, searchPath, onProgress });
}

/** Removes what `installEngine` added; false when there was nothing. Throws `LibraryError`. */
export function removeEngine(addition: Addition, env: Env): Promise<boolean> {
  return removePackage(dataFolder({ env }), addition);
}

/**
 * Builds a runtime from its configuration and starts to listen. Throws node's error when it cannot (`EADDRINUSE` …),
 * `StateError` for a state that cannot be opened, `ExposureError` where strangers could use it.
 */
export async function startRuntime(config: Config, log: Log, runtime: RuntimeOptions): Promise<Runtime> {
  const { timeouts, listen: address } = config;
  const env = runtime.env ?? {};
  const furtherPorts = secondPorts(config, address, config.providers);
  const front = await openFront(config, {
    role: "runtime",
    listenHost: address.host,
    exposure: (keys) => checkExposure(config, keys),
    version: runtime.version,
    log,
    env,
  });
  const providers = buildProviders(config, log, env);
  const catalog = new Catalog(providers, { defaultProvider: config.defaultProvider, probeTimeout: timeouts.probe });
  const own = {
    "/health": health,
    "/ready": ready(providers, timeouts.probe),
    "/version": version(runtime.version, "runtime"),
  };
  const answers = routes(catalog, own, log);
  const closeAll = async (): Promise<void> => {
    await Promise.all([front.close(), ...providers.map((provider) => provider.close())]);
  };
  try {
    const server = await front.around(answers, {}).listen(address, { furtherPorts });
    const published = await offer(front.published(answers), config, { ...runtime, log });
    return {
      url: serverUrl(server),
      providers,
      get asksForKey() {
        return front.asksForKey;
      },
      close: async () => {
        const grace = timeouts.shutdown;
        await Promise.all([published?.drain(grace), server.close(grace)]);
        await closeAll();
      },
    };
  } catch (error) {
    await closeAll();
    throw error;
  }
}

/**
 * Makes the runtime's answers reachable through the relay that `publish` names. Its callers have shown their key there,
 * and none of them is a web page that was led here.
 */
async function offer(
  handler: Handler,
  config: Config,
  { log, ...options }: RuntimeOptions & { readonly log: Log },
): Promise<RunningAgent | undefined> {
  if (config.publish === undefined) return undefined;
  // The tunnel is not loaded by those who do not use it.
  const { publish } = await import("./agent.ts");
  return publish(handler, config.publish, { ...options, config, log, onOutcome: accessLog(log) });
}

/**
 * Milliseconds that a stream of the embedded engine waits to be accepted. Only a prompt that may be too long has to wait at
 * all, for the model's tokenizer; told of it by a status, clients shorten the conversation, in the stream they give up.
 */
const acceptance = 10_000;

/** The embedded engine first, then the upstreams in the configuration's order. */
function buildProviders(config: Config, log: Log, env: NonNullable<RuntimeOptions["env"]>): Provider[] {
  const engine = new LlamaEngine(
    "llama_cpp",
    {
      ...config.llama,
      model: null,
      sources: modelSources(config.llama.model, { env }),
      demo: demoModel(config),
      dataFolder: dataFolder({ env }),
      cacheFolder: config.llama.cacheFolder ?? join(cacheFolder({ env }), "prompts"),
    },
    log,
  );
  const { heartbeat } = config.timeouts;
  const tools = { log, heartbeat, images: config.images };
  const upstreams = Object.entries(config.providers).map(([name, entry]) =>
    createProvider(name, { ...providerSettings(entry, config, env), kind: entry.kind }, tools),
  );
  const embedded = fromEngine(engine, { log, heartbeatInterval: heartbeat, headDelay: acceptance });
  const llama = config.llama.server === undefined ? embedded : withLlamaServer(embedded, engine, tools);
  return [{ ...llama, ...folderStock(config, env, (model) => engine.unload(model)) }, ...upstreams];
}
