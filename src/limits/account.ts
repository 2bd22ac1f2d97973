import type { CallerLimits } from "../core/access.ts";
import type { Headers } from "../core/call.ts";
import { type Demand, usualOutput } from "../core/demand.ts";
import type { ApiError } from "../core/errors.ts";
import { type Today, todayOf } from "./calendar.ts";
import type { Carrier } from "./carrier.ts";
import { Lease, type MeterBounds } from "./lease.ts";
import { type LimitKind, limitKinds } from "./limit-kinds.ts";
import type { Reservation } from "./limiter.ts";
import { Places } from "./places.ts";
import { formatReset, limitReached, limitsUnknown, neverFits, nothingAllowed, placesTaken } from "./refusal.ts";

interface Limit {
  readonly kind: LimitKind;
  readonly lease: Lease;
}

/** What one call takes, an amount for each limit. */
interface Taking {
  readonly limits: readonly Limit[];
  readonly amounts: readonly number[];
  readonly places: Places | undefined;
}

/** One caller's limits, with what this replica has in hand of each. */
export class Account {
  /** When it was last asked, by `performance.now()`. */
  seen = 0;
  /** Calls whose reservation is not settled. */
  underWay = 0;
  readonly #principal: string;
  readonly #carrier: Carrier;
  #callerLimits: CallerLimits = {};
  #today: Today | undefined;
  #limits: readonly Limit[] = [];
  #requests: Lease | undefined;
  #tokens: Lease | undefined;
  /** Kept when the limit goes, for the calls under way. */
  #places: Places | undefined;
  #concurrent: number | undefined;

  constructor(principal: string, carrier: Carrier) {
    this.#principal = principal;
    this.#carrier = carrier;
  }

  /** Takes for one call of a caller with these limits. Throws `ApiError`, or rejects with it where the state must be asked. */
  reserve(limits: CallerLimits, demand: Demand, spend: number): Reservation | Promise<Reservation> {
    const today = todayOf(Date.now());
    if (limits !== this.#callerLimits || today !== this.#today) this.#adopt(limits, today);
    const taking = this.#taking(demand, spend);
    let all = taking.places === undefined || taking.places.free;
    for (let at = 0; all && at < taking.limits.length; at++) all = isThere(taking, at);
    if (!all) return this.#reserveLater(taking);
    for (let at = 0; at < taking.limits.length; at++) take(taking, at);
    taking.places?.take();
    return new Taken(this, taking);
  }

  /** Gives all back but what is in use, for it will not be asked soon. */
  release(): void {
    for (const { lease } of this.#limits) lease.release();
  }

  /** `x-ratelimit-*`, as OpenAI has them. */
  headers(): Headers {
    const headers: Headers = {};
    const requests = this.#requests;
    const tokens = this.#tokens;
    if (requests !== undefined) {
      headers["x-ratelimit-limit-requests"] = String(requests.capacity);
      headers["x-ratelimit-remaining-requests"] = String(wholeRest(requests));
      headers["x-ratelimit-reset-requests"] = formatReset(requests.until(requests.capacity));
    }
    if (tokens !== undefined) {
      headers["x-ratelimit-limit-tokens"] = String(tokens.capacity);
      headers["x-ratelimit-remaining-tokens"] = String(wholeRest(tokens));
      headers["x-ratelimit-reset-tokens"] = formatReset(tokens.until(tokens.capacity));
    }
    return headers;
  }

  #taking(demand: Demand, spend: number): Taking {
    const limits = this.#limits;
    const amounts: number[] = [];
    for (const { kind, lease } of limits) amounts.push(amountOf(kind, lease.capacity, demand, spend));
    if (this.#concurrent === 0) throw nothingAllowed({ field: "concurrent" });
    return { limits, amounts, places: this.#concurrent === undefined ? undefined : this.#places };
  }

  /** Takes what is here and asks for the rest: all, or nothing. */
  async #reserveLater(taking: Taking): Promise<Reservation> {
    const { limits, places } = taking;
    this.#refuseUnlessPossible(taking);
    const taken = limits.map(({ lease }, at): boolean | Promise<boolean> => {
      if (!isThere(taking, at)) return lease.taking(taking.amounts[at]!);
      take(taking, at);
      return true;
    });
    const placed = places === undefined || takePlace(places);
    // So that the account is not forgotten meanwhile.
    this.underWay++;
    const got: boolean[] = [];
    for (const one of taken) got.push(await one);
    const gotPlace = await placed;
    this.underWay--;
    const failed = got.indexOf(false);
    const { lost } = this.#carrier;
    if (failed === -1 && gotPlace && !lost) return new Taken(this, taking);
    for (let at = 0; at < limits.length; at++) if (got[at] === true) limits[at]!.lease.put(taking.amounts[at]!);
    if (gotPlace) places?.leave();
    if (lost) throw limitsUnknown();
    throw failed === -1 ? placesTaken(places!.most, this.headers()) : this.#refusal(taking, failed);
  }

  /** Throws when one of the limits is known not to allow it. */
  #refuseUnlessPossible(taking: Taking): void {
    const { limits, amounts, places } = taking;
    for (let at = 0; at < limits.length; at++)
      if (!isThere(taking, at) && !limits[at]!.lease.mayHave(amounts[at]!)) throw this.#refusal(taking, at);
    if (places !== undefined && !places.free && !places.mayBeFree()) throw placesTaken(places.most, this.headers());
  }

  #refusal({ limits, amounts }: Taking, at: number): ApiError {
    const { kind, lease } = limits[at]!;
    const { capacity, rest } = lease;
    const amount = amounts[at]!;
    return limitReached({ kind, capacity, amount, rest, until: lease.until(amount) }, this.headers());
  }

  /** The caller's limits are others, or the day is. */
  #adopt(callerLimits: CallerLimits, today: Today): void {
    const before = this.#limits;
    const after: Limit[] = [];
    for (const kind of limitKinds) {
      const value = callerLimits[kind.field];
      if (value === undefined) continue;
      const bounds = toBounds(kind, value);
      const id = this.#idOf(kind, bounds, today);
      const known = before.find(({ lease }) => lease.id === id);
      known?.lease.change(bounds.capacity);
      const ends = kind.span === "minute" ? Infinity : kind.span === "day" ? today.dayEnd : today.monthEnd;
      after.push(known ?? { kind, lease: new Lease(id, bounds, ends, this.#carrier) });
    }
    for (const old of before) if (!after.includes(old)) old.lease.release();
    this.#limits = after;
    this.#requests = after.find(({ kind }) => kind.field === "requestsPerMinute")?.lease;
    this.#tokens = after.find(({ kind }) => kind.field === "tokensPerMinute")?.lease;
    this.#concurrent = callerLimits.concurrent;
    if (this.#concurrent !== undefined) {
      this.#places ??= new Places(`${this.#principal}/concurrent`, this.#concurrent, this.#carrier);
      this.#places.change(this.#concurrent);
    }
    this.#callerLimits = callerLimits;
    this.#today = today;
  }

  /** Of a bucket, its size is a part: a smaller one is another, full at first, and no heir to what the old one lacked. */
  #idOf({ name, span }: LimitKind, { capacity }: MeterBounds, { day, month }: Today): string {
    const last = span === "minute" ? capacity : span === "day" ? day : month;
    return `${this.#principal}/${name}/${last}`;
  }
}

/** What a call holds until it is settled. */
class Taken implements Reservation {
  readonly #account: Account;
  readonly #taking: Taking;
  #settled = false;

  constructor(account: Account, taking: Taking) {
    this.#account = account;
    this.#taking = taking;
    account.underWay++;
  }

  get headers(): Headers {
    return this.#account.headers();
  }

  settle(used: { readonly tokens: number; readonly spend: number }): void {
    if (this.#settled) return;
    this.#settled = true;
    this.#account.underWay--;
    const { limits, amounts, places } = this.#taking;
    for (let at = 0; at < limits.length; at++) {
      const { kind, lease } = limits[at]!;
      const amount = amounts[at]!;
      if (kind.unit === "requests") continue;
      const real = used[kind.unit];
      // What nobody can have used is not believed; the reservation stands for it.
      if (Number.isFinite(real) && real >= 0 && real !== amount) lease.put(amount - real);
    }
    places?.leave();
  }
}

/** What the call takes of a limit. Throws when it can never have it. */
function amountOf(kind: LimitKind, capacity: number, demand: Demand, spend: number): number {
  if (kind.unit === "tokens" && demand.promptTokens > capacity && capacity > 0)
    throw neverFits({ kind, capacity, amount: demand.promptTokens });
  const wanted = wantedOf(kind, demand, spend);
  if (wanted > 0 && capacity === 0) throw nothingAllowed(kind);
  // What may be too much only because of a generous bound on the answer must not be impossible for ever.
  return Math.min(wanted, capacity);
}

function wantedOf({ unit }: LimitKind, { promptTokens, outputTokens = usualOutput }: Demand, spend: number): number {
  if (unit === "requests") return 1;
  if (unit === "tokens") return promptTokens + outputTokens;
  return spend > 0 ? Math.ceil(spend) : 0;
}

function isThere({ limits, amounts }: Taking, at: number): boolean {
  const amount = amounts[at]!;
  return amount === 0 || limits[at]!.lease.has(amount);
}

function take({ limits, amounts }: Taking, at: number): void {
  const amount = amounts[at]!;
  if (amount > 0) limits[at]!.lease.take(amount);
}

function takePlace(places: Places): true | Promise<boolean> {
  if (!places.free) return places.taking();
  places.take();
  return true;
}

function toBounds({ span, scale }: LimitKind, value: number): MeterBounds {
  const capacity = Math.round(value * scale);
  return { capacity, refill: span === "minute" ? capacity / 60 : 0 };
}

function wholeRest(lease: Lease): number {
  return Math.max(0, Math.floor(lease.rest));
}
