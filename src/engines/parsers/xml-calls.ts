import type { Tool } from "../../core/chat.ts";
import { literalText } from "../grammar/gbnf.ts";
import type { GrammarBuilder } from "../grammar/json-schema.ts";
import { addMembers } from "../grammar/members.ts";
import type { Answer } from "./answer.ts";
import type { CallSyntax } from "./call-syntax.ts";
import { type Input, type Reading, type Sink, Unreadable } from "./input.ts";
import { acceptAfterSpace } from "./json-calls.ts";
import { escapeJson } from "./json-copy.ts";
import { isName, readHead } from "./named-calls.ts";
import { type ParameterKind, parameterKind, toJson } from "./typed-value.ts";

/** Calls whose parameters are elements of their own: their values are written without quotes, strings as they are. */
export interface XmlCalls {
  /** Tags around all calls. */
  readonly section?: { readonly open: string; readonly close: string };
  /** `open name end`, then parameters, then `close`. An `end` of "": white space or a tag ends the name. */
  readonly call: Element;
  /** `open key end`, then the value, then `close`. */
  readonly parameter: Element & {
    /** Opens the value, after white space. */
    readonly valueOpen?: string;
    /** GBNF of what stands between the key and `end` where the value is text, and where it is JSON. */
    readonly attributes?: readonly [text: string, json: string];
  };
  /** A line break on either side of a value belongs to the syntax. */
  readonly lines?: boolean;
  /** GBNF of what a grammar writes between elements. */
  readonly newline: "" | `"\\n"` | `"\\n"?`;
  /** Values may stand in `<![CDATA[…]]>`. */
  readonly cdata?: boolean;
  /** Models leave out the section; then only the name of a tool makes a call. */
  readonly knownOnly?: boolean;
  /** Further control tokens, of which the texts above are made. */
  readonly tokens?: readonly string[];
}

interface Element {
  readonly open: string;
  readonly end: string;
  readonly close: string;
  /** GBNF of what stands between the name and `end`. */
  readonly more?: string;
}

/** The syntax of calls with an element for each parameter. */
export function xmlCalls(form: XmlCalls): CallSyntax {
  const { section, call, parameter } = form;
  const tags = [section?.open, section?.close, call.open, call.end, call.close, parameter.open, parameter.end];
  return {
    openers: section === undefined ? [call.open] : [section.open, call.open],
    bare: [],
    preserved: [...tags, parameter.valueOpen, parameter.close, ...(form.tokens ?? [])].filter(
      (tag) => tag !== undefined,
    ),
    triggers: [section?.open ?? call.open],
    *readCalls(input, answer, opener, options) {
      if (opener !== call.open) {
        yield* input.space();
        yield* input.expect(call.open);
      }
      const knownOnly = form.knownOnly === true && opener === call.open;
      do {
        yield* readCall(input, answer, form, { tools: options.tools, knownOnly });
        input.mark();
      } while (section !== undefined && (yield* acceptAfterSpace(input, answer, [call.open])));
      if (section !== undefined) yield* acceptAfterSpace(input, answer, [section.close]);
    },
    addCalls: (builder, tools, parallel) => addXmlCalls(builder, tools, { form, parallel }),
  };
}

function* readCall(
  input: Input,
  answer: Answer,
  form: XmlCalls,
  { tools, knownOnly }: { tools: readonly Tool[]; knownOnly: boolean },
): Reading {
  const { call, parameter, section } = form;
  const name = call.end === "" ? yield* input.all(/[^\s<]+/y, 300) : (yield* readElement(input, call.end)).name;
  const tool = tools.find((known) => known.name === name);
  if (!isName(name) || (knownOnly && tool === undefined)) throw new Unreadable(`${name} is no name`);
  const followers = [parameter.open, call.close, ...(section === undefined ? [] : [section.close])];
  if (!(yield* input.isFollowedBy(followers, call.end !== "")))
    throw new Unreadable("neither a parameter nor the end of a call");
  answer.begin(name, "{");
  for (let parted = ""; ; parted = ", ") {
    const space = yield* input.space();
    if ((yield* input.comesNext([parameter.open])) === null) {
      answer.arguments("}");
      // A call whose closing tag is missing ends where its section does, or the output.
      if (!(yield* input.accept(call.close))) answer.text(space);
      return;
    }
    const { key, kind } = yield* input.whole(readKey(input, form, tool));
    const prefix = `${parted}"${escapeJson(key)}": `;
    if (kind === "string") {
      answer.arguments(prefix);
      yield* copyText(input, form, followers, (json) => answer.arguments(json));
    } else answer.arguments(prefix + (yield* input.whole(readJson(input, form, kind, followers))));
  }
}

/** What stands before a value, and how that is written. */
function* readKey(
  input: Input,
  { parameter }: XmlCalls,
  tool: Tool | undefined,
): Reading<{ key: string; kind: ParameterKind }> {
  yield* input.expect(parameter.open);
  const { name: key, attributes } = yield* readElement(input, parameter.end);
  if (key === "" || /[<>\n]/.test(key)) throw new Unreadable(`${key} is no key`);
  if (parameter.valueOpen !== undefined) {
    yield* input.space();
    yield* input.expect(parameter.valueOpen);
  }
  return { key, kind: kindOf(attributes) ?? parameterKind(tool?.parameters, key) };
}

/** A name, and what stands between it and the end of the opening tag. */
function* readElement(input: Input, end: string): Reading<{ name: string; attributes: string }> {
  const head = yield* readHead(input, end);
  const quote = head.indexOf('"');
  if (quote < 0) return { name: head.trim(), attributes: "" };
  const attributes = head.slice(quote + 1);
  if (!/^(?:\s+\w+="[^"]*")*\s*$/.test(attributes)) throw new Unreadable("no attributes");
  return { name: head.slice(0, quote), attributes };
}

/** DeepSeek tells by `string="true"` what is text, Kimi K3 by `type="string"`. */
function kindOf(attributes: string): ParameterKind | null {
  if (/string="true"|type="string"/.test(attributes)) return "string";
  return /string="false"|type="/.test(attributes) ? "json" : null;
}

/** A value of text, as a JSON string while it comes. */
function* copyText(input: Input, form: XmlCalls, followers: readonly string[], sink: Sink): Reading {
  sink('"');
  if (form.cdata === true && (yield* input.accept(cdata.open))) {
    const end = yield* input.until([cdata.close], (text) => sink(escapeJson(text)));
    if (end === null) throw new Unreadable("a value without an end");
    yield* input.accept(form.parameter.close);
  } else yield* readText(input, form, followers, (text) => sink(escapeJson(text)));
  sink('"');
}

/** A value that may be more than text, as JSON. */
function* readJson(input: Input, form: XmlCalls, kind: ParameterKind, followers: readonly string[]): Reading<string> {
  let text = "";
  if (form.cdata === true && (yield* input.comesNext([cdata.open])) !== null) {
    yield* copyText(input, form, followers, (json) => (text += json));
    return text;
  }
  yield* readText(input, form, followers, (part) => (text += part));
  return toJson(text, kind);
}

const cdata = { open: "<![CDATA[", close: "]]>" };

/** Text up to the closing tag that is one: what follows it must go on with the call. */
function* readText(input: Input, form: XmlCalls, followers: readonly string[], sink: Sink): Reading {
  const { close } = form.parameter;
  if (form.lines === true) yield* input.accept("\n");
  // The line break before the closing tag waits until it is known to be that.
  let held = "";
  const give = (text: string): void => {
    const all = held + text;
    held = form.lines === true && all.endsWith("\n") ? "\n" : "";
    sink(all.slice(0, all.length - held.length));
  };
  for (;;) {
    if ((yield* input.until([close], give)) === null) {
      sink(held);
      throw new Unreadable("a value without an end");
    }
    if (yield* input.isFollowedBy(followers, true)) return;
    sink(held + close);
    held = "";
  }
}

function addXmlCalls(
  builder: GrammarBuilder,
  tools: readonly Tool[],
  { form, parallel }: { form: XmlCalls; parallel: boolean },
): string {
  const { section, call, parameter, newline } = form;
  const line = form.lines === true ? newline : "";
  const valueOpen = parameter.valueOpen === undefined ? "" : `${newline} ${literalText(parameter.valueOpen)}`;
  const [asText, asJson] = parameter.attributes ?? ["", ""];
  const ways = tools.map((tool, index) => {
    const members = addMembers(builder, tool, `tool-${index}`, {
      textEnd: parameter.close,
      between: "",
      member: (key, { rule, isText }) =>
        [
          `${literalText(parameter.open)} ${key} ${isText ? asText : asJson} ${literalText(parameter.end)} ${valueOpen}`,
          `${line} ${rule} ${line} ${literalText(parameter.close)} ${newline}`,
        ].join(" "),
    });
    const end = call.end === "" ? "" : literalText(call.end);
    const head = `${literalText(call.open + tool.name)} ${call.more ?? ""} ${end}`;
    return builder.rule(`call-${index}`, `${head} ${newline} ${members} ${literalText(call.close)}`);
  });
  const one = builder.rule("any-call", ways.join(" | "));
  const each = `${one} ${newline}`;
  if (section === undefined) return builder.rule("calls", parallel ? `${each} (${each})*` : one);
  const all = parallel ? `(${each})+` : each;
  return builder.rule("calls", `${literalText(section.open)} ${newline} ${all} ${literalText(section.close)}`);
}
