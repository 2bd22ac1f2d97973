import type { Enrolled } from "../core/roster.ts";
import type { Meter, MeterExchange, MeterGrant } from "../state/state.ts";

/** What a lease needs of the one who carries its wishes to the state. */
export interface LeaseCarrier {
  /** Whether the state is away. */
  readonly local: boolean;
  /** Carries the lease's wish with the next exchange. */
  carry(lease: Lease): void;
  /** Looks at the lease at each beat until it is at rest. */
  watch(lease: Lease): void;
}

/** What a meter holds at most, and what comes back in a second; 0: nothing does. */
export interface MeterBounds {
  readonly capacity: number;
  readonly refill: number;
}

/** What went to the state and has not been answered. */
export interface Wish {
  readonly exchange: MeterExchange;
  readonly waiters: readonly Waiter[];
}

interface Waiter {
  readonly amount: number;
  readonly resolve: (taken: boolean) => void;
}

/** Beats for which what is in hand is kept though nobody takes of it. */
const patience = 2;
/** Most of a meter that may lie in one replica's hands ahead of demand, and most of what is left of it. */
const shareOfAll = 1 / 8;
const shareOfRest = 1 / 4;
/** Milliseconds after which a meter that was empty is asked again: others may have given back to it. */
const secondLook = 250;
/** Milliseconds that a meter which fills up again is kept after it is full, and a day's or month's after its end. */
const keptFull = 600_000;
const keptOver = 86_400_000;

/** A share of a meter in this replica's hands: spent here at once, fetched ahead of demand, given back when it lies idle. */
export class Lease implements Enrolled {
  place = -1;
  /** Set by the carrier. */
  watched = false;
  due = false;
  readonly id: string;
  /** When the day or month that it belongs to is over, in milliseconds since 1970; Infinity: it fills up again. */
  readonly ends: number;
  readonly #carrier: LeaseCarrier;
  #bounds: MeterBounds;
  /** Units in hand. Negative: more was used than was had, of which the state is to be told. */
  #held = 0;
  /** To be given back, whoever asks meanwhile. */
  #returning = 0;
  /** How much should be in hand; with less than half of it, more is fetched. */
  #aim = 0;
  /** What the state last said is left for all, and when (`performance.now()`). */
  #level: number;
  #levelAt = -Infinity;
  /** What was taken of the replica's own meter while the state was away. */
  #lent = 0;
  /** Units taken since the last beat, and in a usual beat. */
  #taken = 0;
  #usual = 0;
  #idle = 0;
  #asking = false;
  #waiters: Waiter[] = [];

  constructor(id: string, bounds: MeterBounds, ends: number, carrier: LeaseCarrier) {
    this.id = id;
    this.ends = ends;
    this.#bounds = bounds;
    this.#level = bounds.capacity;
    this.#carrier = carrier;
  }

  get capacity(): number {
    return this.#bounds.capacity;
  }

  /** Whether so much can be taken at once. */
  has(amount: number): boolean {
    return this.#held >= amount || (this.#carrier.local && this.#lend(amount));
  }

  /** Takes what `has` has said is there. */
  take(amount: number): void {
    this.#held -= amount;
    this.#taken += amount;
    if (!this.watched) this.#carrier.watch(this);
    if (this.#held * 2 < this.#aim && !this.#carrier.local && !this.#asking && !this.due && this.#ahead() >= 1)
      this.#carrier.carry(this);
  }

  /** Gives back what was taken and not used; a negative amount was used on top. */
  put(amount: number): void {
    this.#held += amount;
    if (!this.watched) this.#carrier.watch(this);
  }

  /** Whether the state may have so much, as far as is known: if not, it need not be asked. */
  mayHave(amount: number): boolean {
    if (this.#carrier.local) return false;
    const now = performance.now();
    return now - this.#levelAt >= secondLook || this.#there(now) + this.#held >= amount;
  }

  /** Takes as soon as the state has answered; false: it has not so much. */
  taking(amount: number): Promise<boolean> {
    return new Promise((resolve) => {
      this.#waiters.push({ amount, resolve });
      this.#carrier.carry(this);
    });
  }

  /** What is left for all, as far as is known; negative when more was used than there was. */
  get rest(): number {
    return Math.min(this.#bounds.capacity, this.#there(performance.now()) + this.#held);
  }

  /** Milliseconds until so much is there again, if nobody takes of it. */
  until(amount: number): number {
    const missing = amount - this.rest;
    if (this.#bounds.refill === 0) return Math.max(0, this.ends - Date.now());
    return missing <= 0 ? 0 : (missing / this.#bounds.refill) * 1000;
  }

  /** The quota is another one from now on: what was used of it stays used, what is in hand goes back, and the state is asked. */
  change(capacity: number): void {
    if (capacity === this.#bounds.capacity) return;
    this.#level += capacity - this.#bounds.capacity;
    this.#levelAt = -Infinity;
    this.#bounds = { ...this.#bounds, capacity };
    this.release();
  }

  /** All that is in hand goes back with the next exchange. */
  release(): void {
    this.#aim = 0;
    this.#taken = 0;
    if (this.#held <= 0) return;
    this.#returning += this.#held;
    this.#held = 0;
    if (!this.watched) this.#carrier.watch(this);
  }

  /** One beat of the carrier. True: there is something to tell the state. */
  beat(): boolean {
    this.#usual = (this.#usual + this.#taken) / 2;
    this.#idle = this.#taken > 0 ? 0 : this.#idle + 1;
    this.#taken = 0;
    this.#aim = this.#idle < patience ? Math.min(this.#usual * 2, this.#bounds.capacity * shareOfAll) : 0;
    if (this.#held > this.#aim * 2) {
      this.#returning += this.#held - this.#aim;
      this.#held = this.#aim;
    }
    return this.#returning > 0 || this.#held < 0;
  }

  get atRest(): boolean {
    return this.#held === 0 && this.#returning === 0 && this.#lent === 0 && this.#idle > patience && !this.#asking;
  }

  /** What it wants of the state now; undefined: nothing, or an answer is still to come. */
  wish(): Wish | undefined {
    if (this.#asking) return undefined;
    const waiters = this.#waiters;
    this.#waiters = [];
    const debt = Math.min(0, this.#held);
    const give = this.#returning + debt;
    const held = this.#held - debt;
    let all = 0;
    let smallest = Infinity;
    for (const { amount } of waiters) {
      all += amount;
      smallest = Math.min(smallest, amount);
    }
    const want = Math.max(0, all + this.#ahead() - held);
    if (give === 0 && want < 1 && waiters.length === 0) return undefined;
    this.#asking = true;
    this.#returning = 0;
    this.#held = held;
    const least = waiters.length === 0 ? 1 : Math.max(0, smallest - held);
    return { exchange: { meter: this.#meter(), give, want, least }, waiters };
  }

  /** The state's answer, in time. */
  answered(wish: Wish, grant: MeterGrant): void {
    this.#asking = false;
    this.#held += grant.granted;
    this.#level = grant.level;
    this.#levelAt = performance.now();
    for (const waiter of wish.waiters) this.#serve(waiter);
    this.#waiters = this.#waiters.filter((waiter) => !this.has(waiter.amount) || !this.#serve(waiter));
    if (this.#waiters.length > 0) this.#carrier.carry(this);
  }

  /**
   * No answer came in time. What was given back may have arrived, so it counts as given; what was owed is owed still.
   * Whoever waits is served here.
   */
  unanswered(wish: Wish): void {
    this.#asking = false;
    this.#held += Math.min(0, wish.exchange.give);
    this.#carrier.watch(this);
    for (const waiter of wish.waiters) this.#serve(waiter);
    this.serveAll();
  }

  /** The answer came after all: what was granted is in hand, and what was owed is paid. */
  answeredLate(wish: Wish, grant: MeterGrant): void {
    this.put(grant.granted - Math.min(0, wish.exchange.give));
  }

  /** Whoever waits is told now, by what is known here. */
  serveAll(): void {
    const waiters = this.#waiters;
    this.#waiters = [];
    for (const waiter of waiters) this.#serve(waiter);
  }

  /** The state is back: what was used meanwhile is owed to it. */
  reunite(): void {
    // Of what fills up again, what has come back since is not owed.
    const lacking = this.#bounds.refill === 0 ? Infinity : this.#bounds.capacity - this.#there(performance.now());
    this.#held -= Math.max(0, Math.min(this.#lent, lacking));
    this.#lent = 0;
    this.#levelAt = -Infinity;
    this.#aim = 0;
    this.#taken = 0;
  }

  #serve({ amount, resolve }: Waiter): boolean {
    const has = this.has(amount);
    if (has) this.take(amount);
    resolve(has);
    return true;
  }

  /** While the state is away, the replica has a meter of its own, as full as was last known. */
  #lend(amount: number): boolean {
    const now = performance.now();
    const there = this.#there(now);
    const missing = amount - this.#held;
    if (there < missing) return false;
    this.#level = there - missing;
    this.#levelAt = now;
    this.#lent += missing;
    this.#held += missing;
    return true;
  }

  /** What may be left in the state, by what it said last. */
  #there(now: number): number {
    if (this.#levelAt === -Infinity) return this.#level;
    const { capacity, refill } = this.#bounds;
    return Math.min(capacity, this.#level + ((now - this.#levelAt) / 1000) * refill);
  }

  /** How much should be in hand ahead of demand: two beats' worth, if the meter can spare it. */
  #ahead(): number {
    const demand = Math.max(this.#aim, this.#taken);
    const spare = Math.min(this.#bounds.capacity * shareOfAll, this.#there(performance.now()) * shareOfRest);
    return Math.max(0, Math.floor(Math.min(demand, spare)));
  }

  #meter(): Meter {
    const { capacity, refill } = this.#bounds;
    const filling = refill === 0 ? 0 : ((capacity - this.#level) / refill) * 1000;
    const expires = refill === 0 ? this.ends + keptOver : Date.now() + keptFull + filling;
    return { id: this.id, capacity, refill, expires };
  }
}
