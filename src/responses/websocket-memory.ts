import type { Json } from "../core/json.ts";

/** The last response of a connection: what it takes to go on from it. */
export interface LastResponse {
  readonly id: string;
  /** The kept response that it went on from itself, if any: what stands before `items`. */
  readonly before: string | undefined;
  /** What was asked, and what was answered. */
  readonly items: Json[];
  /** About as many bytes as `items` take as JSON. */
  readonly bytes: number;
}

/** The last responses of all connections, which are kept nowhere else: at most `most` bytes, the oldest given up first. */
export class TurnMemory {
  readonly #most: number;
  readonly #kept = new Map<object, LastResponse>();
  #bytes = 0;

  constructor(most: number) {
    this.#most = most;
  }

  get(connection: object): LastResponse | undefined {
    return this.#kept.get(connection);
  }

  keep(connection: object, last: LastResponse): void {
    this.forget(connection);
    if (last.bytes > this.#most) return;
    this.#kept.set(connection, last);
    this.#bytes += last.bytes;
    for (const oldest of this.#kept.keys()) {
      if (this.#bytes <= this.#most) return;
      this.forget(oldest);
    }
  }

  forget(connection: object): void {
    this.#bytes -= this.#kept.get(connection)?.bytes ?? 0;
    this.#kept.delete(connection);
  }
}
