import type { Tool } from "../../core/chat.ts";
import { isObject, type Json } from "../../core/json.ts";
import { classCharacter, literalText, nothing } from "./gbnf.ts";
import { parameterKind } from "../parsers/typed-value.ts";
import type { GrammarBuilder } from "./json-schema.ts";
import type { Place } from "./rules.ts";

/** How parameters are written that are no members of a JSON object. */
export interface MemberSyntax {
  /** GBNF of one parameter, of the GBNF of its key and its value's rule. */
  readonly member: (key: string, value: { rule: string; isText: boolean }) => string;
  /** What ends a string that is written without quotes; null where strings are written as JSON. */
  readonly textEnd: string | null;
  readonly between: string;
}

/** Adds a rule for the parameters of a tool, in the order of its schema, the optional ones left out at will. */
export function addMembers(builder: GrammarBuilder, tool: Tool, name: string, syntax: MemberSyntax): string {
  const { parameters } = tool;
  const properties = Object.entries(isObject(parameters["properties"]) ? parameters["properties"] : {});
  const required = new Set(Array.isArray(parameters["required"]) ? parameters["required"] : []);
  const members = properties.map(([key, schema]) => {
    const isText = syntax.textEnd !== null && parameterKind(parameters, key) === "string";
    const place = { name: `${name}-${key}`, pointer: `/properties/${key}` };
    const rule = isText
      ? addText(builder, schema ?? true, syntax.textEnd ?? "", place)
      : builder.schema(schema ?? true, place.name, parameters);
    return { rule: syntax.member(literalText(key), { rule, isText }), required: required.has(key) };
  });
  const between = syntax.between === "" ? "" : literalText(syntax.between);
  if (properties.length === 0 && parameters["additionalProperties"] !== false) {
    const rule = builder.schema(parameters["additionalProperties"] ?? true, `${name}-other`, parameters);
    const other = builder.rule(`${name}-any`, syntax.member("[a-zA-Z_] [a-zA-Z0-9_]{0,40}", { rule, isText: false }));
    members.push({ rule: `${other} (${between} ${other}){0,20}`, required: false });
  }
  return builder.rule(name, inOrder(builder, name, members, between));
}

/** Adds a rule for a string that is written without quotes. */
function addText(builder: GrammarBuilder, schema: Json, end: string, place: Place): string {
  if (isObject(schema)) {
    const listed = Array.isArray(schema["enum"]) ? schema["enum"] : "const" in schema ? [schema["const"]] : [];
    const texts = listed.filter((value) => typeof value === "string");
    if (texts.length > 0) return builder.rule(place.name, texts.map((text) => literalText(text)).join(" | "));
    for (const keyword of ["pattern", "format", "minLength", "maxLength", "$ref", "anyOf", "oneOf", "allOf"]) {
      if (schema[keyword] !== undefined) builder.loosen(`${keyword} of a text without quotes`, place);
    }
  }
  return addTextUntil(builder, end);
}

const textRules = new WeakMap<GrammarBuilder, Map<string, string>>();

/** Adds a rule for any text, also none, that does not hold `end`: an automaton of its prefixes. */
function addTextUntil(builder: GrammarBuilder, end: string): string {
  const known = textRules.get(builder) ?? new Map<string, string>();
  textRules.set(builder, known);
  const made = known.get(end);
  if (made !== undefined) return made;
  const characters = [...end];
  const letters = [...new Set(characters)];
  const states = characters.map((_, state) => builder.reserve(`text-${state}`));
  for (const [state, name] of states.entries()) {
    const ways = letters.flatMap((letter) => {
      const next = longestPrefix(characters, [...characters.slice(0, state), letter]);
      return next === characters.length ? [] : [`${literalText(letter)} ${states[next] ?? ""}`];
    });
    const other = `[^${letters.map((letter) => classCharacter(letter)).join("")}] ${states[0] ?? ""}`;
    builder.define(name, [nothing, other, ...ways].join(" | "));
  }
  const [first = ""] = states;
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
  if (members.length === 0) return nothing;
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
