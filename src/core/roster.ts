/** Something that can be on one roster at a time. */
export interface Enrolled {
  /** Where it stands; the roster's own. */
  place: number;
}

/**
 * Who is here now: entering and leaving cost nothing that outlives them. A `Set` that is added to and deleted from
 * without end leaves dead tables behind in the old heap, which keep alive what they held: every scavenge then copies
 * megabytes (measured: 13 of 114 µs a request).
 */
export class Roster<T extends Enrolled> {
  readonly #members: T[] = [];

  get size(): number {
    return this.#members.length;
  }

  enter(member: T): void {
    member.place = this.#members.push(member) - 1;
  }

  /** Whoever is not on it may leave it too. */
  leave(member: T): void {
    if (this.#members[member.place] !== member) return;
    const last = this.#members.pop() as T;
    if (last === member) return;
    this.#members[member.place] = last;
    last.place = member.place;
  }

  /** All who are here now, as a list of its own. */
  list(): T[] {
    return [...this.#members];
  }
}
