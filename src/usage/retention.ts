import type { Log } from "../core/log.ts";
import type { UsageStore } from "../state/state.ts";

export interface RetentionSettings {
  /** Milliseconds for which records are kept, and sums; and most records. */
  readonly keep: number;
  readonly keepSums: number;
  readonly most: number;
  readonly log: Log;
}

/** Milliseconds between two looks, and before the first: a start has other things to do. */
const pause = 3_600_000;
const firstPause = 60_000;

/** Forgets usage that is too old, or too much, every hour until it is stopped. Several processes may do so at once. */
export function retainUsage(usage: Pick<UsageStore, "trim">, settings: RetentionSettings): () => void {
  let timer: NodeJS.Timeout | undefined;
  let stopped = false;
  const wait = (milliseconds: number): void => {
    if (!stopped)
      timer = setTimeout(() => void trimUsage(usage, settings).then(() => wait(pause)), milliseconds).unref();
  };
  wait(firstPause);
  return () => {
    stopped = true;
    clearTimeout(timer);
  };
}

/** Once, now. Never rejects: what the state does not do today, it does an hour later. */
export async function trimUsage(
  usage: Pick<UsageStore, "trim">,
  { keep, keepSums, most, log }: RetentionSettings,
): Promise<void> {
  const now = Date.now();
  try {
    const forgotten = await usage.trim({ before: now - keep, most, sumsBefore: now - keepSums });
    if (forgotten > 0) log.info({ records: forgotten }, "usage records that are too old, or too many, are forgotten");
  } catch (error) {
    log.warn({ error: String(error) }, "old usage records cannot be forgotten now");
  }
}
