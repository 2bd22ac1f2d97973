import { readFileSync } from "node:fs";
import { availableParallelism, loadavg, release, totalmem } from "node:os";
import { lairVersion } from "./lair.ts";
import type { BenchOptions, Cores } from "./options.ts";

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

/** The machine, where processes are pinned to its cores, and which build of lair it is. */
export function describePinned(options: BenchOptions<string> & { readonly cores: Cores }): Record<string, string> {
  return {
    ...describeMachine(),
    cores: `proxy on core ${options.cores.proxy}; upstream and clients on core ${options.cores.load}`,
    lair: options.runtime === undefined ? lairVersion() : `${lairVersion()} (another build)`,
  };
}
