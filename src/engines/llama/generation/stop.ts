import { overlap } from "../../parsers/overlap.ts";

/**
 * Finds stop strings in a text that comes in pieces, and holds back what may turn out to be the start of one. However
 * the text is cut, the string that is complete first counts; of those complete at the same place, the longest.
 */
export class StopFilter {
  readonly #stops: readonly string[];
  #held = "";

  /** Empty strings are ignored: they would stop everything. */
  constructor(stops: readonly string[]) {
    this.#stops = stops.filter((stop) => stop !== "");
  }

  /** What may be said now. `stop`: the string that was found; it and all after it is never said. */
  push(text: string): { readonly text: string; readonly stop: string | null } {
    if (this.#stops.length === 0) return { text, stop: null };
    const all = this.#held + text;
    const found = this.#first(all);
    if (found !== null) {
      this.#held = "";
      return { text: all.slice(0, found.at), stop: found.stop };
    }
    const keep = this.#partial(all);
    this.#held = keep === 0 ? "" : all.slice(-keep);
    return { text: keep === 0 ? all : all.slice(0, -keep), stop: null };
  }

  /** What was held back; the text is over. */
  end(): string {
    const rest = this.#held;
    this.#held = "";
    return rest;
  }

  #first(text: string): { at: number; stop: string } | null {
    let found: { at: number; stop: string } | null = null;
    for (const stop of this.#stops) {
      const at = text.indexOf(stop);
      if (at < 0) continue;
      const end = at + stop.length;
      const before = found === null ? Infinity : found.at + found.stop.length;
      if (end < before || (end === before && found !== null && at < found.at)) found = { at, stop };
    }
    return found;
  }

  #partial(text: string): number {
    return Math.max(0, ...this.#stops.map((stop) => overlap(text, stop)));
  }
}
