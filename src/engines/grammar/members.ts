import type { Tool } from "../../core/chat.ts";
import { isObject, type Json, type JsonObject } from "../../core/json.ts";
import { classCharacter, literalText } from "./gbnf.ts";
import type { GrammarBuilder } from "./json-schema.ts";

/** How parameters are written that are no members of a JSON object. */
export interface MemberSyntax {
  /** GBNF of one parameter: its key (as text, or a rule where any key goes) around its value's rule. */
  readonly member: (key: string, value: { rule: string; isText: boolean }) => string;
  /** What ends the text of a string that has no quotes; null where strings are written as JSON. */
  readonly textEnd: string | null;
  readonly between: string;
}

/** Adds a rule for the parameters of a tool, in the order of its schema, the optional ones left out at will. */
export function addMembers(builder: GrammarBuilder, tool: Tool, name: string, syntax: MemberSyntax): string {
  const { parameters } = tool;
  const properties = Object.entries(isObject(parameters["properties"]) ? parameters["properties"] : {});
  const required = new Set(Array.isArray(parameters["required"]) ? parameters["required"] : []);
  const members = properties.map(([key, schema]) => {
    const value = addValue(builder, parameters, schema ?? true, { name: `${name}-${key}`, textEnd: syntax.textEnd });
    return {
      rule: builder.rule(`${name}-${key}-is`, syntax.member(literalText(key), value)),
      required: required.has(key),
    };
  });
  const between = syntax.between === "" ? "" : literalText(syntax.between);
  if (properties.length === 0 && parameters["additionalProperties"] !== false) {
    const others = parameters["additionalProperties"] ?? true;
    const value = addValue(builder, parameters, others, { name: `${name}-other`, textEnd: syntax.textEnd });
    const other = builder.rule(`${name}-other-is`, syntax.member("[a-zA-Z_] [a-zA-Z0-9_]{0,40}", value));
    members.push({ rule: `${other} (${between} ${other}){0,20}`, required: false });
  }
  return builder.rule(name, inOrder(builder, name, members, between));
}

function addValue(
  builder: GrammarBuilder,
  document: JsonObject,
  schema: Json,
  { name, textEnd }: { name: string; textEnd: string | null },
): { rule: string; isText: boolean } {
  if (textEnd !== null && isObject(schema)) {
    const listed = Array.isArray(schema["enum"]) ? schema["enum"] : [schema["const"]];
    const texts = listed.filter((value) => typeof value === "string");
    if (texts.length === listed.length) {
      return { rule: builder.rule(name, texts.map((text) => literalText(text)).join(" | ")), isText: true };
    }
    if (schema["type"] === "string" && schema["enum"] === undefined) {
      for (const keyword of ["pattern", "format", "minLength", "maxLength"]) {
        if (schema[keyword] !== undefined) builder.loosened.add(keyword);
      }
      return { rule: addText(builder, textEnd), isText: true };
    }
  }
  // Definitions are where the references of the whole schema point.
  const definitions = Object.fromEntries(
    ["$defs", "definitions"].flatMap((key) => (document[key] === undefined ? [] : [[key, document[key]]])),
  );
  return { rule: builder.schema(isObject(schema) ? { ...definitions, ...schema } : schema, name), isText: false };
}

const textRules = new WeakMap<GrammarBuilder, Map<string, string>>();

/** Adds a rule for any text, also none, that does not hold `end`: an automaton of its prefixes. */
export function addText(builder: GrammarBuilder, end: string): string {
  const known = textRules.get(builder) ?? new Map<string, string>();
  textRules.set(builder, known);
  const made = known.get(end);
  if (made !== undefined) return made;
  const characters = [...end];
  const letters = [...new Set(characters)];
  // Rules refer to one another: their names must be known before they are written. No other rule is named so.
  const name = (state: number): string => `until-${known.size}-${state}`;
  for (const [state] of characters.entries()) {
    const ways = letters.flatMap((letter) => {
      const next = longestPrefix(characters, [...characters.slice(0, state), letter]);
      return next === characters.length ? [] : [`${literalText(letter)} ${name(next)}`];
    });
    const other = `[^${letters.map((letter) => classCharacter(letter)).join("")}] ${name(0)}`;
    builder.rule(name(state), ["", other, ...ways].join(" | "));
  }
  const first = name(0);
  known.set(end, first);
  return first;
}

/** Length of the longest beginning of `word` that `text` ends with. */
function longestPrefix(word: readonly string[], text: readonly string[]): number {
  for (let length = Math.min(word.length, text.length); length > 0; length--) {
    if (word.slice(0, length).every((character, index) => character === text[text.length - length + index]))
      return length;
  }
  return 0;
}

/** Members in order, the optional ones each with what parts it from the one before. */
function inOrder(
  builder: GrammarBuilder,
  name: string,
  members: readonly { rule: string; required: boolean }[],
  between: string,
): string {
  if (members.length === 0) return `""`;
  if (between === "") return members.map(({ rule, required }) => (required ? rule : `(${rule})?`)).join(" ");
  const rest: string[] = [];
  let following = "";
  for (const member of members.toReversed()) {
    rest.unshift(following);
    const body = `${between} ${member.rule}`;
    following = builder.rule(`${name}-rest`, `${member.required ? body : `(${body})?`} ${following}`.trim());
  }
  const firstRequired = members.findIndex((member) => member.required);
  const starts = members.slice(0, firstRequired < 0 ? undefined : firstRequired + 1);
  const ways = starts.map((member, index) => `${member.rule} ${rest[index] ?? ""}`.trim()).join(" | ");
  return firstRequired < 0 ? `(${ways})?` : `(${ways})`;
}
