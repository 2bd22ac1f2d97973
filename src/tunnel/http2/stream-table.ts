import type { Http2Stream } from "./stream.ts";

/**
 * Streams by id. Streams come and go without end: see `core/roster.ts` for why this is no `Map`. Streams whose ids fall
 * into the same row are linked; ids rise, so that rows are mostly of one.
 */
export class StreamTable {
  size = 0;
  #rows: (Http2Stream | undefined)[] = Array.from({ length: 64 }, () => undefined);

  get(id: number): Http2Stream | undefined {
    let stream = this.#rows[this.#rowOf(id)];
    while (stream !== undefined && stream.id !== id) stream = stream.next;
    return stream;
  }

  add(stream: Http2Stream): void {
    if (this.size >= this.#rows.length) this.#grow();
    const row = this.#rowOf(stream.id);
    stream.next = this.#rows[row];
    this.#rows[row] = stream;
    this.size++;
  }

  /** One that is not in it may be removed too. */
  remove(stream: Http2Stream): void {
    const row = this.#rowOf(stream.id);
    let before: Http2Stream | undefined;
    let one = this.#rows[row];
    while (one !== undefined && one !== stream) {
      before = one;
      one = one.next;
    }
    if (one === undefined) return;
    if (before === undefined) this.#rows[row] = stream.next;
    else before.next = stream.next;
    stream.next = undefined;
    this.size--;
  }

  /** All that are in it now, as a list of its own. */
  list(): Http2Stream[] {
    const all: Http2Stream[] = [];
    for (const first of this.#rows) for (let one = first; one !== undefined; one = one.next) all.push(one);
    return all;
  }

  #rowOf(id: number): number {
    return (id >> 1) & (this.#rows.length - 1);
  }

  #grow(): void {
    const all = this.list();
    this.#rows = Array.from({ length: this.#rows.length * 4 }, () => undefined);
    this.size = 0;
    for (const stream of all) this.add(stream);
  }
}
