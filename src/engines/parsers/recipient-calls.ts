import { literalText } from "../grammar/gbnf.ts";
import type { CallSyntax } from "./call-syntax.ts";
import { Unreadable } from "./input.ts";
import { copyArguments } from "./json-calls.ts";

const opener = ">>>";

/** Functionary 3.2: `>>>name`, a line break, the arguments; `>>>all` before text. The prompt has ended with `>>>`. */
export const recipientCalls: CallSyntax = {
  openers: [opener],
  bare: [""],
  preserved: [],
  // Python's prompt looks the same.
  triggers: [],
  *readCalls(input, answer, _opener, options) {
    const names = options.tools.map((tool) => tool.name);
    const line = yield* input.acceptAny([...names, "all"].map((name) => `${name}\n`));
    if (line === null) throw new Unreadable("to nobody");
    if (line !== "all\n") yield* copyArguments(input, answer, line.trimEnd());
  },
  addCalls(builder, tools, parallel) {
    const ways = tools.map((tool, index) => {
      const parameters = builder.schema(tool.parameters, `tool-${index}`);
      return builder.rule(`call-${index}`, `${literalText(`${tool.name}\n`)} ${parameters}`);
    });
    const call = builder.rule("any-call", ways.join(" | "));
    return builder.rule(
      "calls",
      `${literalText(opener)}? ${call}${parallel ? ` (${literalText(opener)} ${call})*` : ""}`,
    );
  },
};
