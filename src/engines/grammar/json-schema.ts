import { ApiError } from "../../core/errors.ts";
import { isObject, type Json, type JsonObject } from "../../core/json.ts";
import { accepts } from "./accepts.ts";
import { arrayRule } from "./arrays.ts";
import { withConditionList, withoutConditions } from "./conditions.ts";
import { checkGrammar, GrammarError } from "./gbnf-check.ts";
import { literal, nothing, primitives } from "./gbnf.ts";
import { impliedType } from "./implied-type.ts";
import { annotations, bothSchemas, MergeError, plainBounds, products } from "./merge.ts";
import { numberRule } from "./numbers.ts";
import { objectRule } from "./objects.ts";
import { type Place, type Rules, under } from "./rules.ts";
import { UnknownReference, SchemaDocument } from "./schema-document.ts";
import { stringRule } from "./strings.ts";
import { excludes } from "./unions.ts";

/** How faithful a grammar must be to its schema. */
export interface GrammarOptions {
  /** true: whatever cannot be expressed is refused. false: it is left out and named in `loosened`. */
  readonly strict: boolean;
  /** The request's field that holds the schema, for errors. */
  readonly param: string;
  /** Properties come as they are declared, or, where there are few, in any order. `declared` where not given. */
  readonly order?: "declared" | "any";
}

const deepestNesting = 100;
const mostRules = 50_000;
const mostText = 4_000_000;
const mostRead = 100_000_000;
const mostValues = 20_000;
const mostBranches = 512;
/** Milliseconds; real schemas take less than a hundred. */
const longest = 5000;

/**
 * Collects GBNF rules. Everything that a grammar produces is valid, not everything valid is produced: where a schema
 * names properties but says nothing of others, no others are written.
 */
export class GrammarBuilder implements Rules {
  /** What was left out and where, e.g. `uniqueItems at /properties/tags`. */
  readonly loosened = new Set<string>();
  /** How what is added next is judged. */
  options: GrammarOptions;
  readonly #rules = new Map<string, string>();
  readonly #names = new Map<string, string>();
  readonly #taken = new Map<string, number>();
  #document = new SchemaDocument({});
  /** Rules of schemas by their text; null while one is being made. */
  #known = new Map<string, { name: string | null; done: boolean; reserved: string | null }>();
  #depth = 0;
  #size = 0;
  #read = 0;
  readonly #begun = performance.now();

  constructor(options: GrammarOptions) {
    this.options = options;
  }

  get order(): "declared" | "any" {
    return this.options.order ?? "declared";
  }

  rule(name: string, body: string): string {
    const known = this.#names.get(body);
    if (known !== undefined) return known;
    const unique = this.reserve(name);
    this.define(unique, body);
    this.#names.set(body, unique);
    return unique;
  }

  reserve(name: string): string {
    const plain = name.replace(/[^a-zA-Z0-9-]+/g, "-").slice(-60);
    let unique = plain;
    while (this.#rules.has(unique) || unique in primitives || unique === "root") {
      const number = (this.#taken.get(plain) ?? 1) + 1;
      this.#taken.set(plain, number);
      unique = `${plain}-${number}`;
    }
    if (this.#rules.size >= mostRules || performance.now() - this.#begun > longest) throw this.#tooLarge();
    this.#rules.set(unique, "");
    return unique;
  }

  define(name: string, body: string): void {
    this.#size += body.length;
    if (this.#size > mostText) throw this.#tooLarge();
    this.#rules.set(name, body.trim() === "" ? nothing : body);
  }

  /**
   * Adds the rules of a schema; returns the name of its first. `document` is what its references start from. Throws
   * `ApiError`.
   */
  schema(schema: Json, name: string, document: Json = schema): string {
    if (document !== this.#document.root) {
      this.#document = new SchemaDocument(document);
      this.#known = new Map();
    }
    const rule = this.visit(schema, { pointer: "", name });
    if (rule !== null) return rule;
    throw new ApiError("invalid_value", "no value satisfies the schema: two of its demands exclude one another", {
      param: this.options.param,
    });
  }

  /** The grammar, which starts at the rule `root`. Throws `ApiError` when it would have no end or is too large. */
  text(root: string): string {
    const rules = [...this.#rules].map(([name, body]) => `${name} ::= ${body}`);
    const text = [
      `root ::= ${root}`,
      ...rules,
      ...Object.entries(primitives).map(([name, body]) => `${name} ::= ${body}`),
    ].join("\n");
    try {
      checkGrammar(text);
    } catch (error) {
      if (!(error instanceof GrammarError)) throw error;
      throw new ApiError("invalid_value", `no grammar can hold a model to the schema: ${error.message}`, {
        param: this.options.param,
      });
    }
    return text;
  }

  visit(schema: Json, place: Place): string | null {
    if (schema === false) return null;
    if (schema === true) return "value";
    if (!isObject(schema)) throw this.#refusal("a schema that is neither an object nor a boolean", place);
    if (++this.#depth > deepestNesting)
      throw this.#refusal(`a schema nested deeper than ${deepestNesting} levels`, place);
    try {
      return this.#remembered(schema, place);
    } finally {
      this.#depth--;
    }
  }

  loosen(what: string, place: Place): void {
    if (this.options.strict) throw this.#refusal(what, place);
    this.loosened.add(place.pointer === "" ? what : `${what} at ${place.pointer}`);
  }

  /** The same schema twice is one rule; inside itself it is named before it is made. */
  #remembered(schema: JsonObject, place: Place): string | null {
    const constraining = Object.entries(schema).filter(([keyword]) => !annotations.has(keyword));
    if (constraining.length === 0) return "value";
    const key = JSON.stringify(Object.fromEntries(constraining));
    this.#read += key.length;
    if (this.#read > mostRead || performance.now() - this.#begun > longest) throw this.#tooLarge();
    const known = this.#known.get(key);
    if (known?.done === true) return known.name;
    if (known !== undefined) return (known.reserved ??= this.reserve(place.name));
    const entry: { name: string | null; done: boolean; reserved: string | null } = {
      name: null,
      done: false,
      reserved: null,
    };
    this.#known.set(key, entry);
    const made = this.#made(Object.fromEntries(constraining), place);
    if (entry.reserved !== null && made !== null) this.define(entry.reserved, made);
    entry.name = made === null ? null : (entry.reserved ?? made);
    entry.done = true;
    return entry.name;
  }

  #made(schema: JsonObject, place: Place): string | null {
    if (typeof schema["$ref"] === "string" && Object.keys(schema).length === 1) {
      return this.visit(this.#target(schema["$ref"]), { ...place, name: `ref${schema["$ref"].replace(/^#\/?/, "-")}` });
    }
    const flat = this.#flat(schema, place);
    if (typeof flat === "boolean") return flat ? "value" : null;
    const plain = withoutConditions(this, flat, place);
    if (plain["allOf"] !== undefined) return this.visit(plain, place);
    if (plain["anyOf"] !== undefined || plain["oneOf"] !== undefined) return this.#union(plain, place);
    if (plain["const"] !== undefined || Array.isArray(plain["enum"])) return this.#values(plain, place);
    return this.#typed(plain, place);
  }

  #target(reference: string): Json {
    try {
      return this.#document.resolve(reference);
    } catch (error) {
      if (!(error instanceof UnknownReference)) throw error;
      throw new ApiError("invalid_value", `the schema ${error.message}`, { param: this.options.param });
    }
  }

  /** References followed and `allOf` merged, at the top of the schema only. */
  #flat(schema: Json, place: Place): JsonObject | boolean {
    if (!isObject(schema)) return schema !== false;
    if (++this.#depth > deepestNesting)
      throw this.#refusal(`a schema nested deeper than ${deepestNesting} levels`, place);
    try {
      return this.#merged(schema, place);
    } finally {
      this.#depth--;
    }
  }

  #merged(schema: JsonObject, place: Place): JsonObject | boolean {
    const { $ref, $recursiveRef, $dynamicRef, allOf, nullable, ...own } = schema;
    const parts: Json[] = [withConditionList(withNull(own, nullable))];
    for (const reference of [$ref, $recursiveRef, $dynamicRef]) {
      if (typeof reference === "string") parts.push(this.#target(reference));
    }
    if (Array.isArray(allOf)) parts.push(...allOf);
    if (parts.length === 1) return parts[0] as JsonObject;
    return parts
      .map((part, index) => (index === 0 ? (part as JsonObject) : this.#flat(part, place)))
      .reduce<JsonObject | boolean>((a, b) => this.#both(a, b, place), true);
  }

  #both(a: JsonObject | boolean, b: JsonObject | boolean, place: Place): JsonObject | boolean {
    try {
      return bothSchemas(a, b) as JsonObject | boolean;
    } catch (error) {
      if (!(error instanceof MergeError)) throw error;
      this.loosen(`${error.keyword} (of schemas that must both hold)`, place);
      const { [error.keyword]: _, ...rest } = b as JsonObject;
      return this.#both(a, rest, place);
    }
  }

  #union(schema: JsonObject, place: Place): string | null {
    const { anyOf, oneOf, ...rest } = schema;
    const branches = this.#branches(anyOf, oneOf, place);
    if (branches.length > mostBranches) throw this.#refusal(`more than ${mostBranches} alternatives`, place);
    const wholes = branches.map((branch) => (Object.keys(rest).length === 0 ? branch : { allOf: [rest, branch] }));
    const keyword = oneOf === undefined ? "anyOf" : "oneOf";
    if (oneOf !== undefined && !this.#areExclusive(wholes, place)) {
      this.loosen("oneOf whose alternatives may hold at once", under(place, "oneOf"));
    }
    const ways = wholes.map((whole, index) => this.visit(whole, under(place, keyword, index)));
    const some = [...new Set(ways.filter((way) => way !== null))];
    if (some.length === 0) return null;
    return some.length === 1 ? (some[0] as string) : this.rule(place.name, some.join(" | "));
  }

  #branches(anyOf: Json | undefined, oneOf: Json | undefined, place: Place): readonly Json[] {
    if (!Array.isArray(anyOf)) return Array.isArray(oneOf) ? oneOf : [true];
    if (!Array.isArray(oneOf)) return anyOf;
    const both = products(anyOf, oneOf);
    if (both === undefined) throw this.#refusal("anyOf and oneOf with so many alternatives at once", place);
    return both;
  }

  #areExclusive(branches: readonly Json[], place: Place): boolean {
    const flat = branches.map((branch) => this.#flat(branch, place));
    const resolve = (schema: Json): Json => this.#flat(schema, place);
    return flat.every((one, index) => flat.every((other, at) => at === index || excludes(one, other, resolve)));
  }

  #values(schema: JsonObject, place: Place): string | null {
    const { enum: listed, ...rest } = plainBounds(schema);
    const values = (listed as Json[]).filter((value) => accepts(rest, value));
    if (values.length > mostValues) throw this.#refusal(`an enum of more than ${mostValues} values`, place);
    const texts = [...new Set(values.map(literal))];
    return texts.length === 0 ? null : this.rule(place.name, texts.join(" | "));
  }

  #typed(schema: JsonObject, place: Place): string | null {
    const types = [schema["type"] ?? impliedType(schema) ?? []].flat();
    if (schema["type"] === undefined && types.length === 0) return "value";
    const rules = types.map((type) => this.#ofType(type, schema, place)).filter((rule) => rule !== null);
    const ways = [...new Set(rules)];
    if (ways.length === 0) return null;
    return ways.length === 1 ? (ways[0] as string) : this.rule(place.name, ways.join(" | "));
  }

  #ofType(type: Json, schema: JsonObject, place: Place): string | null {
    switch (type) {
      case "string":
        return stringRule(this, schema, place);
      case "integer":
      case "number":
        return numberRule(this, type, schema, place);
      case "boolean":
      case "null":
        return type;
      case "array":
        return arrayRule(this, schema, place);
      case "object":
        return objectRule(this, schema, place);
      case "any":
        return "value";
      default:
        throw this.#refusal(`the type ${JSON.stringify(type).slice(0, 40)}`, place);
    }
  }

  #tooLarge(): ApiError {
    return this.#refusal("a schema as large as this one", { pointer: "", name: "" });
  }

  #refusal(what: string, { pointer }: Place): ApiError {
    const where = pointer === "" ? "" : ` at ${pointer}`;
    return new ApiError(
      "unsupported_parameter",
      `the embedded llama.cpp cannot hold a model to ${what}${where}; leave it out of the schema`,
      { param: this.options.param },
    );
  }
}

/** OpenAPI's `nullable` as a type; beside an enum it asks for nothing: that must list null itself. */
function withNull(schema: JsonObject, nullable: Json | undefined): JsonObject {
  const { type } = schema;
  if (nullable !== true || type === undefined) return schema;
  return { ...schema, type: [...new Set([type, "null"].flat())] };
}
