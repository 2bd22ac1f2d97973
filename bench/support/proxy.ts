import type { ChildProcess } from "node:child_process";
import { mkdirSync, readFileSync, statSync, truncateSync } from "node:fs";
import { join } from "node:path";
import { familyOf, stop, temporaryFolder, until } from "./processes.ts";
import type { Upstream } from "./upstream.ts";

/** What stands between the clients and the upstream; "direct" is nothing. */
export interface Proxy {
  readonly name: string;
  readonly port: number;
  /** Headers that every request to it needs. */
  readonly headers: Readonly<Record<string, string>>;
  /** The upstream's model as this proxy's clients write it. */
  readonly model: string;
  /** Seconds from its start until it answered. */
  readonly readyAfter: number;
  /** What it is made of, from the clients' side to the upstream's. */
  readonly programs: readonly Program[];
  /** Its processes. */
  pids(): number[];
  /** Empties its logs, which else would fill the disk. */
  cutLog(): void;
  stop(): Promise<void>;
}

/** A started program. */
export interface Program {
  readonly child: ChildProcess;
  /** File with what it prints. */
  readonly log: string;
}

/** A folder for one proxy's files, readable by the other user that nginx's worker may run as. */
export function proxyFolder(): string {
  const folder = temporaryFolder();
  mkdirSync(join(folder, "logs"), { mode: 0o755 });
  return folder;
}

/** Wraps started programs as a proxy, once it answers. Throws with the ends of their logs when it does not. */
export async function proxyOf(
  programs: readonly Program[],
  facts: Pick<Proxy, "name" | "port" | "headers" | "model">,
  ready: (proxy: Pick<Proxy, "port" | "headers">) => Promise<boolean> = answers,
): Promise<Proxy> {
  const began = performance.now();
  try {
    await until(`${facts.name} ready`, 20, () => {
      const ended = programs.find(({ child }) => child.exitCode !== null);
      if (ended !== undefined) throw new Error(`${facts.name} ended with status ${ended.child.exitCode}`);
      return ready(facts);
    });
  } catch (error) {
    // The logs go with the bench.
    const logs = programs.map(({ log }) => `${log}:\n${readFileSync(log, "utf8").slice(-2000)}`);
    throw new Error([(error as Error).message, ...logs].join("\n"), { cause: error });
  }
  return {
    ...facts,
    readyAfter: (performance.now() - began) / 1000,
    programs,
    pids: () => programs.flatMap(({ child }) => familyOf(child.pid!)),
    cutLog: () => {
      for (const { log } of programs) if (statSync(log).size > 0) truncateSync(log);
    },
    stop: async () => {
      await Promise.all(programs.map(({ child }) => stop(child)));
    },
  };
}

/** No proxy at all; its processor time is the upstream's. */
export function directTo(upstream: Upstream): Proxy {
  return {
    name: "direct",
    port: upstream.port,
    headers: {},
    model: "bench-model",
    readyAfter: 0,
    programs: [],
    pids: () => [upstream.pid],
    cutLog: () => {},
    stop: async () => {},
  };
}

/** Whether it answers, whatever it answers. */
async function answers(proxy: Pick<Proxy, "port" | "headers">): Promise<boolean> {
  return (await models(proxy)) !== undefined;
}

/** Whether it lists the upstream's model, and names an agent that has it. */
export async function listsModel(proxy: Pick<Proxy, "port" | "headers">, agent: string): Promise<boolean> {
  const list = await models(proxy);
  return list?.includes('"bench-model"') === true && list.includes(`"${agent}"`);
}

async function models({ port, headers }: Pick<Proxy, "port" | "headers">): Promise<string | undefined> {
  try {
    return await (await fetch(`http://127.0.0.1:${port}/v1/models`, { headers })).text();
  } catch {
    return undefined;
  }
}
