import type { Tool } from "../../core/chat.ts";
import { literalText } from "../grammar/gbnf.ts";
import type { GrammarBuilder } from "../grammar/json-schema.ts";
import { addMembers } from "../grammar/members.ts";
import type { Answer } from "./answer.ts";
import type { CallSyntax } from "./call-syntax.ts";
import { type Input, type Reading, Unreadable } from "./input.ts";
import { acceptAfterSpace } from "./json-calls.ts";
import { copyValue, escapeJson, python } from "./json-copy.ts";

/** Calls as Python writes them: `[name(key='value', …), …]` between tags. */
export function pythonCalls(form: { readonly open: string; readonly close: string }): CallSyntax {
  return {
    openers: [form.open],
    bare: [],
    preserved: [form.open, form.close],
    triggers: [form.open],
    *readCalls(input, answer) {
      yield* input.space();
      const list = yield* input.accept("[");
      do {
        yield* input.space();
        yield* readPythonCall(input, answer, null);
        input.mark();
      } while (yield* acceptAfterSpace(input, answer, [","]));
      if (list) yield* acceptAfterSpace(input, answer, ["]"]);
      yield* acceptAfterSpace(input, answer, [form.close]);
    },
    addCalls: (builder, tools, parallel) => addPythonCalls(builder, tools, { form, parallel }),
  };
}

/** `name(key=value, …)`, or `name.call(…)` as Llama writes it; null for `known`: any name goes. */
export function* readPythonCall(input: Input, answer: Answer, known: readonly string[] | null): Reading {
  const full = yield* input.all(/[\w.-]+/y, 200);
  const name = full.endsWith(".call") && known?.includes(full) !== true ? full.slice(0, -".call".length) : full;
  if (name === "" || known?.includes(name) === false) throw new Unreadable("a call of no tool");
  yield* input.expect("(");
  answer.begin(name, "{");
  for (let parted = ""; ; parted = ", ") {
    yield* input.space();
    if (yield* input.accept(")")) break;
    const key = yield* input.whole(readKey(input));
    answer.arguments(`${parted}"${escapeJson(key)}": `);
    yield* copyValue(input, (json) => answer.arguments(json), python);
    yield* input.space();
    if (yield* input.accept(",")) continue;
    yield* input.expect(")");
    break;
  }
  answer.arguments("}");
}

function* readKey(input: Input): Reading<string> {
  const key = yield* input.all(/\w+/y, 200);
  yield* input.space();
  yield* input.expect("=");
  if (key === "") throw new Unreadable("an argument without a name");
  yield* input.space();
  return key;
}

function addPythonCalls(
  builder: GrammarBuilder,
  tools: readonly Tool[],
  { form, parallel }: { form: { open: string; close: string }; parallel: boolean },
): string {
  const ways = tools.map((tool, index) => {
    const members = addMembers(builder, tool, `tool-${index}`, {
      textEnd: null,
      between: ", ",
      member: (key, { rule }) => `${key} "=" ${rule}`,
    });
    return builder.rule(`call-${index}`, `${literalText(`${tool.name}(`)} ${members} ")"`);
  });
  const call = builder.rule("any-call", ways.join(" | "));
  const all = parallel ? `${call} (", " ${call})*` : call;
  return builder.rule("calls", `${literalText(`${form.open}[`)} ${all} ${literalText(`]${form.close}`)}`);
}
