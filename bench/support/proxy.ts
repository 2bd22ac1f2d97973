import type { ChildProcess } from "node:child_process";
import { mkdirSync, statSync, truncateSync } from "node:fs";
import { join } from "node:path";
import { groupOf, stop, temporaryFolder, until } from "./processes.ts";
import type { ProxyName } from "./options.ts";

/** What stands between the clients and the upstream; "direct" is nothing. */
export interface Proxy {
  readonly name: ProxyName | "direct";
  readonly port: number;
  /** Headers that every request to it needs. */
  readonly headers: Readonly<Record<string, string>>;
  /** The upstream's model as this proxy's clients write it. */
  readonly model: string;
  /** Its processes. */
  pids(): number[];
  /** Empties its log, which else would fill the disk. */
  cutLog(): void;
  stop(): Promise<void>;
}

/** A folder for one proxy's files, readable by the other user that nginx's worker may run as. */
export function proxyFolder(): string {
  const folder = temporaryFolder();
  mkdirSync(join(folder, "logs"), { mode: 0o755 });
  return folder;
}

/** Wraps a started program as a proxy, once it accepts connections. Throws with its log's place when it does not. */
export async function proxyOf(
  child: ChildProcess,
  log: string,
  facts: Omit<Proxy, "pids" | "cutLog" | "stop">,
): Promise<Proxy> {
  await until(`${facts.name} ready (its log: ${log})`, 20, () => {
    if (child.exitCode !== null) throw new Error(`${facts.name} ended with status ${child.exitCode}; its log: ${log}`);
    return answers(facts.port);
  });
  return {
    ...facts,
    pids: () => groupOf(child.pid!),
    cutLog: () => {
      if (statSync(log).size > 0) truncateSync(log);
    },
    stop: () => stop(child),
  };
}

async function answers(port: number): Promise<boolean> {
  try {
    const reply = await fetch(`http://127.0.0.1:${port}/v1/models`);
    await reply.arrayBuffer();
    return true;
  } catch {
    return false;
  }
}
