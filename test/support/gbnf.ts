import { type GrammarNode, readGrammar } from "../../src/engines/grammar/gbnf-reader.ts";

type Rules = ReadonlyMap<string, GrammarNode>;

/** A small generator of numbers 0 … 1, the same for the same seed. */
export function randomNumbers(seed: number): () => number {
  let state = (seed * 2654435761 + 12345) >>> 0 || 1;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) / 4294967296;
  };
}

/** Writes random texts of a grammar; beyond `budget` rules deep it takes the shortest ways out. */
export class GrammarSampler {
  readonly #rules: Rules;
  readonly #heights = new Map<string, number>();

  constructor(grammar: string) {
    this.#rules = readGrammar(grammar);
    for (const name of this.#rules.keys()) this.#heights.set(name, Infinity);
    for (let changed = true; changed;) {
      changed = false;
      for (const [name, node] of this.#rules) {
        const height = 1 + this.#height(node);
        if (height < (this.#heights.get(name) as number)) {
          this.#heights.set(name, height);
          changed = true;
        }
      }
    }
  }

  sample(random: () => number, budget = 30): string {
    return this.#write({ type: "reference", name: "root" }, random, budget);
  }

  #height(node: GrammarNode): number {
    switch (node.type) {
      case "reference":
        return this.#heights.get(node.name) as number;
      case "sequence":
        return Math.max(0, ...node.parts.map((part) => this.#height(part)));
      case "choice":
        return Math.min(...node.ways.map((way) => this.#height(way)));
      case "repeat":
        // Long rows count as deep: else blocks of blocks would be written at random.
        return node.min === 0 ? 0 : this.#height(node.body) + (node.min >= 64 ? 12 : 0);
      default:
        return 0;
    }
  }

  #write(node: GrammarNode, random: () => number, budget: number): string {
    switch (node.type) {
      case "reference":
        return this.#write(this.#rules.get(node.name) as GrammarNode, random, budget - 1);
      case "sequence":
        return node.parts.map((part) => this.#write(part, random, budget)).join("");
      case "choice": {
        const least = Math.min(...node.ways.map((way) => this.#height(way)));
        const ways = node.ways.filter((way) => this.#height(way) <= Math.max(least, budget));
        return this.#write(pick(ways, random), random, budget);
      }
      case "repeat": {
        const room = node.max === null ? 4 : node.max - node.min;
        const far = random() < 0.1 && budget > 0 ? Math.min(room, 70) : Math.min(room, 3);
        const more = budget <= 0 ? 0 : Math.floor(random() * (far + 1));
        return Array.from({ length: node.min + more }, () => this.#write(node.body, random, budget)).join("");
      }
      case "characters":
        return sampleCharacter(node, random);
      case "token":
        throw new Error("tokens are not sampled");
    }
  }
}

function pick<T>(list: readonly T[], random: () => number): T {
  return list[Math.floor(random() * list.length)] as T;
}

const outside = [...'aZ09 ~é中😀"\\{}[]:,\n\t'].map((character) => character.codePointAt(0) as number);

function sampleCharacter(node: GrammarNode & { type: "characters" }, random: () => number): string {
  if (node.negated) {
    const allowed = outside.filter((code) => !node.ranges.some(([low, high]) => low <= code && code <= high));
    return String.fromCodePoint(pick(allowed, random));
  }
  const [low, high] = pick(node.ranges, random);
  // The ends of a range are where mistakes are.
  const at = random();
  const code = at < 0.2 ? low : at < 0.4 ? high : low + Math.floor(random() * (high - low + 1));
  return String.fromCodePoint(code);
}

/** Whether a grammar produces a text: all ways are followed at once, by memory of what each rule can read from where. */
export class GrammarMatcher {
  readonly #rules: Rules;
  #codes: number[] = [];
  #ends = new Map<string, Set<number>>();

  constructor(grammar: string) {
    this.#rules = readGrammar(grammar);
  }

  accepts(text: string): boolean {
    this.#codes = [...text].map((character) => character.codePointAt(0) as number);
    this.#ends = new Map();
    return this.#from({ type: "reference", name: "root" }, 0).has(this.#codes.length);
  }

  #from(node: GrammarNode, at: number): Set<number> {
    switch (node.type) {
      case "reference": {
        const key = `${node.name} ${at}`;
        const known = this.#ends.get(key);
        if (known !== undefined) return known;
        const ends = this.#from(this.#rules.get(node.name) as GrammarNode, at);
        this.#ends.set(key, ends);
        return ends;
      }
      case "sequence":
        return node.parts.reduce((places, part) => this.#all(part, places), new Set([at]));
      case "choice":
        return new Set(node.ways.flatMap((way) => [...this.#from(way, at)]));
      case "repeat": {
        const reached = new Set<number>(node.min === 0 ? [at] : []);
        let places = new Set([at]);
        for (let count = 1; places.size > 0 && count <= (node.max ?? Infinity); count++) {
          const next = this.#all(node.body, places);
          places = new Set([...next].filter((place) => node.max !== null || count < node.min || !reached.has(place)));
          if (count >= node.min) for (const place of places) reached.add(place);
        }
        return reached;
      }
      case "characters": {
        const code = this.#codes[at];
        if (code === undefined) return new Set();
        const inside = node.ranges.some(([low, high]) => low <= code && code <= high);
        return new Set(inside === node.negated ? [] : [at + 1]);
      }
      case "token":
        throw new Error("tokens are not matched");
    }
  }

  #all(node: GrammarNode, places: ReadonlySet<number>): Set<number> {
    const ends = new Set<number>();
    for (const place of places) for (const end of this.#from(node, place)) ends.add(end);
    return ends;
  }
}
