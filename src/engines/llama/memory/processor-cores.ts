import { availableParallelism } from "node:os";
import { readSystemFile } from "./system-file.ts";

/** What the number of cores is read from. */
export interface ProcessorFacts {
  readonly platform: NodeJS.Platform;
  readonly arch: string;
  /** Logical processors that this process may use, or as many as its quota of time is worth. */
  readonly logical: number;
  /** Text of `/proc/cpuinfo`, or null. */
  readonly cpuinfo: string | null;
  /** Text of `/proc/self/status`, or null. */
  readonly status: string | null;
}

/** Cores that compute: hyper-threads do not help matrices, and Node counts only logical processors. At least 1. */
export function physicalCores(facts: ProcessorFacts = thisProcessor()): number {
  const { logical } = facts;
  const told = facts.platform === "linux" ? fromLinux(facts) : null;
  if (told !== null) return Math.max(1, Math.min(told, logical));
  // Elsewhere: larger x64 machines mostly have two threads for each core; Apple's and other Arm machines have one.
  return facts.arch === "x64" && logical > 4 ? Math.ceil(logical / 2) : logical;
}

/** Null where the system does not tell. */
function fromLinux({ cpuinfo, status, logical }: ProcessorFacts): number | null {
  const allowed = readList(/^Cpus_allowed_list:\s*(\S+)/m.exec(status ?? "")?.[1]);
  const cores = new Set<string>();
  for (const block of (cpuinfo ?? "").split("\n\n")) {
    const field = (name: string): string | undefined => new RegExp(`^${name}\\s*:\\s*(\\d+)`, "m").exec(block)?.[1];
    const [processor, core] = [field("processor"), field("core id")];
    if (processor === undefined || core === undefined) continue;
    if (allowed === null || allowed.has(Number(processor))) cores.add(`${field("physical id") ?? 0}:${core}`);
  }
  // Arm's cpuinfo names no cores; there, each logical processor is one.
  return cores.size === 0 ? null : Math.min(cores.size, logical);
}

/** `0-3,8` → 0, 1, 2, 3, 8; null for no list. */
function readList(text: string | undefined): Set<number> | null {
  if (text === undefined) return null;
  const numbers = new Set<number>();
  for (const range of text.split(",")) {
    const [first = Number.NaN, last = first] = range.split("-").map(Number);
    for (let number = first; number <= last && numbers.size < 4096; number++) numbers.add(number);
  }
  return numbers;
}

function thisProcessor(): ProcessorFacts {
  return {
    platform: process.platform,
    arch: process.arch,
    logical: availableParallelism(),
    cpuinfo: readSystemFile("/proc/cpuinfo"),
    status: readSystemFile("/proc/self/status"),
  };
}
