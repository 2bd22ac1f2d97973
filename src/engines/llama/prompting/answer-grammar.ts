import type { ChatRequest, CompletionRequest, ResponseFormat, Tool } from "../../../core/chat.ts";
import { ApiError } from "../../../core/errors.ts";
import { checkGrammar, GrammarError } from "../../grammar/gbnf-check.ts";
import { literalText } from "../../grammar/gbnf.ts";
import { GrammarBuilder, type GrammarOptions } from "../../grammar/json-schema.ts";
import { PatternError } from "../../grammar/regular-expression.ts";
import { patternRule } from "../../grammar/strings.ts";
import type { Family } from "../../parsers/family.ts";
import type { Grammar } from "../messages.ts";

/** What an answer is held to, and what of its schemas the grammar had to leave out. */
interface AnswerGrammar {
  readonly grammar: Grammar | null;
  readonly loosened: string[];
}

interface Made {
  readonly tools: readonly Tool[];
  /** Whether the prompt has opened the reasoning. */
  readonly opened: boolean;
  readonly family: Family;
}

/** Grammars of the last requests: those of one conversation all have the same tools. */
const built = new Map<string, Omit<Grammar, "reasoning"> | null>();
const mostBuilt = 16;

/** What is loosened is told of once for each grammar. Throws `ApiError`. */
export function buildGrammar(request: ChatRequest, made: Made): AnswerGrammar {
  const { responseFormat, toolChoice, parallelToolCalls } = request;
  const forced = forcedTools(request, made.tools);
  if (responseFormat.type === "text" && made.tools.length === 0) return { grammar: null, loosened: [] };
  const key = JSON.stringify([made.family.name, made.tools, responseFormat, toolChoice, parallelToolCalls]);
  const known = built.get(key);
  const fresh = known === undefined ? build(request, made, forced) : { rules: known, loosened: [] };
  built.delete(key);
  built.set(key, fresh.rules);
  for (const [oldest] of built) if (built.size > mostBuilt) built.delete(oldest);
  const reasoning = { ...made.family.reasoning, opened: made.opened };
  return { grammar: fresh.rules === null ? null : { ...fresh.rules, reasoning }, loosened: fresh.loosened };
}

interface Built {
  readonly rules: Omit<Grammar, "reasoning"> | null;
  readonly loosened: string[];
}

function build(request: ChatRequest, made: Made, forced: readonly Tool[] | null): Built {
  const format = request.responseFormat;
  if (forced === null && format.type === "text") return freeCalls(request, made);
  if (forced === null && format.type === "grammar" && made.tools.length === 0)
    return { rules: rawGrammar(format.grammar), loosened: [] };
  const { family, tools } = made;
  const builder = new GrammarBuilder(toolOptions(request));
  const ways: string[] = [];
  const calls = forced ?? tools;
  if (calls.length > 0) ways.push(family.addCalls(builder, calls, { parallel: request.parallelToolCalls }));
  if (forced === null) {
    builder.options = formatOptions(format);
    ways.push(`${family.textHead} ${format.type.startsWith("json") ? "ws " : ""}${addAnswer(builder, format)}`.trim());
  }
  const root = builder.rule("start", `${calls.length > 0 ? "ws " : ""}(${ways.join(" | ")})`);
  return { rules: { text: builder.text(root) }, loosened: [...builder.loosened] };
}

function addAnswer(builder: GrammarBuilder, format: ResponseFormat): string {
  switch (format.type) {
    case "json-schema":
      return builder.schema(format.schema, "answer");
    case "choice":
      return builder.rule("choice", format.choices.map(literalText).join(" | "));
    case "regex":
      return addPattern(builder, format.pattern);
    case "grammar":
      throw new ApiError("unsupported_parameter", "a grammar cannot be joined with tools; leave one of them out", {
        param: "grammar",
      });
    default:
      return "object";
  }
}

function addPattern(builder: GrammarBuilder, pattern: string): string {
  try {
    const rule = patternRule(builder, `^(?:${pattern})$`, "pattern");
    if (rule !== null) return rule;
  } catch (error) {
    if (!(error instanceof PatternError)) throw error;
    throw new ApiError("invalid_value", `the regular expression ${error.message}`, { param: "structured_outputs" });
  }
  throw new ApiError("invalid_value", "the regular expression finds no text at all", { param: "structured_outputs" });
}

/** The grammar of a text completion, which has neither tools nor reasoning. Throws `ApiError`. */
export function buildCompletionGrammar(request: CompletionRequest): AnswerGrammar {
  const { responseFormat: format } = request;
  if (format === undefined || format.type === "text") return { grammar: null, loosened: [] };
  if (format.type === "grammar") return { grammar: { ...rawGrammar(format.grammar), reasoning: null }, loosened: [] };
  const builder = new GrammarBuilder(formatOptions(format));
  const text = builder.text(addAnswer(builder, format));
  return { grammar: { text, reasoning: null }, loosened: [...builder.loosened] };
}

function rawGrammar(text: string): { text: string } {
  try {
    checkGrammar(text);
  } catch (error) {
    if (!(error instanceof GrammarError)) throw error;
    throw new ApiError("invalid_value", `the grammar cannot be read: ${error.message}`, { param: "grammar" });
  }
  return { text };
}

/** Calls that the model makes when it wants to: held to the tools' schemas from the text with which they begin. */
function freeCalls(request: ChatRequest, { family, tools }: Made): Built {
  const options = toolOptions(request);
  const builder = new GrammarBuilder(options);
  const once = !request.parallelToolCalls;
  try {
    const root = family.addCalls(builder, tools, { parallel: !once });
    const text = builder.text(root);
    return { rules: { text, triggers: family.triggers, once }, loosened: [...builder.loosened] };
  } catch (error) {
    // The model was not asked to call: a schema that no grammar can say keeps nobody from an answer.
    if (options.strict || !(error instanceof ApiError)) throw error;
    return { rules: null, loosened: [`the tools' schemas altogether (${error.message})`] };
  }
}

function toolOptions(request: ChatRequest): GrammarOptions {
  return { strict: request.tools.some((tool) => tool.strict === true), param: "tools", order: "any" };
}

/** OpenAI promises an answer's properties in the order of the schema. */
function formatOptions(format: ResponseFormat): GrammarOptions {
  const strict = format.type === "json-schema" && format.strict === true;
  return { strict, param: "response_format", order: "declared" };
}

/** The tools of which one must be called; null when the model may choose not to. */
function forcedTools(request: ChatRequest, tools: readonly Tool[]): readonly Tool[] | null {
  const { toolChoice } = request;
  if (toolChoice === "auto" || toolChoice === "none" || tools.length === 0) return null;
  if (toolChoice === "required") return tools;
  const named = tools.filter((tool) => tool.name === toolChoice.name);
  if (named.length === 0) {
    throw new ApiError("invalid_value", `tool_choice names ${toolChoice.name}, which is not among the tools`, {
      param: "tool_choice",
    });
  }
  return named;
}
