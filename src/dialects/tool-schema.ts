import { isObject, type Json, type JsonObject } from "../core/json.ts";
import { followReference } from "../core/json-pointer.ts";

/** Where a value does not fit its schema, in words for the model: "`edits[0].line` must be an integer, not a string". */
export type Misfit = string;

/** Deepest nesting that is looked into, and most steps: schemas come from callers, values from models. */
const maxDepth = 64;
const maxSteps = 100_000;

/**
 * Why a value does not fit a tool's schema; undefined where it does, and where the schema is broken or too large to tell.
 *
 * An interpreter of our own, for the schemas are strangers': it compiles no code, runs none of their regular expressions
 * (`pattern`), fetches no reference and counts its steps. What it does not know (`not`, `if`, `format`, …), and properties
 * that a schema does not list, are no misfit: the client looks again, and knows more.
 */
export function findMisfit(value: Json, schema: JsonObject): Misfit | undefined {
  return new SchemaReader(schema).misfit(value);
}

/**
 * The value that fits where the given one does not, if there is just one that the model can have meant: a number, boolean,
 * list or object written as a string, one thing for a list of such things, null for a property that may be left out, an
 * enum's value in another case. Undefined otherwise.
 */
export function toFitting(value: Json, schema: JsonObject): Json | undefined {
  return new SchemaReader(schema).fitted(value);
}

class TooLarge extends Error {}

class SchemaReader {
  readonly #document: JsonObject;
  #steps = 0;

  constructor(document: JsonObject) {
    this.#document = document;
  }

  misfit(value: Json): Misfit | undefined {
    return this.#bounded(() => this.#check(value, this.#document, { path: "", depth: 0 }));
  }

  fitted(value: Json): Json | undefined {
    return this.#bounded(() => this.#fit(value, this.#document, 0));
  }

  #bounded<Result>(work: () => Result): Result | undefined {
    try {
      return work();
    } catch (thrown) {
      if (thrown instanceof TooLarge) return undefined;
      throw thrown;
    }
  }

  #step(depth: number): void {
    if (++this.#steps > maxSteps || depth > maxDepth) throw new TooLarge();
  }

  #check(value: Json, schema: Json | undefined, at: Place): Misfit | undefined {
    this.#step(at.depth);
    if (!isObject(schema)) return undefined;
    return (
      checkType(value, schema, at.path) ??
      checkChoice(value, schema, at.path) ??
      checkBounds(value, schema, at.path) ??
      this.#checkParts(value, schema, at) ??
      this.#checkBranches(value, schema, at)
    );
  }

  #checkParts(value: Json, schema: JsonObject, at: Place): Misfit | undefined {
    if (Array.isArray(value)) return this.#checkItems(value, schema, at);
    if (!isObject(value)) return undefined;
    for (const name of namesIn(schema.required))
      if (!Object.hasOwn(value, name)) return `${said(join(at.path, name))} is missing`;
    const properties = isObject(schema.properties) ? schema.properties : {};
    for (const [name, part] of Object.entries(value)) {
      const own = Object.hasOwn(properties, name) ? properties[name] : otherProperties(schema);
      const misfit = this.#check(part ?? null, own, { path: join(at.path, name), depth: at.depth + 1 });
      if (misfit !== undefined) return misfit;
    }
    return undefined;
  }

  #checkItems(value: Json[], schema: JsonObject, at: Place): Misfit | undefined {
    const first = listIn(schema.prefixItems);
    for (const [index, item] of value.entries()) {
      const place = { path: `${at.path}[${index}]`, depth: at.depth + 1 };
      const misfit = this.#check(item, first[index] ?? schema.items, place);
      if (misfit !== undefined) return misfit;
    }
    return undefined;
  }

  #checkBranches(value: Json, schema: JsonObject, at: Place): Misfit | undefined {
    const deeper = { path: at.path, depth: at.depth + 1 };
    if (typeof schema.$ref === "string") {
      const misfit = this.#check(value, followReference(this.#document, schema.$ref), deeper);
      if (misfit !== undefined) return misfit;
    }
    for (const branch of listIn(schema.allOf)) {
      const misfit = this.#check(value, branch, deeper);
      if (misfit !== undefined) return misfit;
    }
    // As `anyOf`: with `pattern` and others left out, two branches of a `oneOf` may both seem to fit.
    for (const branches of [listIn(schema.anyOf), listIn(schema.oneOf)]) {
      if (branches.length === 0 || branches.some((branch) => this.#check(value, branch, deeper) === undefined))
        continue;
      if (branches.length === 1) return this.#check(value, branches[0], deeper);
      return `${said(at.path)} fits none of the forms that it may have`;
    }
    return undefined;
  }

  #fit(value: Json, schema: Json | undefined, depth: number): Json | undefined {
    this.#step(depth);
    if (!isObject(schema) || this.#fits(value, schema)) return value;
    for (const candidate of this.#candidates(value, schema, depth)) {
      if (candidate !== undefined && this.#fits(candidate, schema)) return candidate;
    }
    return undefined;
  }

  #fits(value: Json, schema: JsonObject): boolean {
    return this.#check(value, schema, { path: "", depth: 0 }) === undefined;
  }

  /** In their order: the first that fits is meant. */
  *#candidates(value: Json, schema: JsonObject, depth: number): Generator<Json | undefined> {
    if (typeof schema.$ref === "string")
      yield this.#fit(value, followReference(this.#document, schema.$ref), depth + 1);
    const branches = [...listIn(schema.anyOf), ...listIn(schema.oneOf)];
    if (branches.length > 0) yield onlyOne(branches.map((branch) => this.#fit(value, branch, depth + 1)));
    for (const branch of listIn(schema.allOf)) yield this.#fit(value, branch, depth + 1);
    yield sameInOtherCase(value, schema);
    const types = typesOf(schema);
    if (typeof value === "string") yield this.#readText(value, schema, types, depth);
    if (Array.isArray(value)) yield this.#fitItems(value, schema, depth);
    else if (types.includes("array")) yield this.#wrap(value, schema, depth);
    if (isObject(value)) yield this.#fitProperties(value, schema, depth);
  }

  /** What a string says in JSON, where that is wanted and a string is not. */
  #readText(text: string, schema: JsonObject, types: readonly string[], depth: number): Json | undefined {
    const read = types.includes("string") || text.length > maxText ? undefined : readLiteral(text);
    if (read === undefined || read === null || !types.some((type) => isOfType(read, type))) return undefined;
    return this.#fit(read, schema, depth + 1);
  }

  #fitItems(value: Json[], schema: JsonObject, depth: number): Json | undefined {
    const first = listIn(schema.prefixItems);
    const fitted = value.map((item, index) => this.#fit(item, first[index] ?? schema.items, depth + 1));
    return fitted.every((item) => item !== undefined) ? fitted : undefined;
  }

  /** A text with a comma or a line break may be several things. */
  #wrap(value: Json, schema: JsonObject, depth: number): Json | undefined {
    if (value === null || !isObject(schema.items) || (typeof value === "string" && /[,;\n]|^\s*\[|^$/.test(value)))
      return undefined;
    const item = this.#fit(value, schema.items, depth + 1);
    return item === undefined ? undefined : [item];
  }

  #fitProperties(value: JsonObject, schema: JsonObject, depth: number): Json | undefined {
    const properties = isObject(schema.properties) ? schema.properties : {};
    const required = namesIn(schema.required);
    const fitted: [string, Json][] = [];
    for (const [name, given] of Object.entries(value)) {
      const own = Object.hasOwn(properties, name) ? properties[name] : otherProperties(schema);
      const part = this.#fit(given ?? null, own, depth + 1);
      if (part !== undefined) fitted.push([name, part]);
      else if (given !== null || required.includes(name)) return undefined;
    }
    return Object.fromEntries(fitted);
  }
}

interface Place {
  readonly path: string;
  readonly depth: number;
}

/** Longest string that is read as JSON, in characters. */
const maxText = 256 * 1024;

function checkType(value: Json, schema: JsonObject, path: string): Misfit | undefined {
  const types = typesOf(schema);
  if (types.length === 0 || types.some((type) => isOfType(value, type))) return undefined;
  return `${said(path)} must be ${types.map(withArticle).join(" or ")}, not ${withArticle(typeOf(value))}`;
}

function checkChoice(value: Json, schema: JsonObject, path: string): Misfit | undefined {
  const choices = choicesOf(schema);
  // Lists and objects are equal in more ways than their text is.
  if (choices === undefined || choices.some((choice) => choice === value || isNested(choice))) return undefined;
  const listed = choices.slice(0, 20).map((choice) => JSON.stringify(choice));
  return `${said(path)} must be ${listed.length === 1 ? "" : "one of "}${listed.join(", ")}`;
}

const bounds: readonly [keyword: string, holds: (size: number, bound: number) => boolean, words: string][] = [
  ["minimum", (size, bound) => size >= bound, "at least"],
  ["maximum", (size, bound) => size <= bound, "at most"],
  ["exclusiveMinimum", (size, bound) => size > bound, "greater than"],
  ["exclusiveMaximum", (size, bound) => size < bound, "less than"],
];

function checkBounds(value: Json, schema: JsonObject, path: string): Misfit | undefined {
  if (typeof value === "number") {
    for (const [keyword, holds, words] of bounds) {
      const bound = schema[keyword];
      if (typeof bound === "number" && !holds(value, bound)) return `${said(path)} must be ${words} ${bound}`;
    }
    return undefined;
  }
  if (!Array.isArray(value)) return undefined;
  const { minItems, maxItems } = schema;
  if (typeof minItems === "number" && value.length < minItems) return `${said(path)} needs at least ${minItems} items`;
  if (typeof maxItems === "number" && value.length > maxItems)
    return `${said(path)} may have at most ${maxItems} items`;
  return undefined;
}

/** One value of an enum that is the given one but for its case. */
function sameInOtherCase(value: Json, schema: JsonObject): Json | undefined {
  if (typeof value !== "string") return undefined;
  const plain = value.trim().toLowerCase();
  const same = (choicesOf(schema) ?? []).filter(
    (choice) => typeof choice === "string" && choice.toLowerCase() === plain,
  );
  return same.length === 1 ? same[0] : undefined;
}

function onlyOne(values: readonly (Json | undefined)[]): Json | undefined {
  const found = values.filter((value) => value !== undefined);
  const texts = new Set(found.map((value) => JSON.stringify(value)));
  return texts.size === 1 ? found[0] : undefined;
}

/** Only what has one reading: "1e3" may be a name, and a number too large for a double would lose digits. */
function readLiteral(text: string): Json | undefined {
  const trimmed = text.trim();
  if (/^(?:true|false)$/i.test(trimmed)) return trimmed.toLowerCase() === "true";
  if (/^-?(?:0|[1-9]\d{0,14})(?:\.\d{1,15})?$/.test(trimmed)) return Number(trimmed);
  if (!/^[[{]/.test(trimmed)) return undefined;
  try {
    return JSON.parse(trimmed) as Json;
  } catch {
    return undefined;
  }
}

function choicesOf(schema: JsonObject): Json[] | undefined {
  if (schema.const !== undefined) return [schema.const];
  return Array.isArray(schema.enum) ? schema.enum : undefined;
}

/** Types that a schema allows; none: any. */
function typesOf(schema: JsonObject): string[] {
  const types = typeof schema.type === "string" ? [schema.type] : namesIn(schema.type);
  const known = types.every((type) => knownTypes.has(type)) ? types : [];
  return known.length > 0 && schema.nullable === true ? [...known, "null"] : known;
}

const knownTypes: ReadonlySet<string> = new Set(["object", "array", "string", "number", "integer", "boolean", "null"]);

function isOfType(value: Json, type: string): boolean {
  if (type === "integer") return Number.isInteger(value);
  return typeOf(value) === type;
}

function typeOf(value: Json): string {
  if (value === null) return "null";
  return Array.isArray(value) ? "array" : typeof value;
}

/** Schema of the properties that are not listed. That there may be none (`false`) is for the client to say. */
function otherProperties(schema: JsonObject): Json | undefined {
  return schema.patternProperties === undefined ? schema.additionalProperties : undefined;
}

function namesIn(value: Json | undefined): string[] {
  return listIn(value).filter((name) => typeof name === "string");
}

function listIn(value: Json | undefined): Json[] {
  return Array.isArray(value) ? value : [];
}

function isNested(value: Json): boolean {
  return typeof value === "object" && value !== null;
}

function join(path: string, name: string): string {
  return path === "" ? name : `${path}.${name}`;
}

function said(path: string): string {
  return path === "" ? "the arguments" : `\`${path}\``;
}

function withArticle(type: string): string {
  if (type === "null") return type;
  return /^[aio]/.test(type) ? `an ${type}` : `a ${type}`;
}
