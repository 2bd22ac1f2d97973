export interface DoorLimits {
  /** Wrong keys that an address may show in a minute. */
  readonly failures: number;
  /** Requests for a tunnel of an address in a minute, whatever comes of them. */
  readonly knocks: number;
  /** Requests whose answer is not sent yet, of all and of one address. */
  readonly pending: number;
  readonly pendingOfOne: number;
  /** Milliseconds that an answer may take to be sent. */
  readonly pendingTime: number;
}

/**
 * 5 wrong keys a minute are a typing error or two, and no guessing; 5 s are many round trips. A relay behind a front
 * that tells no addresses sees all agents under one, and they all come at once when it starts: hence 1200, or 300
 * agents with 4 connections.
 */
export const defaultLimits: DoorLimits = {
  failures: 5,
  knocks: 1200,
  pending: 512,
  pendingOfOne: 256,
  pendingTime: 5000,
};

/** Addresses that are remembered; beyond, the one that has waited longest is forgotten. */
const mostAddresses = 10_000;
const minute = 60_000;

/** How many times an address did something within a minute. */
export class MinuteCount {
  readonly #counts = new Map<string, { count: number; readonly until: number }>();

  /** One more; how many it were. */
  add(address: string): number {
    const known = this.#current(address);
    if (known !== undefined) return ++known.count;
    this.#counts.delete(address);
    if (this.#counts.size >= mostAddresses) this.#counts.delete(this.#counts.keys().next().value as string);
    this.#counts.set(address, { count: 1, until: performance.now() + minute });
    return 1;
  }

  of(address: string): number {
    return this.#current(address)?.count ?? 0;
  }

  /** Whole seconds until it begins anew. */
  left(address: string): number {
    const known = this.#current(address);
    return known === undefined ? 1 : Math.max(1, Math.ceil((known.until - performance.now()) / 1000));
  }

  get size(): number {
    return this.#counts.size;
  }

  #current(address: string): { count: number; readonly until: number } | undefined {
    const known = this.#counts.get(address);
    return known !== undefined && known.until > performance.now() ? known : undefined;
  }
}

/** How many of an address are here now. */
export class Presence {
  readonly #counts = new Map<string, number>();
  #total = 0;

  enter(address: string): void {
    this.#total++;
    this.#counts.set(address, this.of(address) + 1);
  }

  leave(address: string): void {
    const left = this.of(address) - 1;
    this.#total--;
    if (left > 0) this.#counts.set(address, left);
    else this.#counts.delete(address);
  }

  of(address: string): number {
    return this.#counts.get(address) ?? 0;
  }

  get total(): number {
    return this.#total;
  }
}
