import {
  holdTime,
  type Meter,
  type MeterExchange,
  type MeterGrant,
  type MeterHold,
  type MeterStore,
} from "../../src/state/state.ts";

interface Level {
  level: number;
  capacity: number;
  at: number;
}

interface Held {
  count: number;
  until: number;
}

/** A meter store in memory, to be shared by several replicas as Redis would be; `now` is its clock, in milliseconds. */
export class MemoryMeters implements MeterStore {
  /** What it has granted of each meter, less what was given back, since the beginning. */
  readonly spent = new Map<string, number>();
  readonly #now: () => number;
  readonly #levels = new Map<string, Level>();
  readonly #holds = new Map<string, Map<string, Held>>();

  constructor(now: () => number = Date.now) {
    this.#now = now;
  }

  /** A way to it that a test can make slow, silent or broken, without touching the ways of others. */
  connect(): MeterConnection {
    return new MeterConnection(this);
  }

  exchange(exchanges: readonly MeterExchange[]): Promise<MeterGrant[]> {
    return Promise.resolve(exchanges.map((exchange) => this.#exchange(exchange)));
  }

  hold(replica: string, holds: readonly MeterHold[]): Promise<number[]> {
    return Promise.resolve(holds.map((hold) => this.#hold(replica, hold)));
  }

  /** How many all replicas hold now. */
  held(id: string): number {
    return sum(this.#live(id));
  }

  /** What is there now; its capacity for a meter that nobody has asked for yet. */
  level(meter: Meter): number {
    return this.#filled(meter).level;
  }

  #exchange({ meter, give, want, least }: MeterExchange): MeterGrant {
    const state = this.#filled(meter);
    state.level = Math.min(meter.capacity, state.level + give);
    const there = Math.min(want, Math.max(0, state.level));
    const granted = there < least ? 0 : there;
    state.level -= granted;
    this.spent.set(meter.id, (this.spent.get(meter.id) ?? 0) + granted - give);
    return { granted, level: state.level };
  }

  #filled(meter: Meter): Level {
    const now = this.#now();
    const state = this.#levels.get(meter.id) ?? { level: meter.capacity, capacity: meter.capacity, at: now };
    const passed = Math.max(0, now - state.at) / 1000;
    // What was used of a quota stays used when the quota is changed.
    const changed = meter.refill === 0 ? meter.capacity - state.capacity : 0;
    state.level = Math.min(meter.capacity, state.level + changed + passed * meter.refill);
    state.capacity = meter.capacity;
    state.at = now;
    this.#levels.set(meter.id, state);
    return state;
  }

  #hold(replica: string, { id, most, want }: MeterHold): number {
    const live = this.#live(id);
    const own = live.get(replica)?.count ?? 0;
    const others = sum(live) - own;
    const count = want <= own ? want : Math.max(Math.min(own, want), Math.min(want, most - others));
    live.set(replica, { count, until: this.#now() + holdTime });
    return count;
  }

  #live(id: string): Map<string, Held> {
    const holds = this.#holds.get(id) ?? new Map<string, Held>();
    this.#holds.set(id, holds);
    for (const [replica, held] of holds) if (held.until <= this.#now()) holds.delete(replica);
    return holds;
  }
}

/** One replica's way to a `MemoryMeters`. */
export class MeterConnection implements MeterStore {
  /** Every exchange asked for over it, one list a round trip. */
  readonly asked: (readonly MeterExchange[])[] = [];
  /** Every hold asked for over it, one list a round trip. */
  readonly heldFor: (readonly MeterHold[])[] = [];
  /** Milliseconds, there and back. */
  latency = 0;
  readonly #store: MemoryMeters;
  #failure: Error | undefined;
  #gate: Promise<void> | undefined;
  #open: (() => void) | undefined;

  constructor(store: MemoryMeters) {
    this.#store = store;
  }

  /** From now on everything asked for fails. */
  breaks(failure: Error): void {
    this.#failure = failure;
  }

  /** From now on everything asked for waits until `heals`. */
  hangs(): void {
    this.#gate ??= new Promise((resolve) => (this.#open = resolve));
  }

  /** It works again, and what waited goes through. */
  heals(): void {
    this.#failure = undefined;
    this.#open?.();
    this.#gate = undefined;
  }

  async exchange(exchanges: readonly MeterExchange[]): Promise<MeterGrant[]> {
    this.asked.push(exchanges);
    return this.#way(() => this.#store.exchange(exchanges));
  }

  async hold(replica: string, holds: readonly MeterHold[]): Promise<number[]> {
    this.heldFor.push(holds);
    return this.#way(() => this.#store.hold(replica, holds));
  }

  async #way<Answer>(ask: () => Promise<Answer>): Promise<Answer> {
    await this.#half();
    if (this.#gate !== undefined) await this.#gate;
    if (this.#failure !== undefined) throw this.#failure;
    const answer = await ask();
    await this.#half();
    return answer;
  }

  async #half(): Promise<void> {
    if (this.latency > 0) await new Promise((resolve) => setTimeout(resolve, this.latency / 2));
  }
}

function sum(held: ReadonlyMap<string, Held>): number {
  let all = 0;
  for (const { count } of held.values()) all += count;
  return all;
}
