import { randomBytes } from "node:crypto";
import type { ChatRequest, Tool } from "../../../core/chat.ts";
import { detectFamily, findFamily, opensReasoning } from "../../parsers/families.ts";
import type { Family } from "../../parsers/family.ts";
import type { AnswerParser } from "../../parsers/parser.ts";
import { ChatTemplate, type RenderedPrompt } from "../../templates/chat-template.ts";
import { renderChatml } from "../../templates/chatml.ts";
import { ControlTexts, toPieces, withoutDividers } from "../../templates/control-texts.ts";
import { divideTexts } from "../../templates/divided-chat.ts";
import { withToolPrompt } from "../../templates/hermes-prompt.ts";
import { buildGrammar } from "./answer-grammar.ts";
import type { GenerateJob, LoadedModel } from "../messages.ts";
import { type RequestDefaults, toSampling } from "../settings.ts";

/** A chat ready for the worker, and the parser of what it will say. */
export interface PreparedChat {
  readonly job: GenerateJob;
  readonly parser: AnswerParser;
  /** Schema keywords that the grammar had to leave out. */
  readonly loosened: string[];
}

/** A chat template, and how the model that brings it writes. */
interface Format {
  /** null: ChatML. */
  readonly template: ChatTemplate | null;
  readonly family: Family;
  /** Divides control tokens in what the caller says, and in what the assistant said. */
  readonly controls: { readonly all: ControlTexts; readonly assistant: ControlTexts };
}

/** Turns chats into prompts as the loaded model wants them. */
export class Prompts {
  readonly #model: LoadedModel;
  readonly #settings: RequestDefaults;
  readonly #format: Format;
  /** For chats with tools, where the model brings a template of its own for them. */
  readonly #toolFormat: Format;
  /** What is amiss with the model's template; to be logged once. */
  readonly warning: string | null;

  constructor(model: LoadedModel, settings: RequestDefaults) {
    this.#model = model;
    this.#settings = settings;
    const opened = settings.useJinja === false ? null : openTemplate(model.template);
    this.warning = opened?.warning ?? null;
    this.#format = toFormat(opened?.template ?? null, model);
    const forTools = opened === null || model.toolTemplate === null ? null : openTemplate(model.toolTemplate).template;
    this.#toolFormat = forTools === null ? this.#format : toFormat(forTools, model);
  }

  /** Throws `ApiError` when the template refuses the messages or a schema cannot be expressed. */
  prepare(id: number, request: ChatRequest): PreparedChat {
    const tools = request.toolChoice === "none" ? [] : [...request.tools];
    const format = this.#formatFor(tools);
    const { text, continues } = this.#render(request, tools);
    // Told of tools in Hermes's words, a model answers in them.
    const family = tools.length > 0 && format.template?.toolPrompt === "hermes" ? detectFamily(null) : format.family;
    const opened = continues === null ? opensReasoning(family, text) : continues === "reasoning";
    const { grammar, loosened } = buildGrammar(request, { tools, opened, family });
    const newId = (): string => `call_${randomBytes(12).toString("hex")}`;
    return {
      job: {
        type: "generate",
        id,
        prompt: { pieces: toPieces(text) },
        param: "messages",
        sampling: toSampling(request, this.#settings),
        maxTokens: request.maxTokens ?? this.#settings.maxNewTokens ?? null,
        stop: [...request.stop],
        topLogprobs: request.topLogprobs ?? null,
        preserved: [...family.preserved],
        grammar,
        session: request.session ?? null,
        priority: request.priority,
      },
      parser: family.createParser({ tools, newId, opened }),
      loosened,
    };
  }

  /** The prompt of a chat as text, without the begin token that the tokenizer adds. Throws `ApiError`. */
  apply(request: ChatRequest): string {
    const tools = request.toolChoice === "none" ? [] : [...request.tools];
    return withoutDividers(this.#render(request, tools).text);
  }

  #formatFor(tools: readonly Tool[]): Format {
    return tools.length === 0 ? this.#format : this.#toolFormat;
  }

  #render(request: ChatRequest, callerTools: Tool[]): RenderedPrompt {
    const { template, controls } = this.#formatFor(callerTools);
    const texts = { messages: request.messages, tools: callerTools, variables: request.templateVariables };
    const { messages, tools, variables } = divideTexts(texts, controls.all, controls.assistant);
    if (template === null) return renderChatml(withToolPrompt(messages, tools));
    const { addsBos, bosText, eosText } = this.#model;
    const { reasoningEffort } = request;
    const prompt = template.render({ messages, tools, variables, reasoningEffort, bosText, eosText });
    // The tokenizer adds the begin token itself; templates often write it too.
    const doubled = addsBos && bosText !== "" && prompt.text.startsWith(bosText);
    return doubled ? { ...prompt, text: prompt.text.slice(bosText.length) } : prompt;
  }
}

function toFormat(template: ChatTemplate | null, model: LoadedModel): Format {
  const named = template?.toolPrompt === "deepseek-v3.1" ? findFamily("deepseek-v3.1") : undefined;
  const family = named ?? detectFamily(template?.source ?? null);
  const { open, close } = family.reasoning;
  // Templates look for the tags in what the assistant said, to cut its reasoning off.
  const inAnswers = model.controlTexts.filter((text) => text !== open.trim() && text !== close.trim());
  const all = new ControlTexts(model.controlTexts);
  return { template, family, controls: { all, assistant: new ControlTexts(inAnswers) } };
}

function openTemplate(source: string | null): { template: ChatTemplate | null; warning: string | null } {
  if (source === null) {
    return { template: null, warning: "the model brings no chat template: its prompts are written as ChatML" };
  }
  try {
    return { template: new ChatTemplate(source), warning: null };
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    return {
      template: null,
      warning: `the model's chat template cannot be read (${reason}): its prompts are written as ChatML`,
    };
  }
}
