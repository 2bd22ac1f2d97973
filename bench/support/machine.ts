import { readFileSync } from "node:fs";
import { availableParallelism, loadavg, release, totalmem } from "node:os";
import { lairVersion } from "./lair.ts";
import { nginxVersion } from "./nginx.ts";
import type { Options } from "./options.ts";
import { portkeyVersions } from "./portkey.ts";

/** The machine, as far as figures depend on it. No names of hosts or users. */
export function describeMachine(): Record<string, string> {
  const cpu = readFileSync("/proc/cpuinfo", "utf8");
  const model = /model name\s*:\s*(.*)/.exec(cpu)?.[1] ?? process.arch;
  const virtual = /flags\s*:.*\bhypervisor\b/.test(cpu) ? ", virtual machine" : "";
  return {
    processor: `${model}, ${availableParallelism()} cores${virtual}`,
    memory: `${Math.round(totalmem() / 2 ** 30)} GB`,
    kernel: `Linux ${release()}`,
    "load average at the start": loadavg()
      .map((load) => load.toFixed(2))
      .join(" "),
    node: process.versions.node,
  };
}

/** The machine and the programs of the proxy bench. */
export function describeProxyBench(options: Options): Record<string, string> {
  return {
    ...describeMachine(),
    cores: `proxy on core ${options.cores.proxy}; upstream and clients on core ${options.cores.load}`,
    lair: options.runtime === undefined ? lairVersion() : `${lairVersion()} (another build)`,
    ...(options.only.includes("nginx") ? { nginx: nginxVersion() } : {}),
    ...(options.only.includes("portkey") ? portkeyVersions() : {}),
  };
}
