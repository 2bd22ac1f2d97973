import type { Tool } from "../../core/chat.ts";
import { literal, literalText } from "./gbnf.ts";
import type { GrammarBuilder } from "./json-schema.ts";

/** How a family of models writes calls, for a grammar that forces them. */
export interface ToolSyntax {
  readonly before: string;
  readonly after: string;
  /** Between two calls. */
  readonly between: string;
  /** All calls in one JSON list, between one `before` and one `after`. */
  readonly list: boolean;
  readonly argumentsKey: "arguments" | "parameters";
}

/** Adds rules for one call of one of the tools, or for any number of calls; returns the rule's name. */
export function addToolCalls(
  builder: GrammarBuilder,
  tools: readonly Tool[],
  options: { syntax: ToolSyntax; parallel: boolean },
): string {
  const { syntax, parallel } = options;
  const ways = tools.map((tool, index) => {
    const parameters = builder.schema(tool.parameters, `tool-${index}`);
    const key = literalText(`"${syntax.argumentsKey}"`);
    return builder.rule(
      `call-${index}`,
      `"{" ws "\\"name\\"" ws ":" ws ${literal(tool.name)} ws "," ws ${key} ws ":" ws ${parameters} ws "}"`,
    );
  });
  const call = builder.rule("any-call", ways.join(" | "));
  const before = syntax.before === "" ? "" : literalText(syntax.before);
  const after = syntax.after === "" ? "" : literalText(syntax.after);
  const between = literalText(syntax.between);
  if (syntax.list) {
    const more = parallel ? `(${between} ${call})*` : "";
    return builder.rule("calls", `${before} "[" ${call} ${more} "]" ${after}`);
  }
  const one = builder.rule("one-call", `${before} ${call} ${after}`.trim());
  return builder.rule("calls", parallel ? `${one} (${between} ${one})*` : one);
}
