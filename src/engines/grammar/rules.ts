import type { Json } from "../../core/json.ts";

/** Where in a schema document something stands, and how its rules are called. */
export interface Place {
  /** JSON pointer, e.g. `/properties/path`; "" is the document. */
  readonly pointer: string;
  /** The rule's name, e.g. `answer-path`. */
  readonly name: string;
}

/** What the parts of the conversion need of the builder. */
export interface Rules {
  /** Adds a rule; returns the name that it got. */
  rule(name: string, body: string): string;
  /** Takes a name for a rule that others name before `define` says what it is. */
  reserve(name: string): string;
  define(name: string, body: string): void;
  /** The rule of a schema; null when no value satisfies it. */
  visit(schema: Json, place: Place): string | null;
  /** Something that the grammar does not hold the model to: refused where the schema is strict, else noted. */
  loosen(what: string, place: Place): void;
  /** What the members' order is: as declared, or any where that costs little. */
  readonly order: "declared" | "any";
}

export function under(place: Place, ...steps: readonly (string | number)[]): Place {
  const pointer = steps.map((step) => `/${String(step).replaceAll("~", "~0").replaceAll("/", "~1")}`).join("");
  return { pointer: place.pointer + pointer, name: `${place.name}-${steps.at(-1)}` };
}

/** llama.cpp copies what is repeated and reads bounds above 2,000 as no bound at all: longer rows are blocks of blocks. */
const block = 64;

/** GBNF of `unit`, a rule's name, from `min` to `max` times (null: without end). */
export function repeated(rules: Rules, unit: string, min: number, max: number | null): string {
  if (max === null) return `${exactly(rules, unit, min)} ${unit}*`.trim();
  return `${exactly(rules, unit, min)} ${upTo(rules, unit, max - min)}`.trim();
}

function exactly(rules: Rules, unit: string, count: number): string {
  if (count === 0) return "";
  if (count < block) return count === 1 ? unit : `${unit}{${count}}`;
  const blocks = rules.rule(`${unit}-x${block}`, `${unit}{${block}}`);
  return `${exactly(rules, blocks, Math.floor(count / block))} ${exactly(rules, unit, count % block)}`.trim();
}

function upTo(rules: Rules, unit: string, count: number): string {
  if (count === 0) return "";
  if (count < block) return `${unit}{0,${count}}`;
  const blocks = rules.rule(`${unit}-x${block}`, `${unit}{${block}}`);
  const tail = rules.rule(`${unit}-tail`, `${unit}{0,${block - 1}}`);
  const whole = Math.floor(count / block);
  const fewer = `${upTo(rules, blocks, whole - 1)} ${tail}`.trim();
  const all = `${exactly(rules, blocks, whole)} ${upTo(rules, unit, count % block)}`.trim();
  return rules.rule(`${unit}-upto`, `${fewer} | ${all}`);
}
