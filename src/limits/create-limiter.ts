import { Account } from "./account.ts";
import { Carrier, type CarrierSettings } from "./carrier.ts";
import { isUnlimited } from "./limit-kinds.ts";
import type { Limiter, Reservation } from "./limiter.ts";
import { limitsUnknown } from "./refusal.ts";

/** A limiter that can tell whether it is alone. */
export interface LeasingLimiter extends Limiter {
  /** The state is away: limits hold for this process by itself. */
  readonly local: boolean;
}

/** Milliseconds after which a caller that is not seen is forgotten, and between looks for such. */
const longestAbsence = 600_000;
const sweepPause = 60_000;

/** What callers without limits hold. */
const unlimited: Reservation = Object.freeze({ headers: Object.freeze({}), settle: () => undefined });

/**
 * A limiter over meters that all replicas share. Of each meter this process holds a small share, which it spends
 * without asking; so all together never exceed a limit, and only a call at its very edge waits for the state.
 */
export function createLimiter(settings: CarrierSettings): LeasingLimiter {
  const carrier = new Carrier(settings);
  const accounts = new Map<string, Account>();
  const sweep = setInterval(() => {
    // What is held while the state is away is still to be said to it.
    if (!carrier.local) forgetAbsent(accounts);
  }, sweepPause);
  sweep.unref();
  return {
    get local() {
      return carrier.local;
    },
    reserve(principal, demand, spend) {
      const { id, limits } = principal;
      if (isUnlimited(limits)) return unlimited;
      if (carrier.lost) throw limitsUnknown();
      let account = accounts.get(id);
      if (account === undefined) {
        account = new Account(id, carrier);
        accounts.set(id, account);
      }
      account.seen = performance.now();
      return account.reserve(limits, demand, spend);
    },
    close() {
      clearInterval(sweep);
      return carrier.close();
    },
  };
}

function forgetAbsent(accounts: Map<string, Account>): void {
  const now = performance.now();
  for (const [id, account] of accounts) {
    if (account.underWay > 0 || now - account.seen < longestAbsence) continue;
    account.release();
    accounts.delete(id);
  }
}
