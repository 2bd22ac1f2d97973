import { ApiError } from "../../core/errors.ts";
import { isObject, type Json, type JsonObject } from "../../core/json.ts";
import { classCharacter, literal, literalText, primitives } from "./gbnf.ts";
import { impliedType } from "./implied-type.ts";

/** How faithful a grammar must be to its schema. */
export interface GrammarOptions {
  /** true: whatever cannot be expressed is refused. false: it is left out and named in `loosened`. */
  readonly strict: boolean;
  /** The request's field that holds the schema, for errors. */
  readonly param: string;
}

/** JSON Schema keywords that this grammar cannot hold a model to. */
const inexpressible = [
  "pattern",
  "minimum",
  "maximum",
  "exclusiveMinimum",
  "exclusiveMaximum",
  "multipleOf",
  "uniqueItems",
  "contains",
  "minProperties",
  "maxProperties",
  "patternProperties",
  "propertyNames",
  "dependentRequired",
  "dependentSchemas",
  "not",
  "if",
  "unevaluatedProperties",
] as const;

/** llama.cpp copies a repeated rule as often as the bound says, and refuses some thousands. */
const largestRepetition = 1000;
const deepestNesting = 64;
const mostRules = 20_000;

/**
 * Collects GBNF rules. Objects are written with their properties in the order of the schema and, where the schema names
 * properties but says nothing of others, with no others: everything that is produced is valid, not everything valid is
 * produced. `allOf` merges objects. Keywords that no grammar can express: see `GrammarOptions.strict`.
 */
export class GrammarBuilder {
  /** Keywords that were left out, e.g. `pattern`. */
  readonly loosened = new Set<string>();
  readonly #options: GrammarOptions;
  readonly #rules = new Map<string, string>();
  #document: Json = {};
  #references = new Map<string, string>();
  #depth = 0;

  constructor(options: GrammarOptions) {
    this.#options = options;
  }

  /** Adds a rule as it is written; returns its name. */
  rule(name: string, body: string): string {
    let unique = name.replace(/[^a-zA-Z0-9-]/g, "-");
    for (let number = 2; this.#rules.has(unique) || unique in primitives; number++)
      unique = `${name.replace(/[^a-zA-Z0-9-]/g, "-")}-${number}`;
    if (this.#rules.size >= mostRules) throw this.#refusal("a schema as large as this one");
    this.#rules.set(unique, body);
    return unique;
  }

  /** Adds the rules of a whole schema document; returns the name of its first. Throws `ApiError`. */
  schema(schema: Json, name: string): string {
    this.#document = schema;
    this.#references = new Map();
    return this.#visit(schema, name);
  }

  /** The grammar, which starts at the rule `root`. */
  text(root: string): string {
    const rules = [...this.#rules].map(([name, body]) => `${name} ::= ${body}`);
    return [
      `root ::= ${root}`,
      ...rules,
      ...Object.entries(primitives).map(([name, body]) => `${name} ::= ${body}`),
    ].join("\n");
  }

  #visit(schema: Json, name: string): string {
    if (++this.#depth > deepestNesting) throw this.#refusal(`a schema nested deeper than ${deepestNesting} levels`);
    try {
      return this.#rule(schema, name);
    } finally {
      this.#depth--;
    }
  }

  #rule(schema: Json, name: string): string {
    if (schema === true) return "value";
    if (!isObject(schema)) throw this.#refusal("a schema that is neither an object nor true");
    for (const keyword of inexpressible) if (schema[keyword] !== undefined) this.#loosen(keyword);
    if (typeof schema["$ref"] === "string") return this.#reference(schema["$ref"]);
    if (schema["const"] !== undefined) return this.rule(name, literal(schema["const"]));
    if (Array.isArray(schema["enum"])) return this.rule(name, schema["enum"].map(literal).join(" | "));
    const alternatives = schema["anyOf"] ?? schema["oneOf"];
    if (Array.isArray(alternatives)) return this.#union(alternatives, schema, name);
    if (Array.isArray(schema["allOf"])) return this.#rule(this.#merge(schema), name);
    return this.#typed(schema, name);
  }

  #union(alternatives: Json[], schema: JsonObject, name: string): string {
    // Siblings of anyOf hold for every branch.
    const {
      anyOf: _anyOf,
      oneOf: _oneOf,
      title: _title,
      description: _description,
      $defs: _defs,
      definitions: _definitions,
      default: _default,
      ...rest
    } = schema;
    const branches = alternatives.map((branch, index) => {
      const whole =
        Object.keys(rest).length === 0 || !isObject(branch) ? branch : this.#merge({ allOf: [rest, branch] });
      return this.#visit(whole, `${name}-${index}`);
    });
    return this.rule(name, branches.join(" | "));
  }

  #typed(schema: JsonObject, name: string): string {
    const types = Array.isArray(schema["type"]) ? schema["type"] : [schema["type"] ?? impliedType(schema)];
    const nullable = schema["nullable"] === true && !types.includes("null") ? ["null"] : [];
    const rules = [...types, ...nullable].map((type) => this.#ofType(type ?? null, schema, name));
    return rules.length === 1 && rules[0] !== undefined ? rules[0] : this.rule(name, rules.join(" | "));
  }

  #ofType(type: Json, schema: JsonObject, name: string): string {
    switch (type) {
      case null:
        return "value";
      case "string":
        return this.#string(schema, name);
      case "integer":
      case "number":
      case "boolean":
      case "null":
        return type;
      case "array":
        return this.#array(schema, name);
      case "object":
        return this.#object(schema, name);
      default:
        throw this.#refusal(`the type ${JSON.stringify(type)}`);
    }
  }

  #string(schema: JsonObject, name: string): string {
    const bounds = this.#bounds(schema, "minLength", "maxLength");
    return bounds === null ? "string" : this.rule(name, `"\\"" char${bounds} "\\""`);
  }

  /** `{min,max}`, or null when there is nothing to count. */
  #bounds(schema: JsonObject, least: string, most: string): string | null {
    const low = typeof schema[least] === "number" ? schema[least] : 0;
    const high = typeof schema[most] === "number" ? schema[most] : null;
    if (high !== null && high < low) throw this.#refusal(`${most} below ${least}`);
    if (low > largestRepetition) throw this.#refusal(`${least} above ${largestRepetition}`);
    if (high !== null && high > largestRepetition) this.#loosen(`${most} above ${largestRepetition}`);
    const top = high === null || high > largestRepetition ? "" : String(high);
    return low === 0 && top === "" ? null : `{${low},${top}}`;
  }

  #array(schema: JsonObject, name: string): string {
    const fixed = Array.isArray(schema["prefixItems"])
      ? schema["prefixItems"]
      : Array.isArray(schema["items"])
        ? schema["items"]
        : null;
    if (fixed !== null) {
      const items = fixed.map((item, index) => this.#visit(item, `${name}-${index}`)).join(` ws "," ws `);
      return this.rule(name, `"[" ws ${items} ws "]"`);
    }
    const item = this.#visit(schema["items"] ?? true, `${name}-item`);
    const bounds = this.#bounds(schema, "minItems", "maxItems");
    const [low, high] = /\{(\d+),(\d*)\}/.exec(bounds ?? "")?.slice(1) ?? ["0", ""];
    if (high === "0") return this.rule(name, `"[" ws "]"`);
    const more = `("," ws ${item} ws){${Math.max(0, Number(low) - 1)},${high === "" ? "" : Number(high) - 1}}`;
    const list = `${item} ws ${more}`;
    return this.rule(name, Number(low) > 0 ? `"[" ws ${list} "]"` : `"[" ws (${list})? "]"`);
  }

  #object(schema: JsonObject, name: string): string {
    const properties = Object.entries(isObject(schema["properties"]) ? schema["properties"] : {});
    const required = new Set(Array.isArray(schema["required"]) ? schema["required"] : []);
    for (const key of required) {
      if (typeof key === "string" && !properties.some(([known]) => known === key)) properties.push([key, true]);
    }
    const members = properties.map(([key, value]) => ({
      rule: this.rule(
        `${name}-${key}-kv`,
        `${literal(key)} ws ":" ws ${this.#visit(value ?? true, `${name}-${key}`)} ws`,
      ),
      required: required.has(key),
    }));
    const others = schema["additionalProperties"] ?? properties.length === 0;
    if (others !== false && schema["patternProperties"] === undefined) {
      const value = this.#visit(others, `${name}-other`);
      const key =
        properties.length === 0
          ? "string"
          : this.#otherKey(
              properties.map(([known]) => known),
              name,
            );
      const member = this.rule(`${name}-other-kv`, `${key} ws ":" ws ${value} ws`);
      members.push({ rule: this.rule(`${name}-others`, `${member} ("," ws ${member})*`), required: false });
    }
    return this.rule(name, `"{" ws ${this.#members(members, name)} "}"`);
  }

  /** Members in order, the optional ones each with its comma: `rest` rules follow something, so that they begin with one. */
  #members(members: readonly { rule: string; required: boolean }[], name: string): string {
    if (members.length === 0) return "";
    const rest: string[] = [];
    let following = "";
    for (const member of members.toReversed()) {
      rest.unshift(following);
      const body = member.required ? `"," ws ${member.rule}` : `("," ws ${member.rule})?`;
      following = this.rule(`${name}-rest`, `${body} ${following}`.trim());
    }
    const firstRequired = members.findIndex((member) => member.required);
    const starts = members.slice(0, firstRequired < 0 ? undefined : firstRequired + 1);
    const ways = starts.map((member, index) => `${member.rule} ${rest[index] ?? ""}`.trim()).join(" | ");
    return firstRequired < 0 ? `(${ways})?` : `(${ways})`;
  }

  /** A string that is none of `keys`, so that no key comes twice. */
  #otherKey(keys: readonly string[], name: string): string {
    const level = (depth: number, group: readonly string[]): string => {
      const heads = [...new Set(group.flatMap((key) => [...key].slice(depth, depth + 1)))];
      const ways = heads.map((head) => {
        const same = group.filter((key) => [...key][depth] === head);
        return `${literalText(head)} ${level(depth + 1, same)}`;
      });
      ways.push(`[^"\\\\\\x7F\\x00-\\x1F${heads.map(classCharacter).join("")}] char*`);
      const complete = group.some((key) => [...key].length === depth);
      return `(${ways.join(" | ")})${complete ? "" : "?"}`;
    };
    // Keys with escapes are rare; where there are some, the trie would have to compare what is written, not what is meant.
    const plain = keys.filter((key) => !/["\\\p{Cc}]/u.test(key));
    return this.rule(`${name}-other-key`, `"\\"" ${level(0, plain)} "\\""`);
  }

  #reference(pointer: string): string {
    const known = this.#references.get(pointer);
    if (known !== undefined) return known;
    if (!pointer.startsWith("#")) throw this.#refusal(`the reference ${pointer} to another document`);
    let target: Json | undefined = this.#document;
    for (const part of pointer
      .slice(1)
      .split("/")
      .filter((step) => step !== "")) {
      const key = part
        .replace(/%([0-9a-f]{2})/gi, (_, hex: string) => String.fromCharCode(parseInt(hex, 16)))
        .replaceAll("~1", "/")
        .replaceAll("~0", "~");
      target = Array.isArray(target) ? target[Number(key)] : isObject(target) ? target[key] : undefined;
    }
    if (target === undefined) {
      throw new ApiError("invalid_value", `the schema refers to ${pointer}, which it does not hold`, {
        param: this.#options.param,
      });
    }
    // Named before it is visited: a schema may refer to itself.
    const name = this.rule(`ref${pointer.replaceAll("/", "-")}`, "");
    this.#references.set(pointer, name);
    this.#rules.set(name, this.#visit(target, `${name}-is`));
    return name;
  }

  #merge(schema: JsonObject): JsonObject {
    const { allOf, ...own } = schema;
    let merged: JsonObject = own;
    for (const part of Array.isArray(allOf) ? allOf : []) merged = this.#both(merged, this.#resolved(part));
    return merged;
  }

  #resolved(part: Json): JsonObject {
    if (++this.#depth > deepestNesting) throw this.#refusal(`a schema nested deeper than ${deepestNesting} levels`);
    try {
      return this.#resolve(part);
    } finally {
      this.#depth--;
    }
  }

  #resolve(part: Json): JsonObject {
    if (!isObject(part)) throw this.#refusal("allOf with a part that is no object");
    if (typeof part["$ref"] === "string") {
      const steps = part["$ref"].split("/").slice(1);
      const target = steps.reduce<Json | undefined>(
        (at, step) => (isObject(at) ? at[step] : undefined),
        this.#document,
      );
      if (isObject(target)) return this.#merge(target);
    }
    return this.#merge(part);
  }

  #both(a: JsonObject, b: JsonObject): JsonObject {
    const merged: JsonObject = { ...a };
    for (const [key, value] of Object.entries(b)) {
      const mine = merged[key];
      if (mine === undefined || JSON.stringify(mine) === JSON.stringify(value)) merged[key] = value;
      else if (key === "properties" && isObject(mine) && isObject(value)) merged[key] = { ...mine, ...value };
      else if (key === "required" && Array.isArray(mine) && Array.isArray(value))
        merged[key] = [...new Set([...mine, ...value])];
      else if (typeof mine === "number" && typeof value === "number" && /^(min|max)(Length|Items)$/.test(key)) {
        merged[key] = key.startsWith("min") ? Math.max(mine, value) : Math.min(mine, value);
      } else if ((inexpressible as readonly string[]).includes(key)) this.#loosen(key);
      else if (key === "additionalProperties") merged[key] = false;
      else if (!["title", "description", "$comment", "examples", "default"].includes(key)) {
        throw this.#refusal(`allOf (or anyOf beside other keywords) whose parts disagree on ${key}`);
      }
    }
    return merged;
  }

  #loosen(keyword: string): void {
    if (this.#options.strict) throw this.#refusal(`the keyword ${keyword}`);
    this.loosened.add(keyword);
  }

  #refusal(what: string): ApiError {
    return new ApiError(
      "unsupported_parameter",
      `the embedded llama.cpp cannot hold a model to ${what}; leave it out of the schema`,
      {
        param: this.#options.param,
      },
    );
  }
}
