import { afterPoll } from "../core/after-poll.ts";
import { ApiError } from "../core/errors.ts";
import { Turns } from "./turns.ts";

/** How many calls of one model are answered at a time, and how many may wait. */
export interface LineBounds {
  /** Calls under way at a time; 0: no bound, and no line. */
  readonly concurrent: number;
  /** Calls that may wait. */
  readonly waiting: number;
}

/** A call in a line. */
export interface Ticket {
  readonly principal: string;
  /** Waits behind all that are not. */
  readonly later: boolean;
  /** Place in the line, from 1, and how many wait; told anew whenever the place is another. */
  position: number;
  total: number;
  onMove?: () => void;
  /** Resolves when it is this call's turn; rejects with `ApiError` when it waited too long or was given up. */
  readonly turn: Promise<void>;
  /** Gives the place in the line up; without effect once it was this call's turn. */
  leave(reason: ApiError): void;
}

/** The calls of one model: those under way, and those that wait for one of them to end. */
export class ModelLine {
  readonly #model: string;
  readonly #bounds: LineBounds;
  readonly #onEmpty: () => void;
  readonly #usual = new Turns<Waiting>();
  readonly #later = new Turns<Waiting>();
  #busy = 0;
  #moving = false;

  constructor(model: string, bounds: LineBounds, onEmpty: () => void) {
    this.#model = model;
    this.#bounds = bounds;
    this.#onEmpty = onEmpty;
  }

  /** Takes a place at once; false: all are taken. */
  enter(): boolean {
    if (this.#busy >= this.#bounds.concurrent) return false;
    this.#busy++;
    return true;
  }

  /** Gives a place back: to the next in line. */
  leave(): void {
    const next = this.#usual.next() ?? this.#later.next();
    if (next !== undefined) {
      next.admit();
      this.#move();
    } else if (--this.#busy === 0) this.#onEmpty();
  }

  /** Joins the line for at most `longest` milliseconds. Throws `rate_limit_exceeded` when it is full. */
  wait(principal: string, later: boolean, longest: number): Ticket {
    const { concurrent, waiting } = this.#bounds;
    if (this.#usual.size + this.#later.size >= waiting)
      throw this.#refusal(`${inCalls(concurrent)} under way and ${waiting} wait, which are all that may`);
    const turns = later ? this.#later : this.#usual;
    const tooLong = (): ApiError =>
      this.#refusal(`this one has waited for ${Math.round(longest / 1000)} s, the longest that one may`);
    const ticket = new Waiting({ principal, later, longest, tooLong }, (left) => {
      if (!turns.leave(principal, left)) return false;
      this.#move();
      return true;
    });
    turns.join(principal, ticket);
    this.#place();
    this.#move();
    return ticket;
  }

  #refusal(why: string): ApiError {
    return new ApiError("rate_limit_exceeded", `the line of calls for the model ${quoted(this.#model)}: ${why}`, {
      retryAfter: 5,
    });
  }

  /** Tells those who wait where they stand, once for all that happens in a turn of the event loop. */
  #move(): void {
    if (this.#moving) return;
    this.#moving = true;
    afterPoll(() => {
      this.#moving = false;
      for (const ticket of this.#place()) {
        if (ticket.told === ticket.position) continue;
        ticket.told = ticket.position;
        ticket.onMove?.();
      }
    });
  }

  /** Numbers those who wait. */
  #place(): Waiting[] {
    const order = [...this.#usual.list(), ...this.#later.list()];
    for (const [index, ticket] of order.entries()) {
      ticket.position = index + 1;
      ticket.total = order.length;
    }
    return order;
  }
}

interface WaitingSettings {
  readonly principal: string;
  readonly later: boolean;
  readonly longest: number;
  readonly tooLong: () => ApiError;
}

class Waiting implements Ticket {
  readonly principal: string;
  readonly later: boolean;
  position = 0;
  total = 0;
  /** The position that was last told. */
  told = 0;
  onMove?: () => void;
  readonly turn: Promise<void>;
  readonly #timer: NodeJS.Timeout;
  readonly #leaveLine: (ticket: Waiting) => boolean;
  #resolve!: () => void;
  #reject!: (reason: ApiError) => void;

  constructor({ principal, later, longest, tooLong }: WaitingSettings, leaveLine: (ticket: Waiting) => boolean) {
    this.principal = principal;
    this.later = later;
    this.#leaveLine = leaveLine;
    this.turn = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    this.#timer = setTimeout(() => this.leave(tooLong()), longest);
  }

  admit(): void {
    clearTimeout(this.#timer);
    this.#resolve();
  }

  leave(reason: ApiError): void {
    if (!this.#leaveLine(this)) return;
    clearTimeout(this.#timer);
    this.#reject(reason);
  }
}

function inCalls(count: number): string {
  return count === 1 ? "1 call is" : `${count} calls are`;
}

function quoted(name: string): string {
  return JSON.stringify(name.slice(0, 100));
}
