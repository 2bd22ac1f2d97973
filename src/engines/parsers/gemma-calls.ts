import type { Tool } from "../../core/chat.ts";
import { literalText } from "../grammar/gbnf.ts";
import type { GrammarBuilder } from "../grammar/json-schema.ts";
import { addMembers } from "../grammar/members.ts";
import type { CallSyntax } from "./call-syntax.ts";
import { Unreadable } from "./input.ts";
import { acceptAfterSpace } from "./json-calls.ts";
import { copyValue, quotedBy } from "./json-copy.ts";

interface GemmaCalls {
  readonly open: string;
  readonly close: string;
  /** What strings stand between. */
  readonly quote: string;
}

/** Gemma since FunctionGemma and Gemma 4: `call:name{key:<|"|>text<|"|>,other:1}` between tags. */
export function gemmaCalls(form: GemmaCalls): CallSyntax {
  const notation = quotedBy(form.quote);
  return {
    openers: [form.open],
    bare: [],
    preserved: [form.open, form.close, form.quote],
    triggers: [form.open],
    *readCalls(input, answer) {
      yield* input.space();
      yield* input.expect("call:");
      const name = yield* input.all(/[^\s{}<]+/y, 200);
      yield* input.space();
      if (name === "" || (yield* input.peek()) !== "{") throw new Unreadable("a call without a name");
      answer.begin(name);
      yield* copyValue(input, (json) => answer.arguments(json), notation);
      yield* acceptAfterSpace(input, answer, [form.close]);
    },
    addCalls: (builder, tools, parallel) => addGemmaCalls(builder, tools, { form, parallel }),
  };
}

function addGemmaCalls(
  builder: GrammarBuilder,
  tools: readonly Tool[],
  { form, parallel }: { form: GemmaCalls; parallel: boolean },
): string {
  const quote = literalText(form.quote);
  const ways = tools.map((tool, index) => {
    const members = addMembers(builder, tool, `tool-${index}`, {
      textEnd: form.quote,
      between: ",",
      member: (key, { rule, isText }) => (isText ? `${key} ":" ${quote} ${rule} ${quote}` : `${key} ":" ${rule}`),
    });
    return builder.rule(`call-${index}`, `${literalText(`${form.open}call:${tool.name}{`)} ${members} "}"`);
  });
  const call = builder.rule("any-call", `(${ways.join(" | ")}) ${literalText(form.close)}`);
  return builder.rule("calls", parallel ? `${call} ${call}*` : call);
}
