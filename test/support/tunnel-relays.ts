import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { type RunningAgent, startAgent } from "../../src/agent.ts";
import { type Relay, startRelay } from "../../src/cloud.ts";
import { loadConfig } from "../../src/config/load.ts";
import { silent } from "../../src/core/log.ts";
import { openState } from "../../src/open-state.ts";
import { openAgentDocument } from "../../src/state/agent-document.ts";
import { AgentKeys } from "../../src/state/agent-keys.ts";
import type { State } from "../../src/state/state.ts";
import { callerKey } from "./tunnel-chain.ts";
import { keptLog, type KeptLog, waitUntil } from "./tunnel-log.ts";

/** A relay of several that share their agents, in this process. */
export interface SharedRelay extends Relay {
  readonly log: KeptLog;
}

/** Relays that share a Redis, and agents of theirs. */
export class Relays {
  readonly keys: AgentKeys;
  readonly #folder = mkdtempSync(path.join(tmpdir(), "lair-relays-"));
  readonly #redis: string;
  readonly #state: State;
  readonly #ends: (() => Promise<void>)[] = [];

  private constructor(redis: string, state: State, keys: AgentKeys) {
    this.#redis = redis;
    this.#state = state;
    this.keys = keys;
  }

  /** `redis`: the address of the state. */
  static async open(redis: string): Promise<Relays> {
    const state = await openState(redis, { log: silent, replica: "test" });
    return new Relays(redis, state, new AgentKeys(await openAgentDocument(state)));
  }

  /** A further relay, with further variables. */
  async relay(env: Readonly<Record<string, string>> = {}): Promise<SharedRelay> {
    const log = keptLog();
    const config = await this.#configure({
      LAIR_STATE: this.#redis,
      LAIR_RELAY_PORT: "0",
      LAIR_RELAY_INTERNAL_PORT: "0",
      LAIR_RELAY_GRACE: "1s",
      LLM_V1_PROXY_TOKEN: callerKey,
      ...env,
    });
    const relay = await startRelay(config, log, { version: "0.0.0-test", env: { XDG_DATA_HOME: this.#folder } });
    this.#ends.push(() => relay.close());
    return Object.assign(relay, { log });
  }

  /** An agent at that relay, of the runtime at that address; waits until the relays named last can reach it. */
  async agent(name: string, relay: Relay, runtime: string, seen: readonly Relay[] = [relay]): Promise<RunningAgent> {
    const known = this.keys.list().some((agent) => agent.name === name);
    const { key } = known ? await this.keys.rotate(name) : await this.keys.add(name);
    const config = await this.#configure({
      LAIR_AGENT_CLOUD: relay.url,
      LAIR_AGENT_OPENAI: runtime,
      LAIR_AGENT_KEY: key,
    });
    const agent = startAgent(config, silent, { version: "0.0.0-test", env: {} });
    this.#ends.unshift(() => agent.close());
    for (const one of seen) await untilReady(one, name);
    return agent;
  }

  async close(): Promise<void> {
    for (const end of this.#ends) await end();
    this.keys.close();
    await this.#state.close();
    rmSync(this.#folder, { recursive: true, force: true, maxRetries: 5 });
  }

  async #configure(env: Record<string, string>): Promise<Awaited<ReturnType<typeof loadConfig>>["config"]> {
    return (await loadConfig({ env, cwd: this.#folder, home: this.#folder })).config;
  }
}

/** Waits until the relay can reach the agent, wherever it is. */
export function untilReady({ fleet }: Relay, name: string): Promise<void> {
  return waitUntil(() => fleet.agents().some((one) => one.name === name && one.ready), `the agent ${name} is ready`);
}

/** Waits until the relay cannot reach the agent any more. */
export function untilAway({ fleet }: Relay, name: string): Promise<void> {
  return waitUntil(
    () => !fleet.agents().some((one) => one.name === name && one.connections.some(({ draining }) => !draining)),
    `the agent ${name} is away`,
  );
}
