import { type CharacterSet, intersection } from "./characters.ts";
import { type Expression, isNullable, PatternError } from "./regular-expression.ts";

/** Glushkov's automaton of a regular expression: one state for each character of it, and state 0 before the first. */
export interface Automaton {
  readonly next: readonly (readonly Step[])[];
  readonly final: readonly boolean[];
}
export interface Step {
  readonly set: CharacterSet;
  readonly to: number;
}

const mostStates = 3000;
const mostSteps = 60_000;
const mostCompared = 1_000_000;

/** Throws `PatternError` when the expression is too large for one. */
export function toAutomaton(expression: Expression): Automaton {
  return new Positions().read(expression);
}

/** What may come first and last of a part of the expression. */
interface Part {
  readonly first: number[];
  readonly last: number[];
  readonly nullable: boolean;
}
const nothing: Part = { first: [], last: [], nullable: true };

class Positions {
  readonly #sets: CharacterSet[] = [[]];
  readonly #follow: Set<number>[] = [new Set()];
  #steps = 0;

  read(expression: Expression): Automaton {
    const whole = this.#part(expression);
    this.#link([0], whole.first);
    const ends = new Set(whole.last);
    const next = this.#follow.map((targets) =>
      [...targets].map((to) => ({ set: this.#sets[to] as CharacterSet, to })).filter(({ set }) => set.length > 0),
    );
    return { next, final: next.map((_, state) => (state === 0 ? isNullable(expression) : ends.has(state))) };
  }

  #part(node: Expression): Part {
    switch (node.type) {
      case "set": {
        const state = this.#sets.push(node.set) - 1;
        if (state > mostStates) throw tooLarge();
        this.#follow.push(new Set());
        return { first: [state], last: [state], nullable: false };
      }
      case "sequence":
        return node.parts.reduce((before, part) => this.#joined(before, this.#part(part)), nothing);
      case "choice": {
        const ways = node.ways.map((way) => this.#part(way));
        const nullable = ways.some((way) => way.nullable);
        return { first: ways.flatMap(({ first }) => first), last: ways.flatMap(({ last }) => last), nullable };
      }
      case "repeat":
        return this.#repeated(node);
    }
  }

  #repeated(node: Expression & { type: "repeat" }): Part {
    let whole = nothing;
    const least = node.max === null ? Math.max(1, node.min) : node.min;
    // `x{0,3}` as `(x(x(x)?)?)?`: each copy is followed by the next one only.
    for (let copy = (node.max ?? least) - 1; copy >= 0; copy--) {
      const part = this.#part(node.body);
      if (node.max === null && copy === least - 1) this.#link(part.last, part.first);
      whole = this.#joined(part, whole);
      if (copy >= node.min) whole = { ...whole, nullable: true };
    }
    return whole;
  }

  #joined(a: Part, b: Part): Part {
    this.#link(a.last, b.first);
    return {
      first: a.nullable ? [...a.first, ...b.first] : a.first,
      last: b.nullable ? [...a.last, ...b.last] : b.last,
      nullable: a.nullable && b.nullable,
    };
  }

  #link(from: readonly number[], to: readonly number[]): void {
    this.#steps += from.length * to.length;
    if (this.#steps > mostSteps) throw tooLarge();
    for (const state of from) for (const target of to) this.#follow[state]?.add(target);
  }
}

function tooLarge(): PatternError {
  return new PatternError("is too large to be joined with other bounds of the same string");
}

/** Whether the automaton accepts a text; takes time in proportion to its length, whatever the expression. */
export function recognises({ next, final }: Automaton, text: string): boolean {
  let states = new Set([0]);
  for (const character of text) {
    const code = character.codePointAt(0) as number;
    const after = new Set<number>();
    for (const state of states) {
      for (const { set, to } of next[state] ?? []) {
        if (set.some(([low, high]) => low <= code && code <= high)) after.add(to);
      }
    }
    states = after;
  }
  return [...states].some((state) => final[state] === true);
}

/** Whether any text at all is accepted. */
export function acceptsAny({ next, final }: Automaton): boolean {
  const seen = new Set([0]);
  for (const state of seen) for (const { to } of next[state] ?? []) seen.add(to);
  return [...seen].some((state) => final[state] === true);
}

/** What both accept; only states that can be reached. Throws `PatternError` when that grows too large. */
export function joinedAutomaton(a: Automaton, b: Automaton): Automaton {
  const numbers = new Map<string, number>([["0,0", 0]]);
  const pairs: [number, number][] = [[0, 0]];
  const next: Step[][] = [];
  let compared = 0;
  for (let state = 0; state < pairs.length; state++) {
    if (pairs.length > mostStates) throw tooLarge();
    const [x, y] = pairs[state] as [number, number];
    const steps: Step[] = [];
    for (const one of a.next[x] ?? []) {
      for (const other of b.next[y] ?? []) {
        if (++compared > mostCompared) throw tooLarge();
        const set = intersection(one.set, other.set);
        if (set.length === 0) continue;
        const key = `${one.to},${other.to}`;
        let to = numbers.get(key);
        if (to === undefined) {
          to = pairs.push([one.to, other.to]) - 1;
          numbers.set(key, to);
        }
        steps.push({ set, to });
      }
    }
    next.push(steps);
  }
  return { next, final: pairs.map(([x, y]) => a.final[x] === true && b.final[y] === true) };
}
