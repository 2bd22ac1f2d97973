import { randomUUID } from "node:crypto";
import { startRuntime } from "../../src/app.ts";
import { loadConfig } from "../../src/config/load.ts";
import type { Log } from "../../src/core/log.ts";
import { holdGateway, openPlace, type Place } from "../support/gateway.ts";
import { callerKey, startChain } from "../support/tunnel-chain.ts";
import type { Way } from "./rows.ts";
import { kinds, openEmbeddedScene, openScene, type Part, type Scene } from "./scenes.ts";
import type { Task } from "./workplace.ts";

/** A request as the runtime has answered it. */
export interface Answered {
  readonly status: number;
  readonly method: string;
  readonly path: string;
  readonly model?: string;
  readonly end: string;
}

/** A server that a client is pointed at, and what stands behind it. */
export interface Target {
  /** Without a path. */
  readonly url: string;
  readonly key: string;
  readonly model: string;
  /** What the runtime has answered so far, and what it warned of. */
  readonly answered: readonly Answered[];
  readonly warnings: readonly string[];
  /** Aborted when the client asks again and again: it would without end. */
  readonly looping: AbortSignal;
  /** That of the gateway, if there is one. */
  readonly place?: Place;
  close(): Promise<void>;
}

/** The largest tasks make six requests; a client in an endless loop makes hundreds (clients.md R1). */
const tooManyRequests = 20;

type Closings = (() => Promise<void>)[];

/** The server of a way, with a model that plays the part. Behind relay and gateway stands the embedded engine. */
export async function openWay(way: Way, part: Part, task: Task): Promise<Target> {
  const kind = kinds.find((one) => one === way);
  const scene = kind === undefined ? openEmbeddedScene(part, task.home) : await openScene(kind, part);
  return openTarget(scene, task, way);
}

/** The same with a model of one's own. */
export async function openTarget(scene: Scene, task: Task, way: Way = "llama_cpp", env = {}): Promise<Target> {
  const closings: Closings = [() => scene.close()];
  const close = async (): Promise<void> => {
    for (const end of closings.splice(0).reverse()) await end();
  };
  const { log, ...seen } = watch();
  try {
    const key = `key-${randomUUID()}`;
    const runtime = await startHere(task, { LLM_V1_PROXY_TOKEN: key, ...scene.env, ...env }, log);
    closings.push(() => runtime.close());
    const server = await behind(way, { url: runtime.url, key }, closings);
    return { ...server, ...seen, model: scene.model, close };
  } catch (error) {
    await close();
    throw error;
  }
}

function watch(): Pick<Target, "answered" | "warnings" | "looping"> & { readonly log: Log } {
  const answered: Answered[] = [];
  const warnings: string[] = [];
  const loop = new AbortController();
  const warn = (fields: object, message: string): void => void warnings.push(`${message} ${JSON.stringify(fields)}`);
  const info = (fields: object, message: string): void => {
    if (message !== "request") return;
    answered.push(fields as Answered);
    if (answered.length > tooManyRequests) loop.abort();
  };
  return { answered, warnings, looping: loop.signal, log: { debug() {}, info, warn, error: warn } };
}

async function startHere(task: Task, env: Record<string, string>, log: Log): ReturnType<typeof startRuntime> {
  const variables = { RUNTIME_LISTEN_PORT: "0", XDG_DATA_HOME: task.home, LOCALAPPDATA: task.home, ...env };
  const { config } = await loadConfig({ env: variables, cwd: task.home, home: task.home });
  return startRuntime(config, log, { version: "0.0.0-test", env: variables });
}

type Server = Pick<Target, "url" | "key" | "place">;

async function behind(way: Way, runtime: Server, closings: Closings): Promise<Server> {
  if (way !== "relay" && way !== "gateway") return runtime;
  const chain = await startChain({ runtime: runtime.url, agentEnv: { LAIR_AGENT_OPENAI_KEY: runtime.key } });
  closings.push(() => chain.close());
  if (way === "relay") return { url: chain.url, key: callerKey };
  const place = await openPlace();
  closings.push(() => place.close());
  const key = await place.createKey("client", { models: ["llama_cpp:*"], limits: { requestsPerMinute: 600 } });
  const gateway = await holdGateway(place, `home=${chain.url}`, { LAIR_GATEWAY_UPSTREAMS_HOME_KEY: callerKey });
  closings.push(() => gateway.close());
  return { url: gateway.url, key, place };
}
