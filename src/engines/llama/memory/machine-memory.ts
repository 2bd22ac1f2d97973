import { freemem, totalmem } from "node:os";
import { readSystemFile } from "./system-file.ts";

/** What the memory of a machine is read from. */
export interface MachineFacts {
  readonly platform: NodeJS.Platform;
  /** Text of a file of the system, or null. */
  readonly read: (path: string) => string | null;
  readonly total: number;
  readonly free: number;
}

export interface MachineMemory {
  /** Bytes that programs here may use at all: the machine's, or the limit of the container. */
  readonly total: number;
  /** Bytes that could be had now without pushing out other programs; null where the system does not tell. */
  readonly available: number | null;
}

/** The memory of this machine, now. */
export function readMachineMemory(facts: MachineFacts = thisMachine()): MachineMemory {
  if (facts.platform === "linux") return readLinux(facts);
  // macOS counts as free only what holds nothing at all, not even a cache that it would give back.
  return { total: facts.total, available: facts.platform === "darwin" ? null : facts.free };
}

function readLinux({ read, total: all, free }: MachineFacts): MachineMemory {
  const info = read("/proc/meminfo") ?? "";
  const kilobytes = (name: string): number | null => {
    const found = new RegExp(`^${name}:\\s+(\\d+) kB`, "m").exec(info);
    return found === null ? null : Number(found[1]) * 1024;
  };
  let total = kilobytes("MemTotal") ?? all;
  let available = kilobytes("MemAvailable") ?? free;
  for (const { limit, used } of readGroups(read)) {
    if (limit >= total) continue;
    total = limit;
    available = Math.min(available, Math.max(0, limit - used));
  }
  return { total, available };
}

/** The memory limits of the control groups above this process (versions 2 and 1), with what each has used but for caches. */
function* readGroups(read: MachineFacts["read"]): Generator<{ limit: number; used: number }> {
  for (const line of (read("/proc/self/cgroup") ?? "").split("\n")) {
    const [, controllers, path] = /^\d+:([^:]*):(\/.*)$/.exec(line) ?? [];
    if (path === undefined || controllers === undefined) continue;
    const second = controllers === "";
    if (!second && !controllers.split(",").includes("memory")) continue;
    const root = second ? "/sys/fs/cgroup" : "/sys/fs/cgroup/memory";
    const [limitName, usedName, cacheName] = second
      ? (["memory.max", "memory.current", "inactive_file"] as const)
      : (["memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"] as const);
    // Within a container the path may be the host's: then its own group is mounted at the root.
    const steps = path.split("/").filter((step) => step !== "");
    for (let depth = steps.length; depth >= 0; depth--) {
      const folder = [root, ...steps.slice(0, depth)].join("/");
      const limit = Number(read(`${folder}/${limitName}`)?.trim() || Number.NaN);
      if (!Number.isFinite(limit)) continue;
      const used = Number(read(`${folder}/${usedName}`)?.trim() || 0);
      const cache = Number(new RegExp(`^${cacheName} (\\d+)`, "m").exec(read(`${folder}/memory.stat`) ?? "")?.[1] ?? 0);
      yield { limit, used: used - cache };
    }
  }
}

function thisMachine(): MachineFacts {
  return { platform: process.platform, read: readSystemFile, total: totalmem(), free: freemem() };
}
