import type { Tool } from "../../core/chat.ts";
import { literalText } from "../grammar/gbnf.ts";
import type { GrammarBuilder } from "../grammar/json-schema.ts";
import type { Answer } from "./answer.ts";
import type { CallSyntax } from "./call-syntax.ts";
import { type Input, type Reading, Unreadable } from "./input.ts";
import { acceptAfterSpace, copyArguments } from "./json-calls.ts";

/** Calls whose name stands before their arguments: `open head headEnd {arguments} close`. */
export interface NamedCalls {
  /** Tags around all calls; models leave them out, or write the opening one in other ways (`variants`). */
  readonly section?: { readonly open: string; readonly close: string; readonly variants?: readonly string[] };
  readonly open: string;
  /** What parts the head from the arguments. */
  readonly headEnd: string;
  readonly close: string;
  /** The tool's name in a head, e.g. in `functions.name:0`. */
  readonly readName?: (head: string) => string;
  /** What a grammar writes for a head. */
  readonly writeHead?: (name: string) => string;
  /** The name stands on a line of its own after `headEnd`, and the arguments in a fence. */
  readonly lineName?: boolean;
  /** Only names of the tools make a call. */
  readonly knownOnly?: boolean;
  /** Between two calls. */
  readonly between?: string;
  /** Other control tokens in heads. */
  readonly tokens?: readonly string[];
}

const longestHead = 300;

/** The syntax of calls with a head before JSON. */
export function namedCalls(form: NamedCalls): CallSyntax {
  const { section } = form;
  const sections = section === undefined ? [] : [section.open, ...(section.variants ?? [])];
  const first = section === undefined ? form.open : section.open;
  return {
    openers: [...sections, form.open],
    bare: [],
    preserved: [...sections, section?.close ?? "", form.open, form.headEnd, form.close, ...(form.tokens ?? [])].filter(
      (text) => text.trim().length > 1,
    ),
    triggers: [first],
    *readCalls(input, answer, opener, options) {
      if (opener !== form.open) {
        yield* input.space();
        yield* input.expect(form.open);
      }
      const known = options.tools.map((tool) => tool.name);
      do {
        yield* readCall(input, answer, form, form.knownOnly === true ? known : null);
        input.mark();
      } while (yield* acceptAfterSpace(input, answer, [form.open]));
      if (section !== undefined) yield* acceptAfterSpace(input, answer, [section.close]);
    },
    addCalls: (builder, tools, parallel) => addNamedCalls(builder, tools, form, parallel),
  };
}

function* readCall(input: Input, answer: Answer, form: NamedCalls, known: readonly string[] | null): Reading {
  const head = yield* readHead(input, form.headEnd);
  let name = (form.readName?.(head) ?? head).trim();
  if (form.lineName === true && (yield* input.peek()) !== "{") name = (yield* readHead(input, "\n")).trim();
  if (!isName(name) || known?.includes(name) === false) throw new Unreadable(`${name} is no name`);
  yield* input.space();
  const fenced = (yield* input.acceptAny(["```json", "```"])) !== null;
  yield* input.space();
  if (form.close !== "" && (yield* input.comesNext([form.close])) !== null) answer.begin(name, "{}");
  else yield* copyArguments(input, answer, name);
  if (fenced) yield* acceptAfterSpace(input, answer, ["```"]);
  if (form.close !== "") yield* acceptAfterSpace(input, answer, [form.close]);
}

/** Whether a text can be the name of a tool. */
export function isName(text: string): boolean {
  return /^[\p{L}\p{N}_.:/@$-]+$/u.test(text);
}

/** Text up to `end`, which is consumed too. Throws `Unreadable` when it is long or never comes. */
export function* readHead(input: Input, end: string): Reading<string> {
  let head = "";
  const found = yield* input.until([end], (text) => {
    head += text;
    if (head.length > longestHead) throw new Unreadable("a head without an end");
  });
  if (found === null) throw new Unreadable("a head without an end");
  return head;
}

function addNamedCalls(builder: GrammarBuilder, tools: readonly Tool[], form: NamedCalls, parallel: boolean): string {
  const { section } = form;
  const ways = tools.map((tool, index) => {
    const parameters = builder.schema(tool.parameters, `tool-${index}`);
    const name = form.writeHead?.(tool.name) ?? tool.name;
    const head = form.lineName === true ? `function${form.headEnd}${name}\n\`\`\`json\n` : name + form.headEnd;
    const tail = (form.lineName === true ? "\n```" : "") + form.close;
    const body = `${literalText(form.open + head)} ${parameters} ${tail === "" ? "" : literalText(tail)}`;
    return builder.rule(`call-${index}`, body.trim());
  });
  const call = builder.rule("any-call", ways.join(" | "));
  const between = form.between === undefined ? "" : literalText(form.between);
  const all = parallel ? `${call} (${between} ${call})*` : call;
  if (section === undefined) return builder.rule("calls", all);
  return builder.rule("calls", `${literalText(section.open)} ${all} ${literalText(section.close)}`);
}
