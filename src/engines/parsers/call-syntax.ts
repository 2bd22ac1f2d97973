import type { Tool } from "../../core/chat.ts";
import type { GrammarBuilder } from "../grammar/json-schema.ts";
import type { CallReading } from "./reading.ts";

/** One way to write calls, for reading them and for forcing them. */
export interface CallSyntax {
  readonly openers: readonly string[];
  /** Beginnings of an answer at which a call of a known tool may stand without an opener. */
  readonly bare: readonly string[];
  /** Texts of the syntax that may be control tokens of a vocabulary. */
  readonly preserved: readonly string[];
  /** Texts with which the calls that `addCalls` writes begin. */
  readonly triggers: readonly string[];
  readonly readCalls: CallReading;
  /** Adds rules for one call of one of the tools, or for any number of calls; returns the rule's name. */
  readonly addCalls: (builder: GrammarBuilder, tools: readonly Tool[], parallel: boolean) => string;
}

/** Reads what any of several syntaxes writes, by their openers; writes the first. */
export function anyOf(first: CallSyntax, ...others: readonly CallSyntax[]): CallSyntax {
  const all = [first, ...others];
  const of = (opener: string): CallSyntax => all.find((syntax) => syntax.openers.includes(opener)) ?? first;
  return {
    openers: [...new Set(all.flatMap((syntax) => syntax.openers))],
    bare: all.flatMap((syntax) => syntax.bare),
    preserved: all.flatMap((syntax) => syntax.preserved),
    triggers: first.triggers,
    readCalls: (input, answer, opener, options) => of(opener).readCalls(input, answer, opener, options),
    addCalls: first.addCalls,
  };
}
