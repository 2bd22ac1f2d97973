import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { type RunningAgent, startAgent } from "../../src/agent.ts";
import { type Relay, startRelay } from "../../src/cloud.ts";
import { loadConfig } from "../../src/config/load.ts";
import { AgentKeys } from "../../src/state/agent-keys.ts";
import { keptLog, type KeptLog, waitUntil } from "./tunnel-log.ts";

export interface ChainOptions {
  /** Address of what answers the calls. */
  readonly runtime: string;
  /** Names; one agent for each. Default: `home`. */
  readonly agents?: readonly string[];
  /** Further variables. */
  readonly relayEnv?: Readonly<Record<string, string>>;
  readonly agentEnv?: Readonly<Record<string, string>>;
  /** What the agents dial instead of the relay: a line or a front before it. */
  readonly front?: (relayUrl: string) => Promise<string>;
}

/** A relay and its agents in this process, connected. */
export interface Chain {
  readonly url: string;
  readonly relay: Relay;
  readonly agents: Map<string, RunningAgent>;
  readonly relayLog: KeptLog;
  readonly agentLog: KeptLog;
  readonly keys: AgentKeys;
  /** Starts a further agent. */
  beginAgent(name: string, env?: Readonly<Record<string, string>>): Promise<RunningAgent>;
  /** The same, and waits until the relay has it. */
  addAgent(name: string, env?: Readonly<Record<string, string>>): Promise<RunningAgent>;
  /** Waits until the relay has the agent and its runtime answers. */
  untilReady(name: string): Promise<void>;
  close(): Promise<void>;
}

/** Callers' key at every relay of a chain. */
export const callerKey = "caller-key-of-the-tests";
export const asCaller = { authorization: `Bearer ${callerKey}` };

/** Starts a relay, an agent for each name, and waits until each offers its models. */
export async function startChain(options: ChainOptions): Promise<Chain> {
  const folder = mkdtempSync(path.join(tmpdir(), "lair-chain-"));
  const relayLog = keptLog();
  const agentLog = keptLog();
  const file = path.join(folder, "agents.json");
  const keys = new AgentKeys(file);
  const relayConfig = await configure(folder, {
    LAIR_RELAY_PORT: "0",
    LAIR_RELAY_AGENTS: file,
    LAIR_RELAY_GRACE: "1s",
    LLM_V1_PROXY_TOKEN: callerKey,
    ...options.relayEnv,
  });
  const relay = await startRelay(relayConfig, relayLog, { version: "0.0.0-test", env: {} });
  const agents = new Map<string, RunningAgent>();
  const close = async (): Promise<void> => {
    await Promise.all([...agents.values()].map((agent) => agent.close()));
    await relay.close();
    keys.close();
    rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
  };
  const dialled = options.front === undefined ? relay.url : await options.front(relay.url);
  const untilReady = (name: string): Promise<void> =>
    waitUntil(() => relay.fleet.agents().some((one) => one.name === name && one.ready), `the agent ${name} is ready`);
  const beginAgent = async (name: string, env: Readonly<Record<string, string>> = {}): Promise<RunningAgent> => {
    const { key } = await keys.add(name);
    const more = { ...options.agentEnv, ...env };
    const config = await configure(folder, {
      LAIR_AGENT_CLOUD: dialled,
      LAIR_AGENT_OPENAI: options.runtime,
      LAIR_AGENT_KEY: key,
      ...more,
    });
    const agent = startAgent(config, agentLog, { version: "0.0.0-test", env: more });
    agents.set(name, agent);
    return agent;
  };
  const addAgent = async (name: string, env: Readonly<Record<string, string>> = {}): Promise<RunningAgent> => {
    const agent = await beginAgent(name, env);
    await untilReady(name);
    return agent;
  };
  try {
    for (const name of options.agents ?? ["home"]) await addAgent(name);
  } catch (error) {
    await close();
    throw error;
  }
  return { url: relay.url, relay, agents, relayLog, agentLog, keys, beginAgent, addAgent, untilReady, close };
}

async function configure(
  cwd: string,
  env: Record<string, string>,
): Promise<Awaited<ReturnType<typeof loadConfig>>["config"]> {
  return (await loadConfig({ env, cwd, home: cwd })).config;
}
