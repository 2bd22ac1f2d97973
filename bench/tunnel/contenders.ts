import { execFileSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { callersKey, keyHeaders } from "../support/lair.ts";
import { freePort, startPinned } from "../support/processes.ts";
import { listsModel, type Program, type Proxy, proxyFolder, proxyOf } from "../support/proxy.ts";

/** What lies between the two ends of a tunnel: the port to connect to in place of another. */
export type Line = (port: number) => number | Promise<number>;

/** Nothing. */
export const plainLine: Line = (port) => port;

/** A build of lair, and the core that it runs on. */
export interface Build {
  /** Its main file. */
  readonly main: string;
  readonly core: string;
}

/** A relay as a user would start it: callers need a key and agents need one, the log at its default, into a file. */
export class Relay {
  readonly port: number;
  readonly #build: Build;
  readonly #folder = proxyFolder();
  readonly #config = join(this.#folder, "lair.yaml");
  readonly #agents = join(this.#folder, "agents.json");

  private constructor(build: Build, port: number) {
    this.#build = build;
    this.port = port;
    const config = { auth: { keys: [callersKey] }, relay: { host: "127.0.0.1", port, agents: this.#agents } };
    writeFileSync(this.#config, JSON.stringify(config));
  }

  static async at(build: Build): Promise<Relay> {
    return new Relay(build, await freePort());
  }

  /** `lair cloud`. */
  start(): Program {
    return startLair(this.#build, ["cloud", "--config", this.#config], join(this.#folder, "logs", "relay.log"));
  }

  /** Registers an agent. */
  add(name: string, runtimePort: number, line: Line = plainLine): Agent {
    const args = [this.#build.main, "cloud", "agents", "add", name, "--agents", this.#agents];
    const printed = execFileSync(process.execPath, args, { encoding: "utf8" });
    const key = /lla_\S+/.exec(printed)?.[0];
    if (key === undefined) throw new Error(`lair cloud agents add printed no key, but: ${printed}`);
    const keyFile = join(this.#folder, `${name}.key`);
    writeFileSync(keyFile, `${key}\n`, { mode: 0o600 });
    const log = join(this.#folder, "logs", `${name}.log`);
    const start = async () => {
      const cloud = `http://127.0.0.1:${await line(this.port)}`;
      const openai = `http://127.0.0.1:${runtimePort}`;
      return startLair(this.#build, ["agent", "--cloud", cloud, "--openai", openai, "--key-file", keyFile], log);
    };
    return { name, start };
  }

  /** The tunnel that these programs make, once every agent's models are listed. */
  ready(programs: readonly Program[], agents: readonly string[]): Promise<Proxy> {
    const facts = { name: "lair", port: this.port, headers: keyHeaders, model: "bench-model" };
    return proxyOf(programs, facts, async (proxy) => {
      for (const agent of agents) if (!(await listsModel(proxy, agent))) return false;
      return true;
    });
  }
}

/** An agent of a relay. */
export interface Agent {
  readonly name: string;
  /** `lair agent`. */
  readonly start: () => Promise<Program>;
}

/** A relay and one agent, with a line in between. */
export async function startTunnel(build: Build, runtimePort: number, line: Line = plainLine): Promise<Proxy> {
  const relay = await Relay.at(build);
  const agent = relay.add("home", runtimePort, line);
  const programs = [relay.start(), await agent.start()];
  return relay.ready(programs, [agent.name]);
}

function startLair({ main, core }: Build, args: readonly string[], log: string): Program {
  return { child: startPinned({ command: process.execPath, args: [main, ...args], core, log }), log };
}
