import { readFileSync } from "node:fs";

/** How many processes this kernel has killed for want of memory since it started; null where it does not say (not Linux). */
export function countMemoryKills(): number | null {
  try {
    const match = /^oom_kill (\d+)$/m.exec(readFileSync("/proc/vmstat", "latin1"));
    return match === null ? null : Number(match[1]);
  } catch {
    return null;
  }
}
