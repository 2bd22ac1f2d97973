import type { Generation } from "../generation/generation.ts";

export interface Waiting {
  readonly generation: Generation;
  /** When it came, in milliseconds of the scheduler's clock. */
  readonly since: number;
  /** Its place among its kind: the lower, the earlier. */
  readonly turn: number;
  readonly background: boolean;
  /** Position last told. */
  position: number;
}

/** After so many interactive requests were let past it, a background one has its turn. */
const patience = 8;

/**
 * The requests that wait for a slot: interactive ones before background ones, and within each kind the sessions in
 * turn, so that one which asks a hundred things at once does not hold up another which asks one.
 */
export class WaitingLine {
  readonly #limit: number;
  readonly #entries: { readonly interactive: Waiting[]; readonly background: Waiting[] } = {
    interactive: [],
    background: [],
  };
  /** The last turn given to each session that waits. */
  readonly #turns = new Map<string | null, number>();
  #turn = 0;
  #passed = 0;

  constructor(limit: number) {
    this.#limit = limit;
  }

  get length(): number {
    return this.#entries.interactive.length + this.#entries.background.length;
  }

  get full(): boolean {
    return this.length >= this.#limit;
  }

  push(generation: Generation, since: number): void {
    const { session, priority } = generation.job;
    const turn = Math.max(this.#turn, this.#turns.get(session) ?? 0) + 1;
    this.#turns.set(session, turn);
    const background = priority === "background";
    const entries = background ? this.#entries.background : this.#entries.interactive;
    let at = entries.length;
    while (at > 0 && (entries[at - 1]?.turn ?? 0) > turn) at--;
    entries.splice(at, 0, { generation, since, turn, background, position: -1 });
  }

  /** Takes the next one out. */
  shift(): Waiting | undefined {
    const { interactive, background } = this.#entries;
    const backgroundsTurn = interactive.length === 0 || (background.length > 0 && this.#passed >= patience);
    const next = backgroundsTurn ? background.shift() : interactive.shift();
    if (next === undefined) return undefined;
    this.#passed = backgroundsTurn || background.length === 0 ? 0 : this.#passed + 1;
    this.#turn = Math.max(this.#turn, next.turn);
    if (this.length === 0) this.#turns.clear();
    return next;
  }

  /** Takes a request out by its id. */
  remove(id: number): Waiting | undefined {
    for (const entries of [this.#entries.interactive, this.#entries.background]) {
      const at = entries.findIndex(({ generation }) => generation.job.id === id);
      if (at >= 0) return entries.splice(at, 1)[0];
    }
    return undefined;
  }

  /** Those whose number of requests ahead has changed since the last call, with that number. */
  *moved(): Generator<{ readonly id: number; readonly position: number }> {
    const { interactive, background } = this.#entries;
    for (const [position, entry] of [...interactive, ...background].entries()) {
      if (entry.position === position) continue;
      entry.position = position;
      yield { id: entry.generation.job.id, position };
    }
  }
}
