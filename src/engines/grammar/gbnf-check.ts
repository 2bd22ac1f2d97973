import { GrammarError, type GrammarNode, readGrammar } from "./gbnf-reader.ts";

export { GrammarError } from "./gbnf-reader.ts";

const longestText = 8_000_000;
const mostElements = 3_000_000;
/** llama.cpp follows what may begin a rule by recursion: so many levels fit its stack with room to spare. */
const deepestLeft = 3000;
/** … and goes every way anew: so many steps take it a fraction of a second. */
const mostLeftSteps = 5_000_000;
/** llama.cpp's own bound on the rules that one repetition makes. */
const mostRepeatedRules = 2000;

/**
 * Refuses a grammar that llama.cpp could not read, would crash on or take forever over, or that has no end. Throws
 * `GrammarError`.
 */
export function checkGrammar(text: string): void {
  if (text.length > longestText) throw new GrammarError(`it is longer than ${longestText} characters`);
  const rules = readGrammar(text);
  if (!rules.has("root")) throw new GrammarError("it has no rule named root");
  for (const [name, node] of rules) {
    for (const reference of references(node)) {
      if (!rules.has(reference)) throw new GrammarError(`the rule ${name} names ${reference}, which is not there`);
    }
  }
  checkSize(rules);
  const nullable = settled(rules, isNullable);
  checkLeft(rules, nullable);
  const ending = settled(rules, hasEnd);
  for (const name of reachable(rules)) {
    if (!ending.has(name)) throw new GrammarError(`what begins with the rule ${name} never comes to an end`);
  }
}

function references(node: GrammarNode): string[] {
  switch (node.type) {
    case "reference":
      return [node.name];
    case "sequence":
      return node.parts.flatMap(references);
    case "choice":
      return node.ways.flatMap(references);
    case "repeat":
      return references(node.body);
    default:
      return [];
  }
}

function reachable(rules: ReadonlyMap<string, GrammarNode>): Set<string> {
  const seen = new Set(["root"]);
  for (const name of seen) for (const next of references(rules.get(name) as GrammarNode)) seen.add(next);
  return seen;
}

/** The rules for which `holds` is true, given that it is true for those; by going over users again as rules are found. */
function settled(
  rules: ReadonlyMap<string, GrammarNode>,
  holds: (node: GrammarNode, known: ReadonlySet<string>) => boolean,
): Set<string> {
  const users = new Map<string, string[]>();
  for (const [name, node] of rules) {
    for (const reference of new Set(references(node))) {
      const list = users.get(reference);
      if (list === undefined) users.set(reference, [name]);
      else list.push(name);
    }
  }
  const known = new Set<string>();
  const pending = [...rules.keys()];
  for (let name = pending.pop(); name !== undefined; name = pending.pop()) {
    if (known.has(name) || !holds(rules.get(name) as GrammarNode, known)) continue;
    known.add(name);
    pending.push(...(users.get(name) ?? []));
  }
  return known;
}

function isNullable(node: GrammarNode, known: ReadonlySet<string>): boolean {
  switch (node.type) {
    case "reference":
      return known.has(node.name);
    case "sequence":
      return node.parts.every((part) => isNullable(part, known));
    case "choice":
      return node.ways.some((way) => isNullable(way, known));
    case "repeat":
      return node.min === 0 || isNullable(node.body, known);
    default:
      return false;
  }
}

function hasEnd(node: GrammarNode, known: ReadonlySet<string>): boolean {
  switch (node.type) {
    case "reference":
      return known.has(node.name);
    case "sequence":
      return node.parts.every((part) => hasEnd(part, known));
    case "choice":
      return node.ways.some((way) => hasEnd(way, known));
    case "repeat":
      return node.min === 0 || hasEnd(node.body, known);
    case "characters":
      return node.negated || node.ranges.length > 0;
    default:
      return true;
  }
}

/** Repetitions are copied out: what they grow to is what llama.cpp holds in memory. */
function checkSize(rules: ReadonlyMap<string, GrammarNode>): void {
  let elements = 0;
  for (const [name, node] of rules) {
    elements += measure(node, name).elements;
    if (elements > mostElements) throw new GrammarError("its repetitions make it too large");
  }
}

function measure(node: GrammarNode, name: string): { elements: number; rules: number } {
  switch (node.type) {
    case "sequence":
    case "choice": {
      const inner = (node.type === "sequence" ? node.parts : node.ways).map((part) => measure(part, name));
      const sum = (key: "elements" | "rules"): number => inner.reduce((total, part) => total + part[key], 0);
      return { elements: sum("elements") + inner.length, rules: sum("rules") + 1 };
    }
    case "repeat": {
      const body = measure(node.body, name);
      const times = node.max !== null && node.max > 0 ? node.max : Math.max(1, node.min);
      if (body.rules * times > mostRepeatedRules) {
        throw new GrammarError(
          `the rule ${name} repeats too large a group too often: give the group a rule of its own`,
        );
      }
      return { elements: (body.elements + 2) * times, rules: body.rules * times };
    }
    case "characters":
      return { elements: Math.max(1, node.ranges.length * 2), rules: 1 };
    default:
      return { elements: 1, rules: 1 };
  }
}

/** References with which a node may begin. */
function leftReferences(node: GrammarNode, nullable: ReadonlySet<string>): string[] {
  switch (node.type) {
    case "reference":
      return [node.name];
    case "sequence": {
      const found: string[] = [];
      for (const part of node.parts) {
        found.push(...leftReferences(part, nullable));
        if (!isNullable(part, nullable)) break;
      }
      return found;
    }
    case "choice":
      return node.ways.flatMap((way) => leftReferences(way, nullable));
    case "repeat":
      if (node.max === 0) return [];
      if (node.max === null && isNullable(node.body, nullable)) {
        throw new GrammarError("it repeats something that may be empty");
      }
      return leftReferences(node.body, nullable);
    default:
      return [];
  }
}

function checkLeft(rules: ReadonlyMap<string, GrammarNode>, nullable: ReadonlySet<string>): void {
  const done = new Map<string, { depth: number; steps: number }>();
  const open = new Set<string>();
  const visit = (name: string): { depth: number; steps: number } => {
    const known = done.get(name);
    if (known !== undefined) return known;
    if (open.has(name)) throw new GrammarError(`the rule ${name} begins with itself`);
    if (open.size > deepestLeft) throw new GrammarError("its rules begin with one another too deeply");
    open.add(name);
    let [depth, steps] = [1, 1];
    for (const next of leftReferences(rules.get(name) as GrammarNode, nullable)) {
      const below = visit(next);
      depth = Math.max(depth, below.depth + 2);
      steps += below.steps + 1;
    }
    open.delete(name);
    if (depth > deepestLeft) throw new GrammarError("its rules begin with one another too deeply");
    if (steps > mostLeftSteps) throw new GrammarError("its rules begin with one another in too many ways");
    done.set(name, { depth, steps });
    return { depth, steps };
  };
  for (const name of rules.keys()) visit(name);
}
