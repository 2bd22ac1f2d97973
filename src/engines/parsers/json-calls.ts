import type { Tool } from "../../core/chat.ts";
import { literal, literalText } from "../grammar/gbnf.ts";
import type { GrammarBuilder } from "../grammar/json-schema.ts";
import { isObject } from "../../core/json.ts";
import { parseJson } from "./typed-value.ts";
import type { Answer } from "./answer.ts";
import { type Input, type Reading, Unreadable } from "./input.ts";
import { copyValue, readString, readValue } from "./json-copy.ts";
import type { CallSyntax } from "./call-syntax.ts";

/** Calls as JSON objects, in a list or one after another. */
export interface JsonCalls {
  /** What a call, or a list of calls, begins with; the first is what a grammar writes. */
  readonly openers: readonly string[];
  /** With what a call certainly begins, where the opener is a word of prose too. */
  readonly trigger?: string;
  /** What it ends with; "" where the end of the output ends it. */
  readonly close: string;
  /** Other control tokens that may stand among the calls. */
  readonly tokens?: readonly string[];
  /** How a grammar writes several: `each` with its own tags, as `list`, or `together` between one pair of tags. */
  readonly several: "each" | "list" | "together";
  /** Between two calls that are not in a list. */
  readonly between?: string;
  /** White space, or a fence, inside the tags. */
  readonly inside?: readonly [after: string, before: string];
  /** The members that a grammar writes. `named`: the tool's name is the key, and there is no other. */
  readonly members?: "arguments" | "parameters" | "tool_name" | "named";
  /** An answer that begins as a call of a known tool is one, without an opener. */
  readonly bare?: boolean;
  /** Openers that are no tags of their own: what follows is a call only when it names one of the tools. */
  readonly weak?: readonly string[];
}

/** The syntax of calls that are JSON objects. */
export function jsonCalls(form: JsonCalls): CallSyntax {
  const weak = form.weak ?? [];
  return {
    openers: [...form.openers.filter((opener) => opener !== ""), ...weak],
    bare: form.bare === true ? ["{", "["] : [],
    preserved: [...form.openers, form.close, ...(form.tokens ?? [])].filter((text) => text !== ""),
    triggers: [form.trigger ?? form.openers[0] ?? ""],
    readCalls: (input, answer, opener, options) => {
      const needsKnown = opener === "" || weak.includes(opener);
      const known = needsKnown ? (name: string): boolean => options.tools.some((tool) => tool.name === name) : null;
      return readJsonCalls(input, answer, { form, known, fenced: fences.includes(opener) });
    },
    addCalls: (builder, tools, parallel) => addJsonCalls(builder, tools, { form, parallel }),
  };
}

interface Rules {
  readonly form: JsonCalls;
  /** Tells the tools that may be called; null: any name goes. */
  readonly known: ((name: string) => boolean) | null;
  /** The opener was a fence, so that one closes it. */
  readonly fenced: boolean;
}

const fences = ["```json", "```"];

function* readJsonCalls(input: Input, answer: Answer, rules: Rules): Reading {
  const { close } = rules.form;
  yield* input.space();
  const fenced = (yield* input.acceptAny(fences)) !== null || rules.fenced;
  yield* input.space();
  const list = yield* input.accept("[");
  yield* input.space();
  for (;;) {
    yield* readCall(input, answer, rules);
    input.mark();
    yield* input.space();
    // Lists are parted by commas; lines of Llama by semicolons.
    const parted = (yield* input.acceptAny([",", ";"])) !== null;
    if (parted) yield* input.space();
    if ((yield* input.peek()) !== "{") {
      input.rewind();
      break;
    }
    input.mark();
  }
  if (list) yield* acceptAfterSpace(input, answer, ["]"]);
  if (fenced) yield* acceptAfterSpace(input, answer, ["```"]);
  if (close !== "") yield* acceptAfterSpace(input, answer, [close]);
}

/** Consumes one of the texts and the white space before it; white space before anything else is said. */
export function* acceptAfterSpace(input: Input, answer: Answer, texts: readonly string[]): Reading<boolean> {
  const space = yield* input.space();
  if ((yield* input.acceptAny(texts)) !== null) return true;
  answer.text(space);
  return false;
}

function* readCall(input: Input, answer: Answer, rules: Rules): Reading {
  yield* input.expect("{");
  if (rules.form.members === "named") yield* readNamedMember(input, answer);
  else yield* readMembers(input, answer, rules, 0);
}

/** `{"name": {arguments}}` */
function* readNamedMember(input: Input, answer: Answer): Reading {
  yield* input.space();
  const name = yield* readString(input);
  yield* readColon(input);
  yield* copyArguments(input, answer, name);
  yield* input.space();
  yield* input.expect("}");
}

const nameKeys = new Set(["name", "tool_name", "function_name", "tool"]);
const argumentKeys = new Set(["arguments", "parameters", "args", "input"]);

/** The members of a call, in any order, and what else stands among them (ids, a type). */
function* readMembers(input: Input, answer: Answer, rules: Rules, depth: number): Reading {
  let name: string | null = null;
  let early: string | null = null;
  let told = false;
  for (let first = true; ; first = false) {
    yield* input.space();
    if (yield* input.accept("}")) break;
    const key = yield* readString(input);
    // What has no tag of its own is no call as soon as it looks otherwise.
    if (rules.known !== null && first && !nameKeys.has(key) && key !== "type" && key !== "function") {
      throw new Unreadable("no call");
    }
    yield* readColon(input);
    if (key === "function" && depth === 0 && (yield* input.accept("{"))) {
      yield* readMembers(input, answer, rules, 1);
      told = true;
    } else if (nameKeys.has(key) || (key === "function" && name === null)) {
      name = yield* readName(input, rules);
    } else if (!argumentKeys.has(key) || told || early !== null) yield* readValue(input);
    else if (name === null) early = yield* readValue(input);
    else {
      yield* copyArguments(input, answer, name);
      told = true;
    }
    yield* input.space();
    if (!(yield* input.accept(","))) {
      yield* input.expect("}");
      break;
    }
  }
  if (told) return;
  if (name === null) throw new Unreadable("a call without a name");
  tell(answer, name, early ?? "{}");
}

function* readName(input: Input, rules: Rules): Reading<string> {
  const name = yield* readString(input);
  if (name === "" || rules.known?.(name) === false) throw new Unreadable("a call of no tool");
  return name;
}

function* readColon(input: Input): Reading {
  yield* input.space();
  yield* input.expect(":");
  yield* input.space();
}

/** Tells of a call and copies its arguments as they come: an object, or its JSON text in a string, or none. */
export function* copyArguments(input: Input, answer: Answer, name: string): Reading {
  if ((yield* input.peek()) !== "{") return tell(answer, name, yield* readValue(input));
  answer.begin(name);
  yield* copyValue(input, (json) => answer.arguments(json));
}

/** Tells of a call with arguments that are there already. */
function tell(answer: Answer, name: string, json: string): void {
  const value = parseJson(json);
  const text = typeof value === "string" ? value : json;
  const given = value === null || text.trim() === "" ? "{}" : text;
  if (!isObject(parseJson(given))) throw new Unreadable("arguments that are no object");
  answer.begin(name, given);
}

function addJsonCalls(
  builder: GrammarBuilder,
  tools: readonly Tool[],
  { form, parallel }: { form: JsonCalls; parallel: boolean },
): string {
  const ways = tools.map((tool, index) => {
    const parameters = builder.schema(tool.parameters, `tool-${index}`);
    return builder.rule(`call-${index}`, `"{" ws ${callMembers(form, tool, parameters)} ws "}"`);
  });
  const call = builder.rule("any-call", ways.join(" | "));
  const [after, before] = form.inside ?? ["", ""];
  const tagged = (body: string): string =>
    `${text(form.openers[0] + after)} ${body} ${text(before + form.close)}`.trim();
  const repeated = (one: string, between: string): string => (parallel ? `${one} (${between} ${one})*` : one);
  if (form.several === "list") return builder.rule("calls", tagged(`"[" ws ${repeated(call, `ws "," ws`)} ws "]"`));
  const between = text(form.between ?? "\n");
  if (form.several === "together") return builder.rule("calls", tagged(repeated(call, between)));
  return builder.rule("calls", repeated(builder.rule("one-call", tagged(call)), between));
}

function callMembers(form: JsonCalls, tool: Tool, parameters: string): string {
  const name = literal(tool.name);
  switch (form.members ?? "arguments") {
    case "named":
      return `${name} ws ":" ws ${parameters}`;
    case "tool_name": {
      const id = `(${literalText('"tool_call_id"')} ws ":" ws "\\"" [0-9]{1,3} "\\"" ws "," ws)?`;
      return `${id} ${literalText('"tool_name"')} ws ":" ws ${name} ws "," ws ${literalText('"parameters"')} ws ":" ws ${parameters}`;
    }
    default: {
      const key = literalText(`"${form.members ?? "arguments"}"`);
      return `${literalText('"name"')} ws ":" ws ${name} ws "," ws ${key} ws ":" ws ${parameters}`;
    }
  }
}

function text(value: string): string {
  return value === "" ? "" : literalText(value);
}
