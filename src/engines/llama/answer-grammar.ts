import type { ChatRequest, Tool } from "../../core/chat.ts";
import { ApiError } from "../../core/errors.ts";
import { GrammarBuilder, type GrammarOptions } from "../grammar/json-schema.ts";
import type { Family } from "../parsers/family.ts";
import type { Grammar } from "./messages.ts";

/** What an answer is held to, and the schema keywords that the grammar had to leave out. Throws `ApiError`. */
export function buildGrammar(
  request: ChatRequest,
  made: { tools: readonly Tool[]; opened: boolean; family: Family },
): { grammar: Grammar | null; loosened: string[] } {
  const { tools, family } = made;
  const builder = new GrammarBuilder(grammarOptions(request));
  const format = request.responseFormat;
  const forced = forcedTools(request, tools);
  const ways: string[] = [];
  const calls = forced ?? (format.type === "text" ? [] : tools);
  if (calls.length > 0) {
    ways.push(family.addCalls(builder, calls, { parallel: request.parallelToolCalls }));
  }
  if (forced === null && format.type === "json") ways.push("object");
  if (forced === null && format.type === "json-schema") ways.push(builder.schema(format.schema, "answer"));
  const loosened = [...builder.loosened];
  if (ways.length === 0) return { grammar: null, loosened };
  const root = builder.rule("start", `ws (${ways.join(" | ")})`);
  return { grammar: { text: builder.text(root), reasoning: { ...family.reasoning, opened: made.opened } }, loosened };
}

function grammarOptions(request: ChatRequest): GrammarOptions {
  const format = request.responseFormat;
  if (format.type === "json-schema") return { strict: format.strict === true, param: "response_format" };
  return { strict: request.tools.some((tool) => tool.strict === true), param: "tools" };
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
