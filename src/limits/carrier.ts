import { afterPoll } from "../core/after-poll.ts";
import type { Log } from "../core/log.ts";
import { Roster } from "../core/roster.ts";
import type { MeterStore } from "../state/state.ts";
import type { Lease, LeaseCarrier, Wish } from "./lease.ts";
import type { Places, PlacesCarrier } from "./places.ts";

export interface CarrierSettings {
  readonly meters: MeterStore;
  /** Names this process among all that share the meters. */
  readonly replica: string;
  /** Milliseconds for which limits are kept here alone while the state is away; after it, callers with limits are refused. */
  readonly grace: number;
  readonly log: Log;
  /** Told when the state goes away and when it is back. */
  readonly onState?: (away: boolean) => void;
}

/** Milliseconds between beats, at which idle shares go back. */
const beat = 100;
/** Longest that a call waits for the state, in milliseconds. */
const longestWait = 250;
/** Milliseconds between questions to a state that is away, and after which one that got no answer is given up. */
const probePause = 1000;
const probeLimit = 5000;
/** Meters in one exchange, so that no other user of the state waits long behind it. */
const mostAtOnce = 256;

interface Carried {
  readonly lease: Lease;
  readonly wish: Wish;
}

/** Carries what leases and places want to the state, many in one step, and tells whether the state answers. */
export class Carrier implements LeaseCarrier, PlacesCarrier {
  readonly #settings: CarrierSettings;
  readonly #leases = new Roster<Lease>();
  readonly #places = new Roster<Places>();
  #dueLeases: Lease[] = [];
  #duePlaces: Places[] = [];
  #scheduled = false;
  #timer: NodeJS.Timeout | undefined;
  #awaySince: number | undefined;
  #probedAt = -Infinity;
  #probing = false;
  #closed = false;

  constructor(settings: CarrierSettings) {
    this.#settings = settings;
  }

  get local(): boolean {
    return this.#awaySince !== undefined;
  }

  /** The state has been away for longer than limits may be kept without it. */
  get lost(): boolean {
    return this.#awaySince !== undefined && performance.now() - this.#awaySince >= this.#settings.grace;
  }

  carry(lease: Lease): void {
    if (lease.due) return;
    lease.due = true;
    this.#dueLeases.push(lease);
    this.#schedule();
  }

  carryPlaces(places: Places): void {
    if (places.due) return;
    places.due = true;
    this.#duePlaces.push(places);
    this.#schedule();
  }

  watch(lease: Lease): void {
    if (lease.watched) return;
    lease.watched = true;
    this.#leases.enter(lease);
    this.#wind();
  }

  watchPlaces(places: Places): void {
    if (places.watched) return;
    places.watched = true;
    this.#places.enter(places);
    this.#wind();
  }

  /** Gives back all that is in hand, as far as the state answers soon. */
  async close(): Promise<void> {
    clearInterval(this.#timer);
    if (this.local) return;
    for (const lease of this.#leases.list()) {
      lease.release();
      this.carry(lease);
    }
    const replica = this.#settings.replica;
    const holds = this.#places.list().map(({ id, most }) => ({ id, most, want: 0 }));
    const given = [this.#flush()];
    if (holds.length > 0) given.push(this.#settings.meters.hold(replica, holds).then(() => undefined));
    this.#closed = true;
    let timer: NodeJS.Timeout | undefined;
    const enough = new Promise<void>((resolve) => (timer = setTimeout(resolve, longestWait)));
    await Promise.race([Promise.allSettled(given), enough]);
    clearTimeout(timer);
  }

  /** What is wanted within one turn of the event loop goes together. */
  #schedule(): void {
    if (this.#scheduled || this.#closed) return;
    this.#scheduled = true;
    afterPoll(() => {
      this.#scheduled = false;
      void this.#flush();
    });
  }

  async #flush(): Promise<void> {
    const leases = this.#dueLeases;
    const places = this.#duePlaces;
    this.#dueLeases = [];
    this.#duePlaces = [];
    for (const one of leases) one.due = false;
    for (const one of places) one.due = false;
    if (this.local) {
      for (const one of leases) one.serveAll();
      for (const one of places) one.serveAll();
      return;
    }
    const carried: Carried[] = [];
    for (const lease of leases) {
      const wish = lease.wish();
      if (wish !== undefined) carried.push({ lease, wish });
    }
    const sent: Promise<void>[] = [];
    for (let from = 0; from < carried.length; from += mostAtOnce)
      sent.push(this.#exchange(carried.slice(from, from + mostAtOnce)));
    if (places.length > 0) sent.push(this.#hold(places));
    await Promise.all(sent);
  }

  async #exchange(carried: readonly Carried[]): Promise<void> {
    const { meters } = this.#settings;
    await this.#ask(() => meters.exchange(carried.map(({ wish }) => wish.exchange)), {
      answered: (grants) => carried.forEach(({ lease, wish }, index) => lease.answered(wish, grants[index]!)),
      late: (grants) => carried.forEach(({ lease, wish }, index) => lease.answeredLate(wish, grants[index]!)),
      unanswered: () => {
        for (const { lease, wish } of carried) lease.unanswered(wish);
      },
    });
  }

  async #hold(due: readonly Places[]): Promise<void> {
    const wishes = due.flatMap((places) => {
      const hold = places.wish();
      return hold === undefined ? [] : [{ places, hold }];
    });
    if (wishes.length === 0) return;
    const { meters, replica } = this.#settings;
    const holds = wishes.map(({ hold }) => hold);
    await this.#ask(() => meters.hold(replica, holds), {
      answered: (held) => wishes.forEach(({ places }, index) => places.answered(held[index]!)),
      // The next hold says anew how many there are.
      late: () => undefined,
      unanswered: () => {
        for (const { places } of wishes) places.unanswered();
      },
    });
  }

  /** Asks the state, and tells of the answer, that none came in time, or of the one that came after all. */
  #ask<Answer>(question: () => Promise<Answer>, told: Told<Answer>): Promise<void> {
    return new Promise((resolve) => {
      let waiting = true;
      const giveUp = (problem: unknown): void => {
        if (!waiting) return;
        waiting = false;
        clearTimeout(timer);
        this.#goneAway(problem);
        told.unanswered();
        resolve();
      };
      const timer = setTimeout(() => {
        // After a long turn of this process, an answer that came in time lies unread.
        setImmediate(giveUp, `no answer within ${longestWait} ms`);
      }, longestWait);
      attempt(question).then((answer) => {
        if (!waiting) return told.late(answer);
        waiting = false;
        clearTimeout(timer);
        told.answered(answer);
        resolve();
      }, giveUp);
    });
  }

  #goneAway(problem: unknown): void {
    if (this.#awaySince !== undefined || this.#closed) return;
    this.#awaySince = performance.now();
    this.#probedAt = this.#awaySince;
    this.#wind();
    const { grace, log, onState } = this.#settings;
    log.warn({ problem: String(problem), grace }, "the state does not answer: limits are kept by this process alone");
    onState?.(true);
  }

  #isBack(): void {
    if (this.#awaySince === undefined || this.#closed) return;
    const away = Math.round(performance.now() - this.#awaySince);
    this.#awaySince = undefined;
    for (const lease of this.#leases.list()) {
      lease.reunite();
      this.carry(lease);
    }
    for (const places of this.#places.list()) this.carryPlaces(places);
    this.#settings.log.info({ away }, "the state answers again: limits are shared");
    this.#settings.onState?.(false);
  }

  #wind(): void {
    if (this.#timer !== undefined || this.#closed) return;
    this.#timer = setInterval(() => this.#beat(), beat);
    this.#timer.unref();
  }

  #beat(): void {
    if (this.local) return this.#probe();
    for (const lease of this.#leases.list()) {
      if (lease.beat()) this.carry(lease);
      else if (lease.atRest) {
        this.#leases.leave(lease);
        lease.watched = false;
      }
    }
    for (const places of this.#places.list()) {
      if (places.beat()) this.carryPlaces(places);
      else if (places.atRest) {
        this.#places.leave(places);
        places.watched = false;
      }
    }
    if (this.#leases.size > 0 || this.#places.size > 0) return;
    clearInterval(this.#timer);
    this.#timer = undefined;
  }

  #probe(): void {
    const now = performance.now();
    const since = now - this.#probedAt;
    if (since < probePause || (this.#probing && since < probeLimit)) return;
    this.#probedAt = now;
    this.#probing = true;
    const meter = { id: "probe", capacity: 1, refill: 1, expires: Date.now() + 60_000 };
    attempt(() => this.#settings.meters.exchange([{ meter, give: 0, want: 0, least: 0 }])).then(
      () => {
        this.#probing = false;
        if (performance.now() - now <= longestWait) this.#isBack();
      },
      () => (this.#probing = false),
    );
  }
}

interface Told<Answer> {
  readonly answered: (answer: Answer) => void;
  readonly late: (answer: Answer) => void;
  readonly unanswered: () => void;
}

async function attempt<Answer>(question: () => Promise<Answer>): Promise<Answer> {
  return question();
}
