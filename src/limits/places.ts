import type { Enrolled } from "../core/roster.ts";
import { holdTime, type MeterHold } from "../state/state.ts";

/** What places need of the one who carries their wishes to the state. */
export interface PlacesCarrier {
  /** Whether the state is away. */
  readonly local: boolean;
  carryPlaces(places: Places): void;
  watchPlaces(places: Places): void;
}

/** Most of all places that may be held ahead of demand. */
const shareOfAll = 1 / 8;
/** Milliseconds for which nobody asks again after the state had no place: another replica's call may end at any time. */
const secondLook = 100;
/** Milliseconds after which the state hears of what is held, so that it does not forget it. */
const renewal = holdTime / 3;

/** Places for calls under way, shared by all replicas, as far as this one holds them. */
export class Places implements Enrolled {
  place = -1;
  /** Set by the carrier. */
  watched = false;
  due = false;
  readonly id: string;
  readonly #carrier: PlacesCarrier;
  #most: number;
  #used = 0;
  #held = 0;
  /** Most that was used at a time since the last beat, and in the one before. */
  #peak = 0;
  #before = 0;
  #refusedAt = -Infinity;
  #askedAt = -Infinity;
  #asking = false;
  #waiters: ((taken: boolean) => void)[] = [];
  /** Those whose wish is on its way. */
  #sent: ((taken: boolean) => void)[] = [];

  constructor(id: string, most: number, carrier: PlacesCarrier) {
    this.id = id;
    this.#most = most;
    this.#carrier = carrier;
  }

  get most(): number {
    return this.#most;
  }

  get used(): number {
    return this.#used;
  }

  get free(): boolean {
    return this.#used < this.#most && (this.#used < this.#held || this.#carrier.local);
  }

  take(): void {
    this.#used++;
    this.#peak = Math.max(this.#peak, this.#used);
    if (!this.watched) this.#carrier.watchPlaces(this);
  }

  leave(): void {
    this.#used--;
  }

  mayBeFree(): boolean {
    return !this.#carrier.local && this.#used < this.#most && performance.now() - this.#refusedAt >= secondLook;
  }

  /** Takes one as soon as the state has answered; false: it has none. */
  taking(): Promise<boolean> {
    return new Promise((resolve) => {
      this.#waiters.push(resolve);
      this.#carrier.carryPlaces(this);
    });
  }

  change(most: number): void {
    if (most > this.#most) this.#refusedAt = -Infinity;
    this.#most = most;
  }

  /** One beat of the carrier. True: there is something to tell the state. */
  beat(): boolean {
    const keep = Math.max(this.#peak, this.#before);
    this.#before = this.#peak;
    this.#peak = this.#used;
    return this.#held > keep || (this.#held > 0 && performance.now() - this.#askedAt >= renewal);
  }

  get atRest(): boolean {
    return this.#used === 0 && this.#held === 0 && !this.#asking;
  }

  wish(): MeterHold | undefined {
    if (this.#asking) return undefined;
    this.#asking = true;
    this.#askedAt = performance.now();
    this.#sent = this.#waiters;
    this.#waiters = [];
    const needed = this.#used + this.#sent.length;
    const ahead = this.#sent.length === 0 ? 0 : Math.floor(Math.min(this.#most * shareOfAll, needed / 2));
    const kept = Math.max(needed, this.#peak, this.#before);
    return { id: this.id, most: this.#most, want: Math.max(this.#used, Math.min(this.#most, kept + ahead)) };
  }

  answered(held: number): void {
    this.#asking = false;
    this.#held = held;
    for (const resolve of this.#sent) if (!this.#serve(resolve)) this.#refusedAt = performance.now();
    this.#sent = [];
    while (this.#waiters.length > 0 && this.free) this.#serve(this.#waiters.shift()!);
    if (this.#waiters.length > 0) this.#carrier.carryPlaces(this);
  }

  /** No answer came in time; whoever waits is served here. */
  unanswered(): void {
    this.#asking = false;
    for (const resolve of this.#sent) this.#serve(resolve);
    this.#sent = [];
    this.serveAll();
  }

  /** Whoever waits is told now, by what is known here. */
  serveAll(): void {
    const waiters = this.#waiters;
    this.#waiters = [];
    for (const resolve of waiters) this.#serve(resolve);
  }

  #serve(resolve: (taken: boolean) => void): boolean {
    const { free } = this;
    if (free) this.take();
    resolve(free);
    return free;
  }
}
