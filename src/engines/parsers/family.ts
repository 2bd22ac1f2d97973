import type { Tool } from "../../core/chat.ts";
import type { GrammarBuilder } from "../grammar/json-schema.ts";
import type { CallSyntax } from "./call-syntax.ts";
import { type AnswerParser, createParser, type ParserOptions } from "./parser.ts";
import { type OutputSyntax, readOutput, type ReasoningTags, thinkTags } from "./reading.ts";

/** How one family of models writes reasoning and tool calls. */
export interface Family {
  readonly name: string;
  /** Whether a chat template comes from this family. */
  readonly matches: (template: string) => boolean;
  /** Control tokens that are part of the syntax. */
  readonly preserved: readonly string[];
  /** The tags around the reasoning that an answer may open with. */
  readonly reasoning: ReasoningTags;
  /** GBNF of what stands before an answer in text, after the reasoning. */
  readonly textHead: string;
  /** Texts with which calls begin when the model is free to choose. */
  readonly triggers: readonly string[];
  readonly createParser: (options: ParserOptions) => AnswerParser;
  /** Adds rules for the whole text of one call of one of the tools, or of any number; returns the rule's name. */
  readonly addCalls: (builder: GrammarBuilder, tools: readonly Tool[], options: { parallel: boolean }) => string;
}

/** What a family is made of. */
export interface FamilyDefinition {
  readonly name: string;
  readonly matches: (template: string) => boolean;
  readonly calls: CallSyntax;
  readonly reasoning?: ReasoningTags;
  readonly frames?: OutputSyntax["frames"];
  readonly textHead?: string;
}

/** What looks like a control token: tags are made of one and words, as `<｜DSML｜invoke name="` is. */
const controlToken = /<\|[^<>|]+\|>|<｜[^<>｜]+｜>|｜[^<>｜]+｜/g;

/** A family that opens with reasoning between tags and says text and calls after it. */
export function defineFamily(definition: FamilyDefinition): Family {
  const { name, matches, calls } = definition;
  const reasoning = definition.reasoning ?? thinkTags;
  const frames = definition.frames ?? [];
  const syntax: OutputSyntax = { reasoning, frames, ...calls };
  const texts = [reasoning.open, reasoning.close, ...calls.preserved, ...frames.flat()].filter((text) => text !== "");
  return {
    name,
    matches,
    preserved: [...new Set(texts.flatMap((text) => [text, ...(text.match(controlToken) ?? [])]))],
    reasoning,
    textHead: definition.textHead ?? "",
    triggers: calls.triggers,
    createParser: (options) => createParser(options, (input, answer) => readOutput(input, answer, options, syntax)),
    addCalls: (builder, tools, { parallel }) => calls.addCalls(builder, tools, parallel),
  };
}

/** Matches templates that hold all of the texts. */
export function has(...texts: readonly string[]): (template: string) => boolean {
  return (template) => texts.every((text) => template.includes(text));
}
