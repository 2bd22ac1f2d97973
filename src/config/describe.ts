import { z } from "zod";
import { schema } from "./schema.ts";
import { facts, type SettingFacts } from "./setting.ts";
import { formatDuration, formatSize } from "./units.ts";

/** One setting of the schema. */
export interface Setting {
  /** Its path, where `*` stands for any name: `["providers", "*", "key"]`. */
  readonly keys: readonly string[];
  readonly about: string;
  readonly facts: SettingFacts;
  readonly schema: z.ZodType;
  /** What a value may be before units and spellings are read. */
  readonly accepts: ReadonlySet<"string" | "number" | "boolean" | "list" | "map">;
}

/** What zod's own definition of a schema holds, as far as we read it. */
interface Definition {
  readonly type: string;
  readonly shape?: Record<string, z.ZodType>;
  readonly innerType?: z.ZodType;
  readonly valueType?: z.ZodType;
  readonly in?: z.ZodType;
  readonly options?: readonly z.ZodType[];
  readonly values?: readonly unknown[];
}

let walked: Setting[] | undefined;

/** Every setting, in the order of the schema. */
export function settings(): readonly Setting[] {
  walked ??= [...walk(schema, [])];
  return walked;
}

/** The setting at a path such as `["providers", "vllm", "key"]`, or undefined. */
export function settingAt(keys: readonly string[]): Setting | undefined {
  return settings().find((one) => one.keys.length === keys.length && startsWith(one.keys, keys));
}

/** Names that may follow the path: `[]` → `listen`, `auth`, …; empty when any name may, or nothing. */
export function keysBelow(keys: readonly string[]): string[] {
  const below = settings().filter((one) => one.keys.length > keys.length && startsWith(one.keys, keys));
  return [...new Set(below.map((one) => one.keys[keys.length] ?? ""))].filter((key) => key !== "*");
}

/** Whether settings lie below the path: `["llama"]`, `["providers", "vllm"]`. */
export function isSection(keys: readonly string[]): boolean {
  return settings().some((one) => one.keys.length > keys.length && startsWith(one.keys, keys));
}

/** `["providers", "*", "maxOutput"]` → `LAIR_PROVIDERS_*_MAX_OUTPUT`. */
export function environmentName(keys: readonly string[]): string {
  return ["lair", ...keys]
    .map((key) =>
      key
        .replace(/[A-Z]/g, (letter) => `_${letter}`)
        .toUpperCase()
        .replaceAll("-", "_"),
    )
    .join("_");
}

/** What is allowed, as the end of a sentence: `a whole number from 0 to 65535`. */
export function allowedText(setting: Setting): string {
  if (setting.facts.unit === "duration") return "a duration such as 30s, 10m or 1h30m, or a number of seconds";
  if (setting.facts.unit === "size") return "a size such as 64MB or 512KB, or a number of bytes";
  const spellings = Object.entries(setting.facts.spellings ?? {});
  const also = spellings.filter(([, meaning]) => meaning === null).map(([word]) => word);
  const text = schemaText(toJsonSchema(setting.schema));
  return also.length === 0 ? text : `${text}; ${also.join(" or ")}: as if not set`;
}

/** The default as a person writes it; undefined when there is none. */
export function defaultText(setting: Setting): string | undefined {
  const { default: value } = toJsonSchema(setting.schema);
  const text = typeof value === "string" ? value : JSON.stringify(value);
  return text === "{}" || text === "[]" ? undefined : text;
}

/** A value of a loaded configuration as a person writes it in YAML: `30s`, `64MB`, `["a"]`. */
export function valueText(setting: Setting | undefined, value: unknown): string {
  if (setting?.facts.unit === "duration" && typeof value === "number") return formatDuration(value);
  if (setting?.facts.unit === "size" && typeof value === "number") return formatSize(value);
  return typeof value === "string" ? value : JSON.stringify(value);
}

/** The JSON Schema of the configuration file (draft 2020-12), for editors. */
export function jsonSchema(): z.core.JSONSchema.JSONSchema {
  return { ...toJsonSchema(schema), title: "Configuration of Local AI Runtime (lair.yaml)" };
}

function toJsonSchema(of: z.ZodType): z.core.JSONSchema.JSONSchema {
  return z.toJSONSchema(of, {
    io: "input",
    unrepresentable: "any",
    override({ jsonSchema: json }) {
      // zod writes the largest safe integer where no bound was given.
      if (json.maximum === Number.MAX_SAFE_INTEGER) delete json.maximum;
      if (json.minimum === Number.MIN_SAFE_INTEGER) delete json.minimum;
    },
  });
}

function startsWith(pattern: readonly string[], keys: readonly string[]): boolean {
  // zod drops a `__proto__` without a word; here it matches no name and so is refused.
  return keys.every((key, at) => pattern[at] === key || (pattern[at] === "*" && key !== "__proto__"));
}

function* walk(node: z.ZodType, keys: readonly string[]): Generator<Setting> {
  if (facts.has(node)) {
    yield {
      keys,
      about: node.description ?? "",
      facts: facts.get(node) ?? {},
      schema: node,
      accepts: new Set(accepted(node)),
    };
    return;
  }
  const { shape, innerType, valueType, in: input } = definition(node);
  for (const [key, child] of Object.entries(shape ?? {})) yield* walk(child, [...keys, key]);
  if (valueType !== undefined) yield* walk(valueType, [...keys, "*"]);
  const inner = innerType ?? input;
  if (inner !== undefined) yield* walk(inner, keys);
}

function accepted(node: z.ZodType): ("string" | "number" | "boolean" | "list" | "map")[] {
  const { type, innerType, in: input, options, values } = definition(node);
  if (options !== undefined) return options.flatMap(accepted);
  const inner = innerType ?? input;
  if (inner !== undefined) return accepted(inner);
  if (type === "literal") return (values ?? []).map((value) => (typeof value === "number" ? "number" : "string"));
  if (type === "number" || type === "int") return ["number"];
  if (type === "boolean") return ["boolean"];
  if (type === "array") return ["list"];
  if (type === "record") return ["map"];
  return ["string"];
}

function definition(node: z.ZodType): Definition {
  return node.def as unknown as Definition;
}

function schemaText(json: z.core.JSONSchema._JSONSchema): string {
  if (typeof json === "boolean") return "anything";
  const { anyOf, enum: words, const: word, type, pattern } = json;
  if (anyOf !== undefined) return anyOf.map(schemaText).join(", or ");
  if (words !== undefined) return `one of ${words.join(", ")}`;
  if (word !== undefined) return String(word);
  if (type === "integer") return `a whole number${rangeText(json)}`;
  if (type === "number") return `a number${rangeText(json)}`;
  if (type === "boolean") return "true or false";
  if (type === "array") return "a list of texts";
  if (type === "object") return "a map from names to texts";
  if (pattern?.includes("ms") === true) return "a duration such as 10m";
  return "a text";
}

function rangeText({ minimum, maximum, exclusiveMinimum }: z.core.JSONSchema.JSONSchema): string {
  if (exclusiveMinimum !== undefined) return ` above ${exclusiveMinimum}`;
  if (minimum !== undefined && maximum !== undefined) return ` from ${minimum} to ${maximum}`;
  return minimum === undefined ? "" : `, at least ${minimum}`;
}
