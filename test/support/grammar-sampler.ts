import { type GrammarNode, readGrammar } from "../../src/engines/grammar/gbnf-reader.ts";

/** Random numbers from 0 to 1 that are the same for the same seed (mulberry32). */
export function seededRandom(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}

/** Texts that a grammar derives, chosen as a model of random weights would: any way, any character. */
export function grammarSampler(grammar: string, random: () => number): () => string {
  const rules = readGrammar(grammar);
  const shortest = shortestDerivations(rules);
  const length = (node: GrammarNode): number => lengthOf(node, (name) => shortest.get(name) ?? Infinity);
  const pick = <Item>(items: readonly Item[]): Item => items[Math.floor(random() * items.length)] as Item;
  const write = (node: GrammarNode, budget: number): string => {
    switch (node.type) {
      case "characters":
        return character(node, random);
      case "reference":
        return write(rules.get(node.name) as GrammarNode, budget - 1);
      case "sequence":
        return node.parts.map((part) => write(part, budget)).join("");
      case "choice": {
        const least = Math.min(...node.ways.map(length));
        // Out of budget, the shortest way: else a grammar that refers to itself would never end.
        return write(pick(budget > 0 ? node.ways : node.ways.filter((way) => length(way) === least)), budget - 1);
      }
      case "repeat": {
        const more = budget > 0 ? Math.floor(random() * Math.min((node.max ?? Infinity) - node.min + 1, 6)) : 0;
        return Array.from({ length: node.min + more }, () => write(node.body, budget - 4)).join("");
      }
      case "token":
        return node.text;
    }
  };
  return () => write({ type: "reference", name: "root" }, 40 + random() * 80);
}

function lengthOf(node: GrammarNode, ofRule: (name: string) => number): number {
  switch (node.type) {
    case "reference":
      return ofRule(node.name) + 1;
    case "sequence":
      return node.parts.reduce((sum, part) => sum + lengthOf(part, ofRule), 0);
    case "choice":
      return Math.min(...node.ways.map((way) => lengthOf(way, ofRule)));
    case "repeat":
      return node.min === 0 ? 0 : node.min * lengthOf(node.body, ofRule);
    default:
      return 1;
  }
}

function shortestDerivations(rules: ReadonlyMap<string, GrammarNode>): Map<string, number> {
  const shortest = new Map<string, number>();
  for (let changed = true; changed;) {
    changed = false;
    for (const [name, node] of rules) {
      const found = lengthOf(node, (other) => shortest.get(other) ?? Infinity);
      if (found >= (shortest.get(name) ?? Infinity)) continue;
      shortest.set(name, found);
      changed = true;
    }
  }
  return shortest;
}

const likely = [..."ab <>{}[]\"'\\/|:,;=\n\t1é東🙂｜"].map((letter) => letter.codePointAt(0) as number);

function character(node: GrammarNode & { type: "characters" }, random: () => number): string {
  const inside = (code: number): boolean => node.ranges.some(([from, to]) => code >= from && code <= to);
  if (!node.negated) {
    const [from, to] = node.ranges[Math.floor(random() * node.ranges.length)] as [number, number];
    const code = from + Math.floor(random() * (Math.min(to, from + 0x2000) - from + 1));
    return String.fromCodePoint(code >= 0xd800 && code < 0xe000 ? from : code);
  }
  const allowed = likely.filter((code) => !inside(code));
  return String.fromCodePoint(allowed[Math.floor(random() * allowed.length)] ?? 0x4e00);
}
