import type { Tool } from "../../core/chat.ts";
import { isObject, type JsonObject } from "../../core/json.ts";
import { literalText } from "../grammar/gbnf.ts";
import type { GrammarBuilder } from "../grammar/json-schema.ts";
import { addMembers } from "../grammar/members.ts";
import type { Answer } from "./answer.ts";
import type { CallSyntax } from "./call-syntax.ts";
import { type Input, type Reading, type Sink, Unreadable } from "./input.ts";
import { acceptAfterSpace } from "./json-calls.ts";
import { escapeJson } from "./json-copy.ts";
import { isName, readHead } from "./named-calls.ts";
import { parameterKind, toJson } from "./typed-value.ts";

const deepest = 50;

/**
 * MiniMax M3: elements all the way down, each tag behind `mark`: `<city>Paris</city>`, the members of an object as
 * elements in it, those of a list as `<item>`.
 */
export function nestedCalls(mark: string): CallSyntax {
  const tag = (text: string): string => `${mark}<${text}>`;
  const section = { open: tag("tool_call"), close: tag("/tool_call") };
  const open = `${mark}<invoke name="`;
  return {
    openers: [section.open, open],
    bare: [],
    preserved: [mark, "<tool_call>", "</tool_call>"],
    triggers: [section.open],
    *readCalls(input, answer, opener, options) {
      if (opener !== open) {
        yield* input.space();
        yield* input.expect(open);
      }
      do {
        yield* readCall(input, answer, mark, options.tools);
        input.mark();
      } while (yield* acceptAfterSpace(input, answer, [open]));
      yield* acceptAfterSpace(input, answer, [section.close]);
    },
    addCalls: (builder, tools, parallel) => addNestedCalls(builder, tools, { mark, parallel }),
  };
}

function* readCall(input: Input, answer: Answer, mark: string, tools: readonly Tool[]): Reading {
  const name = yield* readHead(input, '">');
  if (!isName(name)) throw new Unreadable(`${name} is no name`);
  answer.begin(name);
  const schema = tools.find((tool) => tool.name === name)?.parameters;
  yield* copyElements(input, (json) => answer.arguments(json), { mark, schema, close: "invoke", depth: 0 });
}

interface Place {
  readonly mark: string;
  readonly schema: JsonObject | undefined;
  /** The element that these stand in. */
  readonly close: string;
  readonly depth: number;
}

/** Elements up to the closing tag of the one that they stand in → an object, or a list of what are items. */
function* copyElements(input: Input, sink: Sink, place: Place): Reading {
  if (place.depth > deepest) throw new Unreadable("nested too deep");
  let list: boolean | null = null;
  for (;;) {
    yield* input.space();
    const key = yield* input.whole(readTag(input, place.mark));
    if (key === `/${place.close}`) break;
    const first = list === null;
    list ??= key === "item" && place.depth > 0;
    sink(first ? (list ? "[" : "{") : ", ");
    if (!list) sink(`"${escapeJson(key)}": `);
    yield* copyElement(input, sink, { ...place, close: key, schema: place.schema });
  }
  sink(list === null ? "{}" : list ? "]" : "}");
}

function* readTag(input: Input, mark: string): Reading<string> {
  yield* input.expect(`${mark}<`);
  const tag = yield* readHead(input, ">");
  if (/[<\n]/.test(tag)) throw new Unreadable(`${tag} is no tag`);
  return tag;
}

/** What stands in one element: elements, or text. */
function* copyElement(input: Input, sink: Sink, place: Place): Reading {
  const { mark, close, schema, depth } = place;
  const end = `${mark}</${close}>`;
  const inner = isObject(schema?.["properties"]) ? schema["properties"][close] : schema?.["items"];
  const kind = close === "item" ? "either" : parameterKind(schema, close);
  const isOpening = (yield* input.comesNext([end, `${mark}<`])) === `${mark}<`;
  if (kind !== "string" && isOpening) {
    return yield* copyElements(input, sink, {
      ...place,
      schema: isObject(inner) ? inner : undefined,
      depth: depth + 1,
    });
  }
  if (kind === "string") {
    sink('"');
    yield* readText(input, end, (part) => sink(escapeJson(part)));
    sink('"');
  } else {
    let text = "";
    yield* input.whole(readText(input, end, (part) => (text += part)));
    sink(toJson(text, kind));
  }
}

function* readText(input: Input, end: string, sink: Sink): Reading {
  if ((yield* input.until([end], sink)) === null) throw new Unreadable("an element without an end");
}

function addNestedCalls(
  builder: GrammarBuilder,
  tools: readonly Tool[],
  { mark, parallel }: { mark: string; parallel: boolean },
): string {
  const open = literalText(`${mark}<`);
  const ways = tools.map((tool, index) => {
    const head = literalText(`${mark}<invoke name="${tool.name}">`);
    // The closing tag repeats the key, which a rule for any key cannot: only those that the schema names are written.
    const named = { ...tool, parameters: { ...tool.parameters, additionalProperties: false } };
    const members = addMembers(builder, named, `tool-${index}`, {
      textEnd: mark,
      between: "",
      member: (key, { rule }) => `${open} ${key} ">" ${rule} ${literalText(`${mark}</`)} ${key} ">"`,
    });
    return builder.rule(`call-${index}`, `${head} ${members} ${literalText(`${mark}</invoke>\n`)}`);
  });
  const call = builder.rule("any-call", ways.join(" | "));
  const all = parallel ? `${call}+` : call;
  return builder.rule("calls", `${literalText(`${mark}<tool_call>\n`)} ${all} ${literalText(`${mark}</tool_call>`)}`);
}
